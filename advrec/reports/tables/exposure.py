"""Results -> who is exposed, to what, and how fast: over all attacks together, by category, and by
gradient steps.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from advrec.evaluation.rates import SHARE, shares
from advrec.reports.results import Results
from advrec.run import schema
from advrec.run.tables import read_table

WORST_COLUMNS = ["model", "epsilon", "rank", "attacks", *SHARE]
CATEGORY_COLUMNS = ["model", "attack", "epsilon", "rank", "side", "category", *SHARE]
CONVERGENCE_COLUMNS = ["model", "attack", "epsilon", "rank", "gradient_steps", *SHARE]
DEFECT_COLUMNS = ["model", "attack", "epsilon", "tuple_id", "clean_distance", "adversarial_distance", "clean_rank", "adversarial_rank",
                  "rank", "n", "percent", "corrected_percent"]  # fmt: skip
POINTS = 40
"""Steps at which the convergence of an attack that stops is told."""


@lru_cache(maxsize=1)  # the verdict asks for it too
def worst_case(results: Results) -> pd.DataFrame:
    """One row a (model, epsilon): the share of tuples that at least one attack of the study brings
    to the headline's rank, of the tuples on which all attacks that were made on this model at this
    budget were tried.
    """
    if results.outcomes.empty:
        return pd.DataFrame(columns=WORST_COLUMNS)
    rows = results.outcomes.assign(won=results.outcomes["adversarial_rank"] <= results.rank)
    rows["attacks"] = rows.groupby(["model", "epsilon"], observed=True)["attack"].transform(
        "nunique"
    )
    each = rows.groupby(["model", "epsilon", "attacks", "tuple_id"], observed=True)
    tried = each.agg(
        target_id=("target_id", "first"), won=("won", "any"), tried=("attack", "size")
    ).reset_index()
    made = shares(
        tried[tried["tried"] == tried["attacks"]], ["model", "epsilon", "attacks"]
    ).assign(rank=results.rank)
    return results.in_model_order(made, ["epsilon"])[WORST_COLUMNS]


def categories(results: Results, strongest: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row a (model, side, category): success of the strongest attack on the model at the
    headline's rank and budget, by the category of the attacked article (side attack) or of its
    target (side target); those first whose interval begins highest.

    Args:
        strongest: tables.strongest.
    """
    names = read_table(results.run.catalog, schema.CATALOG)["category"].to_pandas()
    made = []
    for model, best in strongest.items():
        rows = results.outcomes
        cell = rows[
            (rows["model"] == model)
            & (rows["attack"] == best["attack"])
            & (rows["epsilon"] == results.epsilon)
        ]
        for side in ("attack", "target"):
            category = names.iloc[cell[f"{side}_id"].to_numpy()].to_numpy()
            hits = cell[["target_id"]].assign(
                category=category, won=cell["adversarial_rank"].to_numpy() <= results.rank
            )
            found = shares(hits, ["category"]).sort_values(
                ["low_percent", "n"], ascending=False, kind="stable"
            )
            made.append(
                found.assign(
                    model=model,
                    attack=best["attack"],
                    epsilon=results.epsilon,
                    rank=results.rank,
                    side=side,
                )
            )
    return (
        pd.concat(made, ignore_index=True)[CATEGORY_COLUMNS]
        if made
        else pd.DataFrame(columns=CATEGORY_COLUMNS)
    )


def convergence(results: Results) -> pd.DataFrame:
    """Success at rank 1 and the headline's budget against gradient steps. Of an attack that stops
    at rank 1 one row at each of some numbers of steps: the share of tuples that were there with so
    many or fewer, those of smaller budgets that a nested attack goes on from included. Of any
    other, one row: at the most steps that it took. Attacks that are made on another model, or that
    look at deliveries too, stop elsewhere.
    """
    made = []
    for (_, attack), cell in results.outcomes.groupby(["model", "attack"], observed=True):
        spec = results.attack(str(attack))
        at = cell[cell["epsilon"] == results.epsilon]
        if at.empty:
            continue
        within = cell[cell["epsilon"] <= results.epsilon] if spec.nested else at
        spent = (
            within.groupby("tuple_id")["gradient_steps"].sum().reindex(at["tuple_id"]).to_numpy()
        )
        won = at["adversarial_rank"].to_numpy() == 1
        stops_here = spec.stop == "rank-1" and spec.source is None and not results.deliveries
        for steps in _marks(spent) if stops_here else [int(spent.max())]:
            hits = at[["model", "attack", "target_id"]].assign(
                won=won & (spent <= steps), gradient_steps=steps
            )
            made.append(shares(hits, ["model", "attack", "gradient_steps"]))
    if not made:
        return pd.DataFrame(columns=CONVERGENCE_COLUMNS)
    rows = pd.concat(made, ignore_index=True).assign(epsilon=results.epsilon, rank=1)
    return results.in_study_order(rows, ["gradient_steps"])[CONVERGENCE_COLUMNS]


def defects(results: Results) -> pd.DataFrame:
    """One row a success that is known to be none (schema.IMPORTED): its outcome, and what its
    cell's success is with and without it.
    """
    rows = []
    for row in results.outcomes[results.outcomes["defect"]].to_dict("records"):
        same = results.outcomes
        cell = same[
            (same["model"] == row["model"])
            & (same["attack"] == row["attack"])
            & (same["epsilon"] == row["epsilon"])
        ]
        for rank in results.study.evaluation.ranks:
            won = cell["adversarial_rank"] <= rank
            shown = {"rank": rank, "n": len(cell), "percent": 100.0 * won.mean()}
            shown["corrected_percent"] = 100.0 * (won & ~cell["defect"]).mean()
            rows.append({str(key): value for key, value in row.items()} | shown)
    return pd.DataFrame(rows, columns=DEFECT_COLUMNS)


def _marks(spent: Any) -> list[int]:
    """At most POINTS numbers of steps, evenly among the quantiles, the largest included."""
    return sorted(
        {int(step) for step in np.quantile(spent, np.linspace(0.0, 1.0, POINTS), method="higher")}
    )
