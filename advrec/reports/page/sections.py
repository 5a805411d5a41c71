"""Sections of the page: one frozen value each, with all that the template shows in it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from advrec.reports.page import (
    appendix,
    comparison,
    equal,
    exposure,
    images,
    joined,
    lone,
    success,
    tiles,
    visible,
)
from advrec.reports.page import promotions as audiences
from advrec.reports.page.cells import Table, TextCell
from advrec.reports.page.tiles import ExampleFigure, GalleryGroup, Strip
from advrec.reports.pictures.catalog import CatalogMap
from advrec.reports.pictures.gallery import Example
from advrec.reports.results import Results
from advrec.reports.tables import checks, promotions, quantities, visibility
from advrec.reports.tables.against import Comparison
from advrec.reports.tables.rows import DASH, as_csv, has_defenses, is_lone, made_on


@dataclass(frozen=True, kw_only=True)
class Head:
    """The study in one line."""

    study: str
    tuples: int
    promoted: int
    """Articles before audiences."""
    split: str
    models: int
    attacks: int
    epsilons: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Defenses:
    """Models or defenses compared: success, quality and lists of each model."""

    title: str
    short: str
    """The title in the list of sections."""
    imported: bool
    """The rows are those of the published study."""
    transfers: Sequence[str]
    exposure: Table
    quality: Table | None
    is_judged: bool
    """An accuracy is known."""
    chance: tuple[float, float] | None
    recommendations: Table | None
    joined: Table | None
    changes: Table | None


@dataclass(frozen=True, kw_only=True)
class Against:
    """This run beside another one."""

    other: str
    notes: Sequence[str]
    tuples: Table | None
    promotions: Table | None


@dataclass(frozen=True, kw_only=True)
class Checks:
    """Checks of the evaluation; the table is absent where they are switched off."""

    summary: str
    tuples: int
    """Tuples that were attacked for them; 0 where there are none."""
    articles: int
    """Promoted articles, likewise."""
    table: Table | None
    warnings: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Success at each budget."""

    worst_case: Table
    too_small: str
    """Words on budgets that a shop cannot store; empty without any."""
    published: bool
    """Some of these numbers have a published one beside them."""
    defects: Table | None
    success: Sequence[Table]
    last_iterate: Sequence[str]
    """Attacks of which the last iterate counts."""
    winners: Table | None
    distinct: Table | None
    pairs: Table | None


@dataclass(frozen=True, kw_only=True)
class Categories:
    """Success by category: of the attacked article, then of the target."""

    tables: Sequence[Table]
    shown: int
    """Categories in a table where it does not hold all, or else 0."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Kept images: some of the strongest attacks, a growing budget, all of them."""

    epsilon: str
    figures: Sequence[ExampleFigure]
    growing: Sequence[Strip]
    visible: Sequence[Table]
    """The budget at which a rank is reached, against what is visible."""
    gallery: Sequence[GalleryGroup]
    filters: Mapping[str, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of the attacks, and whether they kept their budget."""

    cost: Table
    nested: Sequence[str]
    stopping: Sequence[str]
    budget: Table | None
    recall: Table | None


@dataclass(frozen=True, kw_only=True)
class CatalogPart:
    """The catalog, its preparation and its map."""

    source: str
    categories: Sequence[str]
    textures: Sequence[str]
    tables: Sequence[Table]
    notes: Sequence[str]
    map: str | None
    map_csv: str | None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The resolved study, and where the run comes from."""

    study: str
    provenance: Table


def head(results: Results) -> Head:
    """The study in one line."""
    evaluation = results.study.evaluation
    return Head(
        study=results.study.name,
        tuples=results.tuples if results.attacks else 0,
        promoted=evaluation.num_promoted if len(promotions.exposure(results)) else 0,
        split=evaluation.split,
        models=sum(spec.compared for spec in results.whole.models.values()),
        attacks=len(evaluation.attacks),
        epsilons=[results.shown(epsilon) for epsilon in evaluation.epsilons],
    )


def defenses(results: Results) -> Defenses:
    """Defenses compared."""
    imported = "imported" in results.provenance
    origins = {name: made_on(results, name) for name in results.attacks}
    lists = comparison.recommendations_table(results) if len(results.recommendations) else None
    accuracies = [metrics.get("clean_accuracy") for metrics in results.metrics.values()]
    title, short = _titles(results)
    return Defenses(
        title=title,
        short=short,
        imported=imported,
        transfers=[f"{name} is {origin}" for name, origin in origins.items() if origin],
        exposure=comparison.exposure_table(results),
        quality=lone.known_part(comparison.quality_table(results)),
        is_judged=any(accuracy is not None for accuracy in accuracies),
        # an import knows the attacked articles alone
        chance=None if imported else quantities.chance(results),
        recommendations=lists,
        joined=joined.joined_table(results),
        changes=comparison.changes_table(results),
    )


def _titles(results: Results) -> tuple[str, str]:
    """The heading of the section that compares models, and a word for it."""
    if not results.attacks:
        return "Lists without an attack", "Lists"
    if has_defenses(results):
        return "Defenses compared", "Defenses"
    if len(results.study.models) > 1:
        return "Models compared", "Models"
    return "Success of each attack", "Attacks"


def against(results: Results, compared: Comparison) -> Against:
    """This run beside another one."""
    return Against(
        other=compared.other,
        notes=compared.notes,
        tuples=success.against_table(results, compared.rows) if len(compared.rows) else None,
        promotions=audiences.against_table(results, compared.promotions),
    )


def examination(results: Results) -> Checks:
    """Checks of the evaluation."""
    evaluation = results.study.evaluation
    most, promoted = evaluation.checks, (results.blocks["part"] == "promotions").any()
    doubts = (*checks.failed(results), *checks.undecided(results))
    return Checks(
        summary=checks.summary(results) if most else checks.OFF,
        tuples=min(most, results.tuples) if results.attacks else 0,
        articles=min(most, evaluation.num_promoted) if promoted else 0,
        table=appendix.checks_table(results),
        warnings=[checks.warning(model, check) for model, check in doubts],
    )


def budget(results: Results, tables: Mapping[str, pd.DataFrame]) -> Budget:
    """Success at each budget; `tables` are those of all_tables."""
    attacks, defects = results.study.evaluation.attacks, tables["defects"]
    return Budget(
        worst_case=success.worst_case_table(results, tables["worst_case"]),
        too_small=exposure.small_budgets(results),
        published=bool(tables["success"]["published_percent"].notna().any()),
        defects=success.defects_table(results, defects) if len(defects) else None,
        success=[success.success_table(results, model) for model in results.study.models],
        last_iterate=[each.name for each in attacks if re.fullmatch(r"pgd-\d+", each.attack)],
        winners=success.winners_table(results),
        distinct=equal.distinct_table(results, tables["distinct"]),
        pairs=equal.pairs_table(results, tables["equal_pairs"]),
    )


def categories(results: Results, rows: pd.DataFrame) -> Categories | None:
    """Success by category; None without outcomes. `rows` are those of exposure.categories."""
    tables = [success.categories_table(results, rows, side) for side in ("attack", "target")]
    if not tables[0].rows:
        return None
    is_cut = rows["category"].nunique() > success.MOST_CATEGORIES
    return Categories(tables=tables, shown=success.MOST_CATEGORIES if is_cut else 0)


def examples(
    results: Results,
    chosen: Sequence[Example],
    growing: Mapping[str, Sequence[Example]],
    kept: Sequence[Example],
) -> Examples:
    """Kept images.

    Args:
        chosen: those of the strongest attacks.
        growing: one article at each budget, by model.
        kept: those of the gallery.
    """
    return Examples(
        epsilon=results.shown(results.epsilon),
        figures=[tiles.example_figure(results, example) for example in chosen],
        growing=[
            tiles.budget_strip(results, model, each)
            for model, each in growing.items()
            if len(each) > 1
        ],
        visible=visible.budget_tables(results),
        gallery=tiles.gallery(kept, visibility.visibility(results)),
        filters=tiles.filters(kept),
    )


def cost(results: Results) -> Cost:
    """Cost of the attacks, and whether they kept their budget."""
    attacks, kept = results.study.evaluation.attacks, appendix.budget_table(results)
    table = appendix.cost_table(results)
    return Cost(
        cost=(lone.known_part(table) or table) if is_lone(results) else table,
        nested=[attack.name for attack in attacks if attack.nested],
        stopping=[attack.name for attack in attacks if attack.stop != "never"],
        budget=kept if kept.rows else None,
        recall=appendix.recall_table(results) if results.index else None,
    )


def catalog(results: Results, catalog_map: CatalogMap | None) -> CatalogPart:
    """The catalog, its preparation and its map."""
    preparation = results.preparation
    return CatalogPart(
        source=str(preparation.get("source", results.study.catalog.source)),
        categories=preparation.get("categories", []),
        textures=preparation.get("textures", []),
        tables=appendix.catalog_tables(results),
        notes=appendix.catalog_notes(results),
        map=images.jpeg(catalog_map.image) if catalog_map else None,
        map_csv=images.csv(as_csv(catalog_map.places)) if catalog_map else None,
    )


def settings(results: Results) -> Settings:
    """The resolved study, and where the run comes from."""
    rows = [[TextCell(key), TextCell(value)] for key, value in flat(results.provenance)]
    return Settings(
        study=results.run.study.read_text(encoding="utf-8"),
        provenance=Table("Provenance", ["What", "Value"], rows),
    )


def flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted key, text) pairs, in its own order."""
    if isinstance(value, dict):
        return [
            pair
            for key, inner in value.items()
            for pair in flat(inner, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(value, str):
        return [(path, value)]
    return [(path, DASH if value is None else json.dumps(value))]
