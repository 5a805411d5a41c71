"""Results -> one HTML page that needs nothing beside itself: pictures are data URIs, there is no script and no link."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
from PIL import Image

from advrec.reports import page_tables, tables, trust
from advrec.reports.gallery import Example, example_images, perturbation, to_pixels
from advrec.reports.page_tables import Cell, Table
from advrec.reports.results import Results
from advrec.reports.tables import DASH, made_on
from advrec.reports.verdict import verdict

Pictures = Mapping[str, bytes]
"""SVG by variant: wide-light, wide-dark, narrow-light, narrow-dark."""

MOST_REASONS = 20
"""Entries of what was set aside that the page names one by one."""
LOSSLESS_UP_TO = 128
"""Side in pixels above which the page shows examples as JPEG; the lossless images stay in examples/."""


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
        quality=page_tables.quality_table(results),
        exposure=page_tables.exposure_table(results),
        recommendations=page_tables.recommendations_table(results),
        curves=_data_uris(curves),
        comparison=_data_uris(comparison),
        checks=page_tables.checks_table(results),
        checks_summary=trust.summary(results) if evaluation.checks else trust.OFF,
        checks_tuples=min(evaluation.checks, results.tuples),
        warnings=[trust.warning(model, check) for model, check in trust.failed(results)],
        success=[page_tables.success_table(results, model) for model in results.study.models],
        delivered=page_tables.delivered_tables(results),
        winners=page_tables.winners_table(results),
        examples=[_shown(results, example) for example in example_images(results, tables.strongest(results))],
        stopping=[attack.name for attack in evaluation.attacks if attack.stop != "never"],
        nested=[attack.name for attack in evaluation.attacks if attack.nested],
        transfers=[f"{name} is {made_on(results, name)}" for name in results.attacks if made_on(results, name)],
        cost=page_tables.cost_table(results),
        budget=page_tables.budget_table(results),
        catalog=page_tables.catalog_tables(results),
        recall=page_tables.recall_table(results),
        study_yaml=results.run.study.read_text(encoding="utf-8"),
        provenance=Table("Provenance", ["What", "Value"], [[Cell(k), Cell(v)] for k, v in flat(results.provenance)]),
        rank=results.rank,
        epsilon=f"{results.largest_epsilon:g}",
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
        reasons = [f"{key}: {reason}" for key, reason in sorted(results.set_aside.items())[:MOST_REASONS]]
        if len(results.set_aside) > MOST_REASONS:
            reasons.append(f"and {len(results.set_aside) - MOST_REASONS:,} more in set_aside.json")
        made.append(Banner(text, reasons if missing else [*reasons, *_gaps(results)]))
    return made


def _gaps(results: Results) -> list[str]:
    cells = tables.blocks(results)
    short = cells[cells["tuples_done"] < cells["tuples"]]
    return [
        f"{row['attack']} on {row['model']}: {row['tuples_done']:,} of {row['tuples']:,} tuples"
        for row in tables.records(short)
    ]


def flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted key, text) pairs, in its own order."""
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in flat(inner, f"{path}.{key}" if path else str(key))]
    return [(path, value if isinstance(value, str) else DASH if value is None else json.dumps(value))]


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
