"""Results -> one HTML page that needs nothing beside itself: pictures and files are data URIs, and
its script loads nothing.
"""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from PIL import Image

from advrec.reports.page import tables as page_tables
from advrec.reports.page.cells import Cell, Table
from advrec.reports.page.verdict import verdict
from advrec.reports.pictures.charts import Chart
from advrec.reports.pictures.gallery import SHOWN_NEIGHBOURS, Example, Injection, Place
from advrec.reports.pictures.images import perturbation, scaled, to_pixels
from advrec.reports.results import Results
from advrec.reports.tables import tables, trust
from advrec.reports.tables.against import Comparison
from advrec.reports.tables.tables import DASH, made_on

Pictures = Mapping[str, bytes]
"""SVG by variant: wide-light, wide-dark, narrow-light, narrow-dark."""

MOST_REASONS = 20
"""Reasons why something was set aside that the page names."""
LOSSLESS_UP_TO = 128
"""Side in pixels above which the page shows examples as JPEG; the lossless images stay in
examples/.
"""


THUMB = 96
"""Side in pixels of an image of the gallery at most."""


class Figure(NamedTuple):
    pictures: Pictures
    chart: Chart
    csv: str


class Map(NamedTuple):
    image: Image.Image
    csv: str


class Shown(NamedTuple):
    """Pictures of the page."""

    figures: Mapping[str, Figure]
    kept: Sequence[Example]
    examples: Sequence[Example]
    growing: Mapping[str, Sequence[Example]]
    """By model."""
    injections: Mapping[str, Injection]
    """By model."""
    map: Map | None


class Banner(NamedTuple):
    text: str
    details: Sequence[str]


def render(
    results: Results,
    made: Mapping[str, pd.DataFrame],
    shown: Shown,
    compared: Comparison | None = None,
) -> str:
    """The page as HTML text.

    Args:
        made: tables.all_tables, and `against` where there is a comparison.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("advrec.reports.page", "."),
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
        quality=page_tables.quality_table(results),
        exposure=page_tables.exposure_table(results),
        # an import knows the attacked articles alone
        chance=None if "imported" in results.provenance else tables.chance(results),
        recommendations_known=bool(len(results.recommendations)),
        recommendations=page_tables.recommendations_table(results),
        figures={name: _drawn(name, figure) for name, figure in shown.figures.items()},
        compared=compared,
        against=page_tables.against_table(results, compared.rows) if compared else None,
        defects=page_tables.defects_table(results, made["defects"])
        if len(made["defects"])
        else None,
        csvs={name: _uri(as_csv(table).encode(), "text/csv") for name, table in made.items()},
        published=bool(made["success"]["published_percent"].notna().any()),
        worst_case=page_tables.worst_case_table(results, made["worst_case"]),
        categories=[
            page_tables.categories_table(results, made["categories"], side)
            for side in ("attack", "target")
        ],
        growing=[
            _growing(results, model, examples)
            for model, examples in shown.growing.items()
            if len(examples) > 1
        ],
        injections=[_injected(injection) for injection in shown.injections.values()],
        gallery=[
            _group(list(group))
            for _, group in groupby(shown.kept, key=lambda example: example.tuple_id)
        ],
        filters=_filters(shown.kept),
        map=_jpeg_uri(shown.map.image) if shown.map else None,
        map_csv=_uri(shown.map.csv.encode(), "text/csv") if shown.map else None,
        checks=page_tables.checks_table(results),
        checks_summary=trust.summary(results) if evaluation.checks else trust.OFF,
        checks_tuples=min(evaluation.checks, results.tuples),
        warnings=[
            trust.warning(model, check)
            for model, check in (*trust.failed(results), *trust.undecided(results))
        ],
        imported="imported" in results.provenance,
        success=[page_tables.success_table(results, model) for model in results.study.models],
        delivered=page_tables.delivered_tables(results),
        winners=page_tables.winners_table(results),
        examples=[_shown(results, example) for example in shown.examples],
        stopping=[attack.name for attack in evaluation.attacks if attack.stop != "never"],
        last_iterate=[
            attack.name for attack in evaluation.attacks if re.fullmatch(r"pgd-\d+", attack.attack)
        ],
        categories_cut=page_tables.MOST_CATEGORIES
        if made["categories"]["category"].nunique() > page_tables.MOST_CATEGORIES
        else 0,
        nested=[attack.name for attack in evaluation.attacks if attack.nested],
        transfers=[
            f"{name} is {made_on(results, name)}"
            for name in results.attacks
            if made_on(results, name)
        ],
        cost=page_tables.cost_table(results),
        budget=page_tables.budget_table(results),
        catalog=page_tables.catalog_tables(results),
        recall=page_tables.recall_table(results),
        study_yaml=results.run.study.read_text(encoding="utf-8"),
        provenance=Table(
            "Provenance",
            ["What", "Value"],
            [[Cell(k), Cell(v)] for k, v in flat(results.provenance)],
        ),
        rank=results.rank,
        epsilon=f"{results.epsilon:g}",
        epsilons=", ".join(f"{epsilon:g}" for epsilon in evaluation.epsilons),
        catalog_notes=page_tables.catalog_notes(results),
        source=str(results.preparation.get("source", results.study.catalog.source)),
    )


def banners(results: Results) -> list[Banner]:
    """What a reader must know first: checks that failed, and what is not whole about this run."""
    total = len(results.blocks)
    made = []
    if alarm := trust.alarm(results):
        warnings = [trust.warning(model, check) for model, check in trust.failed(results)]
        made.append(Banner(alarm, warnings))
    if missing := results.count("missing"):
        text = f"Partial: {missing:,} of {total:,} blocks are missing. Every n below counts only what is done."
        made.append(Banner(text, _gaps(results)))
    if results.missing_check_blocks:
        text = f"Checks incomplete: {results.missing_check_blocks:,} of their blocks are missing; advrec evaluate computes them."
        made.append(Banner(text, []))
    if results.set_aside:
        blocks = results.count("set aside")
        others = len(results.set_aside) - blocks
        also = f" and {others:,} other {'entry' if others == 1 else 'entries'}" if others else ""
        text = f"Set aside: {blocks:,} of {total:,} blocks{also} were given up on and are in no number below."
        keys: dict[str, list[str]] = {}
        for key, reason in sorted(results.set_aside.items()):
            keys.setdefault(reason, []).append(key)
        reasons = [
            f"{of[0]}{f' and {len(of) - 1:,} more' if len(of) > 1 else ''}: {reason}"
            for reason, of in keys.items()
        ]
        if len(reasons) > MOST_REASONS:
            reasons = [
                *reasons[:MOST_REASONS],
                f"and {len(reasons) - MOST_REASONS:,} other reasons in set_aside.json",
            ]
        made.append(Banner(text, reasons if missing else [*reasons, *_gaps(results)]))
    return made


def _gaps(results: Results) -> list[str]:
    cells = tables.blocks(results)
    short = cells[cells["tuples_done"] < cells["tuples"]]
    return [
        f"{row['attack']} on {row['model']}: {row['tuples_done']:,} of {row['tuples']:,} tuples"
        for row in tables.records(short)
    ]


def as_csv(table: pd.DataFrame) -> str:
    """A table as it is written and downloaded."""
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text


def flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted key, text) pairs, in its own order."""
    if isinstance(value, dict):
        return [
            pair
            for key, inner in value.items()
            for pair in flat(inner, f"{path}.{key}" if path else str(key))
        ]
    return [
        (path, value if isinstance(value, str) else DASH if value is None else json.dumps(value))
    ]


class ShownExample(NamedTuple):
    title: str
    tiles: Sequence[tuple[str, str, str]]
    """(data URI, caption, alternative text)."""
    caption: str


def _shown(results: Results, example: Example) -> ShownExample:
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
    source = f" ({made_on(results, example.attack)})" if made_on(results, example.attack) else ""
    title = f"{example.attack}{source} on {example.model}, ε = {example.epsilon:g}, tuple {example.tuple_id}"
    caption = (
        f"{attacked} towards {target}: distance {example.clean_distance:.4f} → {example.adversarial_distance:.4f}, "
        f"rank {example.clean_rank:,} → {example.adversarial_rank:,}{_as_before(example)}"
    )
    return ShownExample(title, tiles, caption)


def _as_before(example: Example) -> str:
    """A nested attack keeps the image of a smaller budget that has solved its tuple."""
    return "; the image of a smaller budget" if example.inherited else ""


class ShownList(NamedTuple):
    title: str
    rows: Sequence[tuple[str, Sequence[tuple[str, str, str, str]]]]
    """A heading, and tiles: data URI, caption, alternative text, kind (query, attacked or plain).
    """


def _injected(injection: Injection) -> ShownList:
    example = injection.example
    query = (
        _thumb(example.target),
        "target",
        f"Target article {example.target_name} ({example.target_category})",
        "query",
    )
    rank = f"rank {example.adversarial_rank:,}"
    title = f"{example.model}: {example.attack}, ε = {example.epsilon:g}, tuple {example.tuple_id}, {rank}"
    gone = (
        f"; {rank} is beyond these {SHOWN_NEIGHBOURS}"
        if example.adversarial_rank > SHOWN_NEIGHBOURS
        else ""
    )
    rows = [("before", injection.before), (f"after{gone}", injection.after)]
    return ShownList(
        title, [(name, [query, *(_place(place) for place in places)]) for name, places in rows]
    )


def _place(place: Place) -> tuple[str, str, str, str]:
    what = "Attacked article" if place.attacked else "Neighbour"
    alt = f"{what} {place.name} ({place.category}), distance {place.distance:.4f}"
    return (
        _thumb(place.image),
        f"{place.distance:.4f}",
        alt,
        "attacked" if place.attacked else "plain",
    )


def _growing(results: Results, model: str, examples: Sequence[Example]) -> ShownList:
    first = examples[0]
    tiles = [(_thumb(first.clean), "ε = 0", f"Article {first.attack_name}, unchanged", "plain")]
    for each in examples:
        caption = f"ε = {each.epsilon:g}, rank {each.adversarial_rank:,}{_as_before(each)}"
        kind = "attacked" if each.adversarial_rank <= results.rank else "plain"
        tiles.append(
            (_thumb(each.adversarial), caption, f"The same at epsilon {each.epsilon:g}", kind)
        )
    tiles.append(
        (
            _thumb(first.target),
            "target",
            f"Target article {first.target_name} ({first.target_category})",
            "query",
        )
    )
    return ShownList(f"{model}: {first.attack}, tuple {first.tuple_id}", [("", tiles)])


class GalleryTile(NamedTuple):
    uri: str
    alt: str
    model: str
    attack: str
    epsilon: str
    rank: int


class GalleryGroup(NamedTuple):
    """All kept images of one tuple."""

    title: str
    category: str
    clean: str
    target: str
    tiles: Sequence[GalleryTile]


def _group(examples: Sequence[Example]) -> GalleryGroup:
    first = examples[0]
    title = f"Tuple {first.tuple_id}: {first.attack_name} ({first.attack_category}) towards {first.target_name} ({first.target_category})"
    tiles = [
        GalleryTile(
            _thumb(each.adversarial), f"{first.attack_name} after {each.attack} on {each.model}, epsilon {each.epsilon:g}",
            each.model, each.attack, f"{each.epsilon:g}", each.adversarial_rank,
        )
        for each in examples
    ]  # fmt: skip
    return GalleryGroup(
        title, first.attack_category, _thumb(first.clean), _thumb(first.target), tiles
    )


def _filters(kept: Sequence[Example]) -> dict[str, list[str]]:
    """What can be chosen, by the name of what is chosen."""
    chosen = {
        "category": sorted({example.attack_category for example in kept}),
        "model": list(dict.fromkeys(example.model for example in kept)),
        "attack": list(dict.fromkeys(example.attack for example in kept)),
        "epsilon": [f"{epsilon:g}" for epsilon in sorted({example.epsilon for example in kept})],
    }
    return {name: values for name, values in chosen.items() if len(values) > 1}


class DrawnFigure(NamedTuple):
    name: str
    uris: Mapping[str, str]
    """By variant."""
    alt: str
    caption: str
    csv: str


def _drawn(name: str, figure: Figure) -> DrawnFigure:
    csv = _uri(figure.csv.encode(), "text/csv")
    return DrawnFigure(
        name, _data_uris(figure.pictures), figure.chart.alt, figure.chart.caption, csv
    )


def _thumb(pixels: Any) -> str:
    """An image for one tile among many: at most THUMB pixels wide, as JPEG."""
    image = to_pixels(pixels)
    return _jpeg_uri(
        scaled(image, THUMB) if max(image.shape[:2]) > THUMB else Image.fromarray(image)
    )


def _jpeg_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return _uri(buffer.getvalue(), "image/jpeg")


def _image_uri(pixels: Any) -> str:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    form, kind = ("PNG", "png") if max(image.size) <= LOSSLESS_UP_TO else ("JPEG", "jpeg")
    image.save(buffer, format=form, quality=92)
    return _uri(buffer.getvalue(), f"image/{kind}")


def _data_uris(pictures: Pictures) -> dict[str, str]:
    return {
        variant.replace("-", "_"): _uri(svg, "image/svg+xml") for variant, svg in pictures.items()
    }


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
