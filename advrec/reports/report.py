"""A run directory -> report/: the page, every table as CSV and LaTeX, every figure as PNG and SVG."""

from pathlib import Path

import pandas as pd
from PIL import Image

from advrec.catalog.dataset import Catalog
from advrec.errors import ConfigError
from advrec.reports.page import page
from advrec.reports.page.page import Pictures, Shown
from advrec.reports.pictures import catalog as catalog_pictures
from advrec.reports.pictures import figures, gallery
from advrec.reports.pictures import images as pictures
from advrec.reports.pictures.charts import Chart, charts
from advrec.reports.pictures.gallery import Injection
from advrec.reports.results import Results
from advrec.reports.tables import tables
from advrec.reports.tables.against import Comparison
from advrec.run.directory import Run
from advrec.run.files import write_atomically, write_text
from advrec.run.tables import is_embedded, read_embeddings

LONG_TABLE = 40
"""Rows above which a LaTeX table may break across pages."""


def write_report(
    results: Results, *, partial: bool = False, compared: Comparison | None = None
) -> Path:
    """Write report/ of a run directory and return report/index.html, which is written last.

    Args:
        results: what `advrec evaluate` has left, from `results.read`; blocks that were set aside
            may be absent.
        partial: also accept a run with missing blocks; the page then says so and every n is the
            true one.
        compared: this run beside another one.

    Raises:
        ConfigError: blocks are missing and `partial` is false.
        AdvrecError: the report cannot be written.
    """
    run, missing, total = results.run, results.count("missing"), len(results.blocks)
    if missing and not partial:
        raise ConfigError(
            f"{run.directory}: {missing} of {total} blocks are missing; "
            "run `advrec evaluate` to compute them, or pass --partial to report what is there"
        )
    made = tables.all_tables(results) | ({"against": compared.rows} if compared else {})
    for name, table in made.items():
        write_text(run.report / "tables" / f"{name}.csv", page.as_csv(table))
        write_text(run.report / "tables" / f"{name}.tex", _latex(table))
    drawn = {
        name: page.Figure(_figure(run, name, chart), chart, page.as_csv(chart.data))
        for name, chart in charts(results, made).items()
    }
    strongest, kept = tables.strongest(results), gallery.kept_examples(results)
    examples = gallery.example_images(kept, strongest, results.epsilon)
    shown = Shown(
        figures=drawn,
        kept=kept,
        examples=examples,
        growing=gallery.growing(kept, strongest),
        injections=gallery.injections(results, kept, strongest),
        map=_map(run, results),
    )
    pictures_made = _write_pictures(run, shown)
    for name in pictures_made:
        _write_svg(run.report / "figures" / f"{name}.png")
    index = run.report / "index.html"
    write_text(index, page.render(results, made, shown, compared))
    _remove_others(
        run.report / "tables", {f"{name}.{form}" for name in made for form in ("csv", "tex")}
    )
    names = {f"{name}.csv" for name in (*drawn, *(["map"] if shown.map else []))}
    names |= {f"{name}.{form}" for name in (*drawn, *pictures_made) for form in ("png", "svg")}
    _remove_others(run.report / "figures", names)
    return index


def _remove_others(directory: Path, names: set[str]) -> None:
    """Drop what an earlier report had and this one does not have."""
    for path in directory.iterdir():
        if path.name not in names:
            path.unlink()


def _figure(run: Run, name: str, chart: Chart) -> Pictures:
    """Save one figure and return the SVG of every variant that the page chooses from."""
    wide = chart.draw("wide")
    variants = {
        "wide-light": figures.rendered(wide, "svg"),
        "narrow-light": figures.rendered(chart.draw("narrow"), "svg"),
    }
    _write(run.report / "figures" / f"{name}.png", figures.rendered(wide, "png"))
    _write(run.report / "figures" / f"{name}.svg", variants["wide-light"])
    write_text(run.report / "figures" / f"{name}.csv", page.as_csv(chart.data))
    dark = {
        variant.replace("light", "dark"): figures.darkened(svg) for variant, svg in variants.items()
    }
    return variants | dark


def _map(run: Run, results: Results) -> page.Map | None:
    """The articles as the model without a defense sees them; none before they are embedded."""
    model = results.baseline
    if not run.images.exists() or not run.embedding_shard(model, 0).exists():
        return None
    catalog = Catalog(run)
    if (
        len(catalog) < 4
        or gallery.dimension(run, model) < 2
        or not is_embedded(run, model, len(catalog))
    ):
        return None
    ids = catalog_pictures.mapped(catalog, results.study.seed)
    places = catalog_pictures.layout(
        read_embeddings(run, model, gallery.dimension(run, model), ids), results.study.seed
    )
    names = {"article_id": ids, "name": [catalog.names[article] for article in ids]}
    csv = page.as_csv(pd.DataFrame(names | {"x": places[:, 0], "y": places[:, 1]}))
    write_text(run.report / "figures" / "map.csv", csv)
    made = catalog_pictures.map_image(catalog, ids, places, results.study.seed)
    pictures.save(run.report / "figures" / "map.png", made)
    return page.Map(made, csv)


def _write_pictures(run: Run, shown: Shown) -> set[str]:
    """PNG files of articles; returns their names, without .png."""
    names = {"map"} if shown.map else set()
    for model, examples in shown.growing.items():
        first = examples[0]
        tiles = [
            pictures.Tile(
                each.adversarial, [f"ε = {each.epsilon:g}", f"rank {each.adversarial_rank:,}"]
            )
            for each in examples
        ]
        query = pictures.Tile(first.clean, [first.attack_name, first.attack], pictures.PLAIN_FRAME)
        pictures.row_picture(run.report / "figures" / f"growing-{model}.png", query, tiles)
        names.add(f"growing-{model}")
    for model, injection in shown.injections.items():
        for name in ("before", "after"):
            _write_list(run.report / "figures" / f"{name}-{model}.png", injection, name)
            names.add(f"{name}-{model}")
    return names


def _write_svg(png: Path) -> None:
    with Image.open(png) as picture:
        _write(png.with_suffix(".svg"), pictures.as_svg(png.read_bytes(), picture.size))


def _write_list(path: Path, injection: Injection, name: str) -> None:
    places = injection.before if name == "before" else injection.after
    neighbours = [(pictures.to_pixels(place.image), place.name, place.distance) for place in places]
    attacked = next((number for number, place in enumerate(places) if place.attacked), None)
    pictures.neighbour_picture(
        path,
        (injection.example.target, injection.example.target_name),
        neighbours,
        attacked=attacked,
    )


def _latex(table: pd.DataFrame) -> str:
    """Needs the package booktabs, and longtable for long tables."""
    text: str = table.to_latex(
        index=False,
        escape=True,
        float_format="%.4g",
        na_rep="--",
        longtable=len(table) > LONG_TABLE,
    )
    return text


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
