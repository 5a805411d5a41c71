"""Results -> one HTML page that needs nothing beside itself: pictures are data URIs, there is no script and no link."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from PIL import Image

from advrec.reports import tables
from advrec.reports.gallery import Example, example_images, perturbation, to_pixels
from advrec.reports.results import Results
from advrec.reports.tables import DASH, span
from advrec.reports.verdict import number, verdict

Pictures = Mapping[str, bytes]
"""SVG by variant: wide-light, wide-dark, narrow-light, narrow-dark."""

LOSSLESS_UP_TO = 128
"""Side in pixels above which the page shows examples as JPEG; the lossless images stay in examples/."""
DEFENSES = {"none": "none", "at": "adversarial training (at)", "cat": "curriculum adversarial training (cat)"}
SHORT = {
    "clean_accuracy": "Clean accuracy",
    "adversarial_accuracy": "Accuracy under PGD-8",
    "top5_accuracy": "Top-5 accuracy",
    "adversarial_top5_accuracy": "Top-5 under PGD-8",
    "texture_top1_precision": "Texture precision",
    "adversarial_texture_top1_precision": "Texture under PGD-8",
    "unattacked": "No attack",
}


class Cell(NamedTuple):
    text: str
    below: str = ""
    """In small print: the interval and n."""


class Table(NamedTuple):
    """A table of the page; the first `heads` columns of each row are its headers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    heads: int = 1


class Banner(NamedTuple):
    text: str
    details: Sequence[str]


def render(results: Results, curves: Pictures, comparison: Pictures) -> str:
    """The page as HTML text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("advrec.reports", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    evaluation = results.study.evaluation
    return environment.get_template("page.html.j2").render(
        results=results,
        banners=banners(results),
        verdict=verdict(results),
        quality=quality_table(results),
        exposure=exposure_table(results),
        curves=_data_uris(curves),
        comparison=_data_uris(comparison),
        success=[success_table(results, model) for model in results.study.models],
        examples=[_shown(example) for example in example_images(results, tables.strongest(results))],
        cost=cost_table(results),
        budget=budget_table(results),
        catalog=catalog_tables(results),
        recall=recall_table(results),
        study_yaml=results.run.study.read_text(encoding="utf-8"),
        provenance=Table("Provenance", ["What", "Value"], [[Cell(k), Cell(v)] for k, v in flat(results.provenance)]),
        rank=results.rank,
        epsilon=f"{results.largest_epsilon:g}",
        epsilons=", ".join(f"{epsilon:g}" for epsilon in evaluation.epsilons),
        source=str(results.preparation.get("source", results.study.catalog.source)),
    )


def banners(results: Results) -> list[Banner]:
    """What is not whole about this run: missing blocks, blocks and images set aside."""
    total = len(results.blocks)
    made = []
    if missing := results.count("missing"):
        text = f"Partial: {missing:,} of {total:,} blocks are missing. Every n below counts only what is done."
        made.append(Banner(text, _gaps(results)))
    if results.set_aside:
        blocks = results.count("set aside")
        others = len(results.set_aside) - blocks
        also = f" and {others:,} other {'entry' if others == 1 else 'entries'}" if others else ""
        text = f"Set aside: {blocks:,} of {total:,} blocks{also} were given up on and are in no number below."
        reasons = [f"{key}: {reason}" for key, reason in sorted(results.set_aside.items())]
        made.append(Banner(text, reasons if missing else [*reasons, *_gaps(results)]))
    return made


def _gaps(results: Results) -> list[str]:
    cells = tables.blocks(results)
    short = cells[cells["tuples_done"] < cells["tuples"]]
    return [
        f"{row['attack']} on {row['model']}: {row['tuples_done']:,} of {row['tuples']:,} tuples"
        for row in tables.records(short)
    ]


def quality_table(results: Results) -> Table:
    """Recommendation quality, a row a model."""
    caption = "Quality of each model on the test split, clean and under PGD-8 at epsilon 0.03"
    return _comparison(results, list(tables.QUALITY), caption, "articles")


def exposure_table(results: Results) -> Table:
    """Success of every attack, a row a model."""
    caption = f"Success at rank {results.rank}, budget epsilon {results.largest_epsilon:g}"
    return _comparison(results, ["unattacked", *results.attacks], caption, "tuples")


def _comparison(results: Results, names: Sequence[str], caption: str, unit: str) -> Table:
    rows = tables.quantities(results)
    known = {(row["model"], row["quantity"]): row for row in tables.records(rows)}
    body = [
        [
            Cell(model, f"defense: {DEFENSES[spec.defense]}"),
            *(_measured(known.get((model, name)), unit) for name in names),
        ]
        for model, spec in results.study.models.items()
    ]
    return Table(
        f"{caption}; 95\u00a0% interval and n ({unit}) below each number",
        ["Model", *(SHORT.get(n, n) for n in names)],
        body,
    )


def success_table(results: Results, model: str) -> Table:
    """Success on one model: a row an attack and rank, a column a budget."""
    rows = tables.success(results)
    known = {(r["attack"], r["rank"], r["epsilon"]): r for r in tables.records(rows[rows["model"] == model])}
    epsilons = results.study.evaluation.epsilons
    body = []
    for attack in results.attacks:
        for rank in results.study.evaluation.ranks:
            cells = [known.get((attack, rank, epsilon)) for epsilon in epsilons]
            count = span([int(cell["n"]) for cell in cells if cell])
            body.append([Cell(attack), Cell(f"{rank:,}"), Cell(count), *(_interval(cell) for cell in cells)])
    columns = ["Attack", "Rank", "n", *(f"ε = {epsilon:g}" for epsilon in epsilons)]
    return Table(
        f"{model}: success in percent, with 95\u00a0% interval; n is the number of tuples", columns, body, heads=2
    )


def cost_table(results: Results) -> Table:
    body = []
    for row in tables.records(tables.cost(results)):
        steps, passes = f"{row['gradient_steps_per_row']:.1f}", f"{row['forward_passes_per_row']:.1f}"
        seconds, total = f"{row['seconds_per_row']:.3f}", f"{row['seconds']:,.0f}"
        texts = (row["model"], row["attack"], f"{row['n']:,}", steps, passes, seconds, total)
        body.append([Cell(text) for text in texts])
    columns = ["Model", "Attack", "n", "Gradient steps", "Forward passes", "Seconds", "Seconds in all"]
    return Table("Mean cost of a row (one tuple at one budget); n is the number of rows", columns, body, heads=2)


def budget_table(results: Results) -> Table:
    body = []
    for (model, attack), cell in tables.budget(results).groupby(["model", "attack"], sort=False):
        excess, overshoot = f"{cell['max_excess'].max():.1e}", f"{cell['max_raw_overshoot'].max():.4f}"
        kept = "yes" if cell["within_budget"].all() else "NO"
        texts = (str(model), str(attack), f"{cell['n'].sum():,}", excess, overshoot, kept)
        body.append([Cell(text) for text in texts])
    columns = ["Model", "Attack", "n", "Largest l∞ - ε", "Largest overshoot before projection", "Kept"]
    return Table("Is the budget kept? Worst of all rows and budgets, in pixels of [0, 1]", columns, body, heads=2)


def catalog_tables(results: Results) -> list[Table]:
    steps = [
        [Cell(str(row["step"])), Cell(f"{row['articles']:,}"), Cell(f"{row['removed']:,}")]
        for row in tables.records(tables.preparation(results))
    ]
    splits = [
        [Cell(str(row["split"])), Cell(f"{row['articles']:,}"), Cell(f"{row['percent']:.1f} %")]
        for row in tables.records(tables.splits(results))
    ]
    made = [
        Table("Preparation, step by step", ["Step", "Articles left", "Removed"], steps),
        Table("Splits", ["Split", "Articles", "Share"], splits),
    ]
    return [table for table in made if table.rows]


def recall_table(results: Results) -> Table:
    """Without an interval: the ten neighbours of a query are not independent, a binomial one would be too narrow."""
    columns = ["recall_at_10", "queries", "build_s", "m", "ef_construction", "ef_search"]
    rows = tables.records(tables.index_recall(results))
    body = [[Cell(str(row["model"])), *(Cell(_value(row[column])) for column in columns)] for row in rows]
    names = ["Model", "Recall at 10", "n (queries)", "Build (s)", "M", "efConstruction", "efSearch"]
    return Table("Index (HNSW): share of the exact ten nearest neighbours that it finds", names, body)


def flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted key, text) pairs, in its own order."""
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in flat(inner, f"{path}.{key}" if path else str(key))]
    return [(path, value if isinstance(value, str) else DASH if value is None else json.dumps(value))]


def _measured(row: Mapping[str, Any] | None, unit: str) -> Cell:
    if row is None:
        return Cell(DASH)
    n = int(row["n"])
    low, high = number(row["low_percent"], n), number(row["high_percent"], n)
    return Cell(f"{number(row['percent'], n)} %", f"{low} to {high}; n = {n:,}")


def _interval(row: Mapping[str, Any] | None) -> Cell:
    if row is None:
        return Cell(DASH)
    n = int(row["n"])
    return Cell(
        number(row["success_percent"], n), f"{number(row['low_percent'], n)} to {number(row['high_percent'], n)}"
    )


def _value(value: Any) -> str:
    if value is None or pd.isna(value):
        return DASH
    return f"{value:,}" if float(value).is_integer() else f"{value:.4g}"


class ShownExample(NamedTuple):
    title: str
    tiles: Sequence[tuple[str, str, str]]
    """(data URI, caption, alternative text)."""
    caption: str


def _shown(example: Example) -> ShownExample:
    attacked = f"{example.attack_name} ({example.attack_category})"
    target = f"{example.target_name} ({example.target_category})"
    change = perturbation(example.clean, example.adversarial)
    tiles = [
        (_image_uri(example.clean), "attack article", f"Attack article {attacked}, unchanged"),
        (_image_uri(change), "perturbation", "Perturbation, scaled to the full range"),
        (
            _image_uri(to_pixels(example.adversarial)),
            "adversarial",
            f"Attack article {attacked} after {example.attack}",
        ),
        (_image_uri(example.target), "target", f"Target article {target}"),
    ]
    title = f"{example.attack} on {example.model}, ε = {example.epsilon:g}, tuple {example.tuple_id}"
    caption = (
        f"{attacked} towards {target}: distance {example.clean_distance:.4f} → {example.adversarial_distance:.4f}, "
        f"rank {example.clean_rank:,} → {example.adversarial_rank:,}"
    )
    return ShownExample(title, tiles, caption)


def _image_uri(pixels: Any) -> str:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    form, kind = ("PNG", "png") if max(image.size) <= LOSSLESS_UP_TO else ("JPEG", "jpeg")
    image.save(buffer, format=form, quality=92)
    return _uri(buffer.getvalue(), f"image/{kind}")


def _data_uris(pictures: Pictures) -> dict[str, str]:
    return {variant.replace("-", "_"): _uri(svg, "image/svg+xml") for variant, svg in pictures.items()}


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
