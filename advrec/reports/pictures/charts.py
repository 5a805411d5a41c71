"""Charts of a report: each with its data, its words, and how it is drawn."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from advrec.reports.pictures import figures
from advrec.reports.pictures import knowledge as knowledge_figure
from advrec.reports.pictures import promotions as promotion_figures
from advrec.reports.pictures.canvas import Shape, level_ticks
from advrec.reports.pictures.figures import Tradeoff
from advrec.reports.results import Results
from advrec.reports.tables import distances, knowledge, promotions, quantities
from advrec.reports.tables.rows import is_lone
from advrec.reports.tables.success import headline, strongest
from advrec.spec.base import FLOAT

Tables = Mapping[str, pd.DataFrame]
"""Those of `all_tables`."""
ALWAYS = ("comparison", "success")
"""Charts that are there even without data."""


class Chart(NamedTuple):
    """A figure with its data and its words."""

    data: pd.DataFrame
    """The rows that it shows, for its CSV."""
    alt: str
    caption: str
    draw: Callable[[Shape], Figure]


def charts(results: Results, tables: Tables) -> dict[str, Chart]:
    """The charts of a report by the name of their files; a chart without data is absent."""
    every = {
        "comparison": comparison(results, tables),
        "success": success(results, tables),
        "convergence": convergence(results, tables),
        "knowledge": ladder(results, tables),
        "minimal": minimal(results, tables),
        "promotions": promoted(results),
        "articles": promoted_articles(results),
        "distances": distances_before_and_after(results, tables),
        "training": training(results, tables),
    }
    return {name: chart for name, chart in every.items() if len(chart.data) or name in ALWAYS}


def comparison(results: Results, tables: Tables) -> Chart:
    """Success of every attack on every model, and success against quality."""
    name, known = quantities.quality_of(results)
    axis = "clean accuracy" if name == "accuracy" else name
    good = "accurate" if name == "accuracy" else "true to its lists"
    bars, models = headline(results), list(results.study.models)
    where = f"at rank {results.rank}, ε = {results.shown(results.epsilon)}"
    measures = ("percent", "low_percent", "high_percent", "n")
    accuracy = tables["defense_comparison"][
        ["model", *(f"clean_accuracy_{measure}" for measure in measures)]
    ]
    if is_lone(results) or not known:
        return Chart(
            bars,
            f"Bars of the success of each attack {where}. The numbers stand in the table below.",
            f"Success {where}, with 95\u00a0% intervals.",
            lambda shape: figures.attacks(bars, models, where),
        )
    if name != "accuracy":
        columns = ["model", *(f"overlap_{measure}" for measure in measures[:3])]
        accuracy = pd.DataFrame([[model, *row] for model, row in known.items()], columns=columns)
    return Chart(
        bars.merge(accuracy, on="model", how="left"),
        f"Bars of the success of each attack on each model {where}. Points: success of the "
        f"strongest attack against {axis}, one point a model. "
        "The numbers stand in the tables below.",
        f"Success {where}. The points show the strongest attack on each model. "
        "Bars and points carry 95\u00a0% intervals; "
        f"a point at the bottom right is a model both {good} and hard to attack.",
        lambda shape: figures.comparison(bars, tradeoffs(results), models, where, axis, shape),
    )


def success(results: Results, tables: Tables) -> Chart:
    """Success at the headline's rank against the budget."""
    rows, rank, models = tables["success"], results.rank, list(results.study.models)
    return Chart(
        rows[rows["rank"] == rank],
        f"Curves of success at rank {rank} in percent against budget epsilon, "
        "one panel a model and one colour an attack. The numbers stand in the tables below.",
        f"Success at rank {rank}, with 95\u00a0% intervals.",
        lambda shape: figures.success_curves(
            rows, models, results.attacks, rank, shape, results.shown
        ),
    )


def convergence(results: Results, tables: Tables) -> Chart:
    """Success at rank 1 against gradient steps."""
    rows, models = tables["convergence"], list(results.study.models)
    where = f"at rank 1, ε = {results.shown(results.epsilon)}"
    return Chart(
        rows,
        f"Success {where} against gradient steps on a logarithmic axis, "
        "one panel a model and one colour an attack.",
        f"Success {where} within so many gradient steps on a tuple, "
        "with those at smaller budgets that a nested attack goes on from. "
        "A curve: an attack that leaves a tuple as soon as it stands at rank 1. "
        "A point: any other, at the most steps that it took for the image as it was computed. "
        "Attacks that stop and go through a delivery are left out.",
        lambda shape: figures.convergence(rows, models, results.attacks, where, shape),
    )


def ladder(results: Results, tables: Tables) -> Chart:
    """Success by what the adversary has, against queries."""
    rank = results.study.evaluation.aim
    rows = tables.get(knowledge.NAME, pd.DataFrame(columns=knowledge.COLUMNS))
    rows = rows[(rows["rank"] == rank) & (rows["epsilon"] == results.epsilon)]
    says = rows["made_on"].where(rows["knowledge"] == knowledge.NO_ACCESS, rows["attack"])
    asking = rows["queries"].gt(0)
    rows = rows.assign(label=rows["knowledge"] + (": " + says.astype(str)).where(~asking, ""))
    where = f"at rank {rank}, ε = {results.shown(results.epsilon)}"
    models = list(dict.fromkeys(rows["model"]))
    return Chart(
        rows,
        f"Success {where} against queries on a logarithmic axis, one panel a model and one colour "
        "for what the adversary has. The numbers stand in the tables below.",
        f"Success {where} by what the adversary has, with 95\u00a0% intervals. Points: attacks "
        "that ask the shop, for lists of ten or for distances. Lines across: those that ask "
        "nothing.",
        lambda shape: knowledge_figure.ladder(rows, models, rank, shape),
    )


def minimal(results: Results, tables: Tables) -> Chart:
    """The share of tuples that fall, against the budget."""
    rows, models = tables["minimal_curve"], list(results.study.models)
    ticks = level_ticks(rows["epsilon"].max()) if results.in_levels and len(rows) else None
    return Chart(
        rows,
        "Share of tuples whose smallest budget is epsilon or less, one panel a model and one "
        "colour an attack.",
        "Tuples that fall within a budget, in percent, with 95\u00a0% intervals: success at the "
        "rank that the attack aims at, at every budget. A stronger attack can only raise it.",
        lambda shape: figures.minimal(rows, models, results.attacks, shape, results.shown, ticks),
    )


def promoted(results: Results) -> Chart:
    """Exposure before audiences against the budget."""
    rows, rank = promotions.exposure(results), results.study.evaluation.aim
    rows = rows[(rows["articles"] == promotions.ALL) & (rows["delivery"] == FLOAT)]
    rows = rows[rows["rank"] == rank]
    models, attacks = (list(dict.fromkeys(rows[name])) for name in ("model", "attack"))
    return Chart(
        rows,
        f"Curves of HR@{rank} of attacked articles in percent against budget epsilon, one panel a "
        "model and one colour an attack. The numbers stand in the tables below.",
        f"HR@{rank}: the share of the audience that has an attacked article among its first "
        f"{rank}. Means over articles, with 95\u00a0% bootstrap intervals over them; dotted: "
        "before the attack.",
        lambda shape: promotion_figures.exposure(rows, models, attacks, rank, shape, results.shown),
    )


def promoted_articles(results: Results) -> Chart:
    """Exposure of each attacked article, by the strongest attack on each model."""
    rows, best = promotions.articles(results), promotions.strongest(results)
    rank = results.study.evaluation.aim
    titles = {
        model: f"{model}: {row['attack']}, ε = {results.shown(row['epsilon'])}"
        for model, row in best.items()
    }
    return Chart(
        rows,
        f"HR@{rank} of each attacked article before and after the strongest attack, one panel a "
        "model and one colour a kind of article.",
        f"HR@{rank} of each attacked article: a line from before to after, with a dot after the "
        "strongest attack."
        + " Cold: no purchase in training; head: the most bought fifth of the others; tail: the "
        "rest." * any(rows["kind"] != promotions.ALL),
        lambda shape: promotion_figures.articles(rows, list(best), titles, rank, shape),
    )


def distances_before_and_after(results: Results, tables: Tables) -> Chart:
    """Cosine distance to the target before and after the attack, with quantile lines."""
    rows, models = distances.pairs(results, strongest(results)), list(results.study.models)
    return Chart(
        rows,
        "Cosine distance to the target before the attack and after it, "
        "one dot a tuple and one panel a model, "
        "with the 10, 50 and 90 % quantile regression lines and the line of no change.",
        "Cosine distance to the target before and after the attack, "
        f"ε = {results.shown(results.epsilon)}, of the first {distances.DOTS} tuples at most. "
        "Lines: quantile regression.",
        lambda shape: figures.distances(rows, tables["quantile_lines"], models, shape),
    )


def training(results: Results, tables: Tables) -> Chart:
    """Validation accuracy of each epoch."""
    classified = "validation_clean_accuracy"
    trained = [model for model, epochs in results.history.items() if classified in epochs]
    rows = tables["training"][tables["training"]["model"].isin(trained)]
    return Chart(
        rows,
        "Validation accuracy in percent by epoch, clean and under the training's own attack, "
        "one panel a model.",
        "Validation accuracy of each epoch, clean and under the training's own attack; "
        "k: its steps, where they change.",
        lambda shape: figures.training(rows, trained, shape),
    )


def tradeoffs(results: Results) -> list[Tradeoff]:
    """The points of the models of which quality and success are known."""
    _, known = quantities.quality_of(results)
    best = strongest(results)
    return [
        Tradeoff(model, known[model], _value_and_interval(best[model]))
        for model in results.study.models
        if model in known and model in best
    ]


def _value_and_interval(row: Mapping[str, Any]) -> tuple[float, float, float]:
    return row["percent"], row["low_percent"], row["high_percent"]
