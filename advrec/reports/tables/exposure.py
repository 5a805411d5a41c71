"""Exposure as tables: to all attacks together, and by category."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pandas as pd

from advrec.evaluation.rates import SHARE, shares
from advrec.reports.results import Results
from advrec.run import schema
from advrec.run.tables import read_table

WORST_COLUMNS = ["model", "epsilon", "rank", "attacks", *SHARE]
CATEGORY_COLUMNS = ["model", "attack", "epsilon", "rank", "side", "category", *SHARE]


@lru_cache(maxsize=1)  # the verdict asks for it too
def worst_case(results: Results) -> pd.DataFrame:
    """One row a (model, epsilon): share of tuples that any attack brings to the headline's rank.

    Only tuples count on which all attacks made on this model at this budget were tried.
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
    table = shares(
        tried[tried["tried"] == tried["attacks"]], ["model", "epsilon", "attacks"]
    ).assign(rank=results.rank)
    return results.in_model_order(table, ["epsilon"])[WORST_COLUMNS]


def categories(results: Results, strongest: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row a (model, side, category): success of the strongest attack on the model.

    Rank and budget are the headline's. The category is that of the attacked article (side attack)
    or of its target (side target). Those whose interval begins highest come first.

    Args:
        strongest: success.strongest.
    """
    names = read_table(results.run.catalog, schema.CATALOG)["category"].to_pandas()
    rows = results.outcomes
    parts = []
    for model, best in strongest.items() if names.any() else ():
        cell = rows[
            (rows["model"] == model)
            & (rows["attack"] == best["attack"])
            & (rows["epsilon"] == results.epsilon)
        ]
        for side in ("attack", "target"):
            hits = cell[["target_id"]].assign(
                category=names.iloc[cell[f"{side}_id"].to_numpy()].to_numpy(),
                won=cell["adversarial_rank"].to_numpy() <= results.rank,
            )
            by_category = shares(hits, ["category"]).sort_values(
                ["low_percent", "n"], ascending=False, kind="stable"
            )
            parts.append(by_category.assign(model=model, attack=best["attack"], side=side))
    if not parts:
        return pd.DataFrame(columns=CATEGORY_COLUMNS)
    table = pd.concat(parts, ignore_index=True).assign(epsilon=results.epsilon, rank=results.rank)
    return table[CATEGORY_COLUMNS]
