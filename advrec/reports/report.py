"""The report of a run: the page, every table as CSV and LaTeX, every figure as PNG and SVG."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from advrec.errors import ConfigError
from advrec.reports.page import page
from advrec.reports.page.page import DrawnChart, Pictures, Variants
from advrec.reports.pictures import canvas, gallery
from advrec.reports.pictures import images as pictures
from advrec.reports.pictures.catalog import catalog_map
from advrec.reports.pictures.charts import Chart, charts
from advrec.reports.pictures.gallery import Example, Injection
from advrec.reports.results import Results
from advrec.reports.tables.against import Comparison
from advrec.reports.tables.every import all_tables
from advrec.reports.tables.rows import as_csv
from advrec.reports.tables.success import strongest
from advrec.run.directory import Run
from advrec.run.files import write_atomically, write_text

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
    tables = all_tables(results) | (compared.tables if compared else {})
    for name, table in tables.items():
        write_text(run.report / "tables" / f"{name}.csv", as_csv(table))
        write_text(run.report / "tables" / f"{name}.tex", _latex(results, table))
    drawn = {
        name: DrawnChart(chart, _draw(run, name, chart))
        for name, chart in charts(results, tables).items()
    }
    shown = _pictures(results, drawn)
    names = _write_pictures(run, shown)
    index = run.report / "index.html"
    write_text(index, page.render(results, tables, shown, compared))
    _remove_others(
        run.report / "tables", {f"{name}.{form}" for name in tables for form in ("csv", "tex")}
    )
    files = {f"{name}.csv" for name in (*drawn, *(["map"] if shown.map else []))}
    files |= {f"{name}.{form}" for name in (*drawn, *names) for form in ("png", "svg")}
    _remove_others(run.report / "figures", files)
    return index


def _pictures(results: Results, drawn: dict[str, DrawnChart]) -> Pictures:
    best, kept = strongest(results), gallery.kept_examples(results)
    return Pictures(
        charts=drawn,
        kept=kept,
        examples=gallery.example_images(kept, best, results.epsilon),
        growing=gallery.growing(kept, best),
        injections=gallery.injections(results, kept, best),
        map=catalog_map(results.run, results.baseline, results.study.seed),
    )


def _remove_others(directory: Path, names: set[str]) -> None:
    """Drop what an earlier report had and this one does not have."""
    for path in directory.iterdir():
        if path.name not in names:
            path.unlink()


def _draw(run: Run, name: str, chart: Chart) -> Variants:
    """Save one chart and return the SVG of every variant that the page chooses from."""
    wide = chart.draw("wide")
    light = {
        "wide-light": canvas.rendered(wide, "svg"),
        "narrow-light": canvas.rendered(chart.draw("narrow"), "svg"),
    }
    _write(run.report / "figures" / f"{name}.png", canvas.rendered(wide, "png"))
    _write(run.report / "figures" / f"{name}.svg", light["wide-light"])
    write_text(run.report / "figures" / f"{name}.csv", as_csv(chart.data))
    dark = {
        variant.replace("light", "dark"): canvas.darkened(svg) for variant, svg in light.items()
    }
    return light | dark


def _write_pictures(run: Run, shown: Pictures) -> list[str]:
    """Write pictures of articles as PNG and SVG; returns their names, without .png."""
    names = []
    if shown.map:
        write_text(run.report / "figures" / "map.csv", as_csv(shown.map.places))
        pictures.save(run.report / "figures" / "map.png", shown.map.image)
        names.append("map")
    for model, examples in shown.growing.items():
        _write_growing(run.report / "figures" / f"growing-{model}.png", examples)
        names.append(f"growing-{model}")
    for model, injection in shown.injections.items():
        for name in ("before", "after"):
            _write_list(run.report / "figures" / f"{name}-{model}.png", injection, name)
            names.append(f"{name}-{model}")
    for name in names:
        _write_svg(run.report / "figures" / f"{name}.png")
    return names


def _write_growing(path: Path, examples: Sequence[Example]) -> None:
    first = examples[0]
    tiles = [
        pictures.Tile(each.adversarial, [f"ε = {each.budget}", f"rank {each.adversarial_rank:,}"])
        for each in examples
    ]
    query = pictures.Tile(first.clean, [first.attack_name, first.attack], pictures.PLAIN_FRAME)
    pictures.row_picture(path, query, tiles)


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


def _latex(results: Results, table: pd.DataFrame) -> str:
    """A table as LaTeX; it needs the package booktabs, and longtable where it is long."""
    written = {
        name: table[name].map(results.shown)
        for name in ("epsilon", "success_epsilon")
        if name in table and results.in_levels
    }
    text: str = table.assign(**written).to_latex(
        index=False,
        escape=True,
        float_format="%.4g",
        na_rep="--",
        longtable=len(table) > LONG_TABLE,
    )
    return text


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
