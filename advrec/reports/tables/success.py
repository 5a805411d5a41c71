"""Success of attacks as tables: one row a cell, percentages in 0..100 with n and 95 % interval."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pandas as pd

from advrec.evaluation.rates import CELL, SHARE, shares
from advrec.reports.results import Results
from advrec.reports.tables.rows import records
from advrec.run import schema
from advrec.spec.attacks import ENSEMBLES
from advrec.spec.base import FLOAT

DELIVERED_COLUMNS = [*CELL, "rank", "delivery", "seen", *SHARE, "clean_percent"]
WINNER_COLUMNS = [*CELL, "winner", *SHARE]
DEFECT_COLUMNS = [
    *("model", "attack", "epsilon", "tuple_id", "clean_distance", "adversarial_distance"),
    *("clean_rank", "adversarial_rank", "rank", "n", "percent", "corrected_percent"),
]


def headline(results: Results, epsilon: float | None = None) -> pd.DataFrame:
    """Rows of `results.success` at the headline's rank and budget, or at another budget: one a
    (model, attack).
    """
    rows, budget = results.success, results.epsilon if epsilon is None else epsilon
    chosen = (rows["rank"] == results.rank) & (rows["epsilon"] == budget)
    return rows[chosen].reset_index(drop=True)


def strongest(results: Results, epsilon: float | None = None) -> dict[str, dict[str, Any]]:
    """The row of `headline` with the highest success, by model; or that at another budget.

    Of equal ones it is the last that the study lists. A model without outcomes is absent. Attacks
    that aim at another rank than the headline's count only where there is no other.
    """
    best: dict[str, dict[str, Any]] = {}
    rows = records(headline(results, epsilon))
    aimed = [row for row in rows if results.attack(row["attack"]).aims_at(results.rank)]
    models = {row["model"] for row in aimed}
    for row in [*aimed, *(row for row in rows if row["model"] not in models)]:
        if row["model"] not in best or row["percent"] >= best[row["model"]]["percent"]:
            best[row["model"]] = row
    return best


@lru_cache(maxsize=1)  # the verdict asks for it of every model
def delivered(results: Results) -> pd.DataFrame:
    """One row a (model, attack, epsilon, delivery): success at the headline's rank.

    float is the image as it was computed; any other delivery is the image as it comes back from
    it: the one that the attack made for it where it has `seen` it, else the one made for float.
    `clean_percent` is the same share of the unchanged images, after the same delivery. Empty
    where the study has no delivery but float, or attacks no tuple.
    """
    columns = {FLOAT: ("adversarial_rank", "clean_rank")} | {
        delivery: (schema.delivered(delivery)[1], schema.suffixed("clean_rank", delivery))
        for delivery in results.deliveries
    }
    if not results.deliveries or results.outcomes.empty:
        return pd.DataFrame(columns=DELIVERED_COLUMNS)
    parts = []
    for delivery, (column, baseline) in columns.items():
        known = results.outcomes[results.outcomes[column].notna()]
        unchanged = (known[baseline] <= results.rank).where(known[baseline].notna())
        clean = 100.0 * unchanged.astype(float).groupby([known[key] for key in CELL]).mean()
        hits = known[[*CELL, "target_id"]].assign(won=known[column] <= results.rank)
        seen = [
            spec.name
            for spec in results.study.evaluation.attacks
            if delivery in (FLOAT, *spec.made_for)
        ]
        part = shares(hits, CELL).assign(delivery=delivery)
        part = part.merge(clean.rename("clean_percent").reset_index(), on=CELL, how="left")
        parts.append(part.assign(seen=part["attack"].isin(seen)))
    table = pd.concat(parts).assign(rank=results.rank)
    return results.in_study_order(table, ["epsilon"])[DELIVERED_COLUMNS]


def worse_stored(results: Results, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row of `delivered` with the highest success on a model at a budget, those of `row`, among
    images that come back from a delivery. None where no success is higher than the row's.
    """
    rows = delivered(results)
    aimed = [name for name in results.attacks if results.attack(name).aims_at(results.rank)]
    higher = rows[
        (rows["model"] == row["model"])
        & (rows["epsilon"] == row["epsilon"])
        & (rows["delivery"] != FLOAT)
        & rows["attack"].isin(aimed)
        & (rows["percent"] > row["percent"])
    ]
    found = records(higher.sort_values("percent", kind="stable"))
    return found[-1] if found else None


def winners(results: Results, *, restarts_as_one: bool = False) -> pd.DataFrame:
    """One row a (model, attack, epsilon, winner) of the attacks that are made of several.

    It holds n images, those that this winner made (successes), and their share. The winner of most
    images comes first.

    Args:
        restarts_as_one: count all restarts of an attack as one winner.
    """
    several = [
        spec.name
        for spec in results.study.evaluation.attacks
        if spec.attack in ENSEMBLES or spec.restarts
    ]
    rows = results.outcomes[results.outcomes["attack"].isin(several)]
    names = (
        rows["winner"].str.replace(r" restart \d+$", ", restarted", regex=True)
        if restarts_as_one
        else rows["winner"]
    )
    images = rows[[*CELL, "target_id"]].assign(winner=names)
    counted = (
        images.groupby(["attack", "winner"], observed=True)
        .size()
        .sort_values(ascending=False, kind="stable")
        .reset_index()
    )
    parts = [
        shares(
            images[images["attack"] == row["attack"]].assign(won=images["winner"] == row["winner"]),
            CELL,
        ).assign(winner=row["winner"])
        for row in records(counted)
    ]
    return (
        results.in_study_order(pd.concat(parts), ["epsilon"])[WINNER_COLUMNS]
        if parts
        else pd.DataFrame(columns=WINNER_COLUMNS)
    )


def defects(results: Results) -> pd.DataFrame:
    """One row a success that is known to be none (schema.IMPORTED).

    It holds the outcome, and the success of its cell with and without it.
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
