"""Success against gradient steps, as a table."""

from typing import Any

import numpy as np
import pandas as pd

from advrec.evaluation.rates import SHARE, shares
from advrec.reports.results import Results

CONVERGENCE_COLUMNS = ["model", "attack", "epsilon", "rank", "gradient_steps", *SHARE]
POINTS = 40
"""Steps at which the convergence of an attack that stops is told."""


def convergence(results: Results) -> pd.DataFrame:
    """Success at rank 1 and the headline's budget against gradient steps.

    An attack that stops at rank 1 has a row at each of some numbers of steps. The row holds the
    share of tuples that were there with so many steps or fewer. The steps at smaller budgets, from
    which a nested attack goes on, count too.

    An attack that meets all budgets at once has one row, at the most steps that it took at all of
    them: an image may come from a larger budget or a smaller one.

    Any other attack has one row, at the most steps that it took: also one made on another model,
    or blind in a study with deliveries, for then it stops elsewhere. Steps of one that never stops
    are those of its image for float; one that stops and goes through a delivery has no row, for
    its rows hold only the sums.
    """
    parts = []
    for (_, attack), cell in results.outcomes.groupby(["model", "attack"], observed=True):
        spec = results.attack(str(attack))
        at = cell[cell["epsilon"] == results.epsilon]
        if at.empty or (spec.made_for and spec.stop != "never"):
            continue
        within = cell[cell["epsilon"] <= results.epsilon] if spec.nested else at
        within = cell if spec.all_budgets else within
        spent = (
            within.groupby("tuple_id")["gradient_steps"].sum().reindex(at["tuple_id"]).to_numpy()
        )
        won = at["adversarial_rank"].to_numpy() == 1
        spent = spent // (1 + len(spec.made_for))  # as many for each delivery
        stops_here = spec.stop == "rank-1" and not spec.sources and not results.deliveries
        stops_here &= not spec.all_budgets
        for steps in _marks(spent) if stops_here else [int(spent.max())]:
            hits = at[["model", "attack", "target_id"]].assign(
                won=won & (spent <= steps), gradient_steps=steps
            )
            parts.append(shares(hits, ["model", "attack", "gradient_steps"]))
    if not parts:
        return pd.DataFrame(columns=CONVERGENCE_COLUMNS)
    rows = pd.concat(parts, ignore_index=True).assign(epsilon=results.epsilon, rank=1)
    return results.in_study_order(rows, ["gradient_steps"])[CONVERGENCE_COLUMNS]


def _marks(spent: Any) -> list[int]:
    """At most POINTS numbers of steps, evenly among the quantiles, the largest included."""
    return sorted(
        {int(step) for step in np.quantile(spent, np.linspace(0.0, 1.0, POINTS), method="higher")}
    )
