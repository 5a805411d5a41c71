"""Smallest budgets, as minimal-K found them: by tuple, and as the share of tuples that fall."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from advrec.evaluation.rates import SHARE, shares
from advrec.reports.results import Results
from advrec.reports.tables.rows import records
from advrec.run.own_columns import MINIMAL

BUDGET_COLUMNS = ["model", "attack", "tuple_id", "target_id", *MINIMAL.names]
CURVE_COLUMNS = ["model", "attack", "epsilon", "rank", *SHARE]
POINTS = 60
"""Budgets at which a curve is told."""


class Median(NamedTuple):
    """The budget at which half of all tuples fall."""

    model: str
    attack: str
    rank: int
    epsilon: float
    """Infinite where fewer than half fall within the largest budget."""


def budgets(results: Results) -> pd.DataFrame:
    """One row a (model, attack, tuple) of the attacks minimal-K: BUDGET_COLUMNS.

    A tuple that did not fall has an infinite epsilon_high: it counts as above the largest budget.
    """
    rows = results.outcomes[results.outcomes["epsilon_high"].notna()]
    rows = rows[rows["epsilon"] == results.study.evaluation.epsilons[-1]]
    return results.in_study_order(rows, ["tuple_id"])[BUDGET_COLUMNS].reset_index(drop=True)


def curve(results: Results) -> pd.DataFrame:
    """One row a (model, attack, epsilon): the share of tuples that fall within epsilon, with its
    95 % interval. Told at no more than POINTS of the budgets that occur.
    """
    parts = []
    for (_, attack), rows in budgets(results).groupby(["model", "attack"], sort=False):
        for epsilon in points(rows["epsilon_high"], results.study.evaluation.epsilons[-1]):
            fallen = rows[["model", "attack", "target_id"]].assign(
                won=rows["epsilon_high"] <= epsilon
            )
            part = shares(fallen, ["model", "attack"])
            parts.append(part.assign(epsilon=epsilon, rank=results.attack(str(attack)).rank))
    if not parts:
        return pd.DataFrame(columns=CURVE_COLUMNS)
    return pd.concat(parts, ignore_index=True)[CURVE_COLUMNS]


def points(budgets: "pd.Series[float]", largest: float) -> list[float]:
    """Budgets at which a curve is told: 0, at most POINTS of those found, and the largest.

    Args:
        budgets: infinite where none was found.
    """
    found = budgets[np.isfinite(budgets)].to_numpy()
    steps = np.linspace(0.0, 1.0, POINTS)
    inside = np.quantile(found, steps, method="higher") if len(found) else found
    return [float(each) for each in np.unique([0.0, *inside, largest])]


def medians(results: Results) -> list[Median]:
    """The median of each model and attack: the smallest budget at which half of all tuples fall, to
    that attack or, at a budget of the study, to any other.
    """
    found = []
    for (model, attack), rows in budgets(results).groupby(["model", "attack"], sort=False):
        every = results.outcomes[results.outcomes["model"] == model]
        won = every[every["adversarial_rank"] <= results.attack(str(attack)).rank]
        others = rows["tuple_id"].map(won.groupby("tuple_id")["epsilon"].min())
        in_order = np.sort(np.fmin(rows["epsilon_high"].to_numpy(), others.to_numpy()))
        middle = float(in_order[math.ceil(len(in_order) / 2) - 1])
        found.append(Median(str(model), str(attack), results.attack(str(attack)).rank, middle))
    return found


def text(results: Results) -> list[str]:
    """Lines for a terminal: at some budgets of a curve, the percent that falls, with interval."""
    lines = []
    for (model, attack), rows in curve(results).groupby(["model", "attack"], sort=False):
        rank = rows["rank"].iloc[0]
        lines.append(f"{attack} on {model}, tuples that reach rank {rank}: {told(results, rows)}")
    return lines


def told(results: Results, rows: pd.DataFrame) -> str:
    """At some budgets of one curve the percent that falls, with its interval."""
    rising = [rows[rows["percent"] >= percent].head(1) for percent in (10, 25, 50, 75, 90)]
    shown = pd.concat([*rising, rows.tail(1)]).drop_duplicates("epsilon")
    return ", ".join(
        f"{row['percent']:.0f} % ({row['low_percent']:.0f} to {row['high_percent']:.0f}) "
        f"by {_found(results, row['epsilon'])}"
        for row in records(shown)
    )


def _found(results: Results, epsilon: float) -> str:
    return results.shown(epsilon) if results.in_levels else f"{epsilon:.2g}"
