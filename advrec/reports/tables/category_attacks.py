"""The attack on a whole category as a table: what it holds of the users' lists."""

import re
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from advrec.evaluation import bootstrap
from advrec.reports.results import Results
from advrec.reports.tables.rows import records
from advrec.run import category_attacks as schema
from advrec.run import schema as run_schema
from advrec.run.tables import read_outcomes
from advrec.spec.base import FLOAT

COLUMNS = ["model", "towards", "epsilon", "delivery", "rank"]
COLUMNS += ["origin", "target", "articles", "users"]
CHR = [
    f"chr_{when}{bound}"
    for when in ("before", "after", "change")
    for bound in ("", *(f"_{bound}" for bound in schema.BOUNDS))
]
WORTH = [*CHR, "ndcg_before", "ndcg_after", "target_chr_before", "target_chr_after"]
CHANGE = ["linf_max", "linf_mean", "l2_max", "l2_mean", "seconds"]


@lru_cache(maxsize=1)  # terminal, page and files ask for it
def category_attacks(results: Results) -> pd.DataFrame:
    """One row a (hybrid, towards, epsilon, delivery, rank), in the study's order; none without such
    attacks.

    All images of the category `origin` are swapped at once. CHR and NDCG, 0..1, are those of its
    articles in the lists of all users, CHR with bootstrap intervals over users.
    """
    evaluation = results.whole.evaluation
    wanted, rows = evaluation.category_attack, []
    if wanted is not None:
        trips = evaluation.round_trips
        through = wanted.entries(trips)[0].through
        columns = schema.category_attacks(evaluation.ranks, trips, through)
        found = read_outcomes(results.run.category_attacks, columns)
        known = {(row["model"], row["attack"], row["epsilon"]): row for row in found.to_pylist()}
        rows = [
            {**row, "towards": towards, "delivery": delivery, "rank": rank}
            | _of(row, delivery, rank)
            for model, spec in results.whole.hybrids.items()
            for towards in wanted.towards
            for epsilon in evaluation.epsilons
            for row in [known.get((model, towards, epsilon))]
            for delivery in (FLOAT, *trips)
            for rank in evaluation.ranks
            if spec.compared and row is not None
        ]
    table = pd.DataFrame(rows, columns=[*COLUMNS, *WORTH, *CHANGE])
    return table.astype(dict.fromkeys(WORTH, "float64"))


def _of(row: dict[str, Any], delivery: str, rank: int) -> dict[str, Any]:
    """The columns of a row that are about a delivery and a rank."""
    names = {name: re.sub("(before|after|change)", rf"\1_{rank}", name) for name in WORTH}
    names |= {name: name for name in CHANGE}
    if delivery != FLOAT:
        named = {name: run_schema.suffixed(each, delivery) for name, each in names.items()}
        names |= {name: each for name, each in named.items() if each in row}
    return {name: row[each] for name, each in names.items()}


def headline(results: Results) -> pd.DataFrame:
    """Its rows at the largest budget and the rank that attacks aim at, of the images for float."""
    table = category_attacks(results)
    largest = table["epsilon"] == table["epsilon"].max()
    aimed = table["rank"] == results.whole.evaluation.aim
    found: pd.DataFrame = table[largest & aimed & (table["delivery"] == FLOAT)]
    return found


def text(results: Results) -> list[str]:
    """Lines for a terminal, at the largest budget; none without such attacks."""
    rows = records(headline(results))
    if not rows:
        return []
    first = rows[0]
    return [
        f"all images of {first['origin']} ({first['articles']:,}) attacked to resemble "
        f"{first['target']}, epsilon {results.shown(first['epsilon'])}; its share of the first "
        f"{first['rank']} places of {first['users']:,} users, with 95 % interval over users:",
        *(
            f"  {row['model']}, towards {row['towards']}: {percent(row, 'chr_before')} before, "
            f"{percent(row, 'chr_after')} after"
            for row in rows
        ),
    ]


def percent(row: dict[str, Any], name: str) -> str:
    """A share in percent with its interval, where that is known."""
    value, low, high = (row[f"{name}{bound}"] for bound in bootstrap.BOUNDS)
    known = "" if np.isnan(low) else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * value:.1f} %{known}"
