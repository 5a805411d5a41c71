"""Results -> the figures of a report: each with its data, its words, and how it is drawn."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from advrec.reports.pictures import figures
from advrec.reports.pictures.figures import Shape, Tradeoff
from advrec.reports.results import Results
from advrec.reports.tables import distances, tables


class Chart(NamedTuple):
    data: pd.DataFrame
    """What it shows, for its CSV."""
    alt: str
    caption: str
    draw: Callable[[Shape], Figure]


def charts(results: Results, made: Mapping[str, pd.DataFrame]) -> dict[str, Chart]:
    """By the name of its files; a figure that would show nothing is absent.

    Args:
        made: tables.all_tables.
    """
    models, attacks = list(results.study.models), results.attacks
    where, first = (f"at rank {rank}, ε = {results.epsilon:g}" for rank in (results.rank, 1))
    strongest, trained = tables.strongest(results), list(results.history)
    pairs, lines, success = (
        distances.pairs(results, strongest),
        made["quantile_lines"],
        made["success"],
    )
    known = made["defense_comparison"]
    accuracy = known[
        [
            "model",
            *(
                f"clean_accuracy_{column}"
                for column in ("percent", "low_percent", "high_percent", "n")
            ),
        ]
    ]
    drawn = {
        "comparison": Chart(
            tables.headline(results).merge(accuracy, on="model", how="left"),
            f"Bars of the success of each attack on each model {where}. Points: success of the strongest attack against clean accuracy, "
            "one point a model. The numbers stand in the tables below.",
            f"Success {where}. The points show the strongest attack on each model. Bars and points carry 95\u00a0% intervals; a point at "
            "the bottom right is a model both accurate and hard to attack.",
            lambda shape: figures.comparison(
                tables.headline(results), tradeoffs(results), models, where, shape
            ),
        ),
        "success": Chart(
            success[success["rank"] == results.rank],
            f"Curves of success at rank {results.rank} in percent against budget epsilon, one panel a model and one colour an attack. The "
            "numbers stand in the tables below.",
            f"Success at rank {results.rank}, with 95\u00a0% intervals.",
            lambda shape: figures.success_curves(success, models, attacks, results.rank, shape),
        ),
        "convergence": Chart(
            made["convergence"],
            f"Success {first} against gradient steps on a logarithmic axis, one panel a model and one colour an attack.",
            f"Success {first} within so many gradient steps on a tuple, with those at smaller budgets that a nested attack goes on from. "
            "A curve: an attack that leaves a tuple as soon as it stands at rank 1. A point: any other, at the most steps that it took.",
            lambda shape: figures.convergence(made["convergence"], models, attacks, first, shape),
        ),
        "distances": Chart(
            pairs,
            "Cosine distance to the target before the attack and after it, one dot a tuple and one panel a model, with the 10, 50 and 90 % "
            "quantile regression lines and the line of no change.",
            f"Cosine distance to the target before and after the attack, ε = {results.epsilon:g}, of the first {distances.SHOWN} tuples at "
            "most. Lines: quantile regression.",
            lambda shape: figures.distances(pairs, lines, models, shape),
        ),
        "training": Chart(
            made["training"],
            "Validation accuracy in percent by epoch, clean and under the training's own attack, one panel a model.",
            "Validation accuracy of each epoch, clean and under the training's own attack; k: its steps, where they change.",
            lambda shape: figures.training(made["training"], trained, shape),
        ),
    }
    return {
        name: chart
        for name, chart in drawn.items()
        if len(chart.data) or name in ("comparison", "success")
    }


def tradeoffs(results: Results) -> list[Tradeoff]:
    """A point a model of which accuracy and success are known."""
    rows = tables.records(tables.quantities(results))
    accuracy = {row["model"]: row for row in rows if row["quantity"] == "clean_accuracy"}
    best = tables.strongest(results)
    return [
        Tradeoff(model, _value_and_interval(accuracy[model]), _value_and_interval(best[model]))
        for model in results.study.models
        if model in accuracy and model in best
    ]


def _value_and_interval(row: Mapping[str, Any]) -> tuple[float, float, float]:
    return row["percent"], row["low_percent"], row["high_percent"]
