"""One HTML page that needs nothing beside itself.

Pictures and files are data URIs, and its script loads nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jinja2
import pandas as pd

from advrec.reports.page import (
    categories,
    door,
    hybrids,
    images,
    knowledge,
    promotions,
    sections,
    success,
    tiles,
)
from advrec.reports.page.banners import banners
from advrec.reports.page.lone import next_steps
from advrec.reports.page.verdict import verdict
from advrec.reports.pictures.catalog import CatalogMap
from advrec.reports.pictures.charts import Chart
from advrec.reports.pictures.gallery import Example, Injection
from advrec.reports.results import Results
from advrec.reports.tables import gates
from advrec.reports.tables.against import Comparison
from advrec.reports.tables.knowledge import NAME
from advrec.reports.tables.rows import as_csv, is_lone

Variants = Mapping[str, bytes]
"""SVG by variant: wide-light, wide-dark, narrow-light, narrow-dark."""


class DrawnChart(NamedTuple):
    """A chart with its files."""

    chart: Chart
    variants: Variants


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures of the page."""

    charts: Mapping[str, DrawnChart]
    kept: Sequence[Example]
    examples: Sequence[Example]
    growing: Mapping[str, Sequence[Example]]
    """One article at each budget, by model."""
    injections: Mapping[str, Injection]
    """A target's list before and after the attack, by model."""
    map: CatalogMap | None


class Figure(NamedTuple):
    """A chart as the template shows it."""

    name: str
    uris: Mapping[str, str]
    """Data URI by variant."""
    alt: str
    caption: str
    csv: str


def render(
    results: Results,
    tables: Mapping[str, pd.DataFrame],
    pictures: Pictures,
    compared: Comparison | None = None,
) -> str:
    """The page as HTML text.

    Args:
        tables: all_tables, and those of a comparison where there is one.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("advrec.reports.page", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        rank=results.rank,
        baseline=results.baseline,
        csvs={name: images.csv(as_csv(table)) for name, table in tables.items()},
        figures={name: _figure(name, drawn) for name, drawn in pictures.charts.items()},
        head=sections.head(results),
        banners=banners(results),
        verdict=[*verdict(results), *next_steps(results)],
        lone=is_lone(results),
        gates=gates.judge(results),
        defenses=sections.defenses(results),
        against=sections.against(results, compared) if compared else None,
        checks=sections.examination(results),
        budget=sections.budget(results, tables),
        on_tuples=bool(results.attacks),
        promotions=promotions.section(results),
        swapped=categories.section(results),
        knowledge=knowledge.tables(results, tables[NAME]) if NAME in tables else [],
        utility=hybrids.utility_table(results),
        feature_attacks=hybrids.attacks_table(results),
        delivered=success.delivered_tables(results),
        delivered_notes=success.delivered_notes(results),
        door=door.door_table(results),
        categories=sections.categories(results, tables["categories"]),
        injections=[tiles.injection_strip(each) for each in pictures.injections.values()],
        examples=sections.examples(results, pictures.examples, pictures.growing, pictures.kept),
        cost=sections.cost(results),
        catalog=sections.catalog(results, pictures.map),
        settings=sections.settings(results),
    )


def _figure(name: str, drawn: DrawnChart) -> Figure:
    chart, variants = drawn
    return Figure(
        name=name,
        uris={
            variant.replace("-", "_"): images.uri(svg, "image/svg+xml")
            for variant, svg in variants.items()
        },
        alt=chart.alt,
        caption=chart.caption,
        csv=images.csv(as_csv(chart.data)),
    )
