"""Promotions of two runs, paired: the same articles by the same attacks."""

import pandas as pd
import pyarrow.parquet as pq

from advrec.evaluation import bootstrap
from advrec.reports.results import Results
from advrec.reports.tables import promotions
from advrec.reports.tables.rows import records
from advrec.run import schema
from advrec.run.tables import read_table
from advrec.spec.audiences import TARGETS, USERS

COLUMNS = [
    *(*promotions.CELL, "rank", "n", "hr_after", "other_hr_after"),
    *(f"hr_difference{bound}" for bound in bootstrap.BOUNDS),
]
DIFFERENCES = 10
"""Differences that are told at most."""


def against(results: Results, other: Results) -> pd.DataFrame:
    """One row a (model, audience, attack, epsilon, delivery) of both runs: means of HR@K after the
    attack, 0..1, here and there, over the n articles that both attacked, by name; and here minus
    there, with its bootstrap interval over these articles. K is the rank that attacks aim at here.
    """
    keys, rank = promotions.CELL, results.study.evaluation.aim
    both = _keyed(results, rank).merge(
        _keyed(other, rank), on=[*keys, "article"], suffixes=("", "_other")
    )
    found = []
    for key, cell in both.groupby(keys, sort=False):
        row = dict(zip(keys, key, strict=True)) | {"rank": rank, "n": len(cell)}
        row |= {"hr_after": cell["hr"].mean(), "other_hr_after": cell["hr_other"].mean()}
        difference = pd.DataFrame({"hr_difference": cell["hr"] - cell["hr_other"]})
        found.append(row | bootstrap.bounded(difference))
    return pd.DataFrame(found, columns=COLUMNS)


def notes(results: Results, other: Results) -> list[str]:
    """Sentences on audiences of one name that differ."""
    said = []
    here, there = (each.study.evaluation.targets for each in (results, other))
    if here and there and here != there:
        said.append(f"The audience {TARGETS} is another there: other articles, or other weights.")
    if all(each.run.users.exists() for each in (results, other)) and _users(results) != _users(
        other
    ):
        said.append(f"The audience {USERS} is another there: other users.")
    return said


def text(results: Results, other: str, made: pd.DataFrame) -> list[str]:
    """Lines for a terminal: cells whose interval leaves out 0, the largest differences first."""
    table = made[(made["hr_difference_low"] > 0) | (made["hr_difference_high"] < 0)]
    table = table.sort_values("hr_difference", key=abs, ascending=False, kind="stable")
    lines = [
        f"  {row['attack']} on {row['model']} before {row['audience']} at "
        f"{results.shown(row['epsilon'])}, {row['delivery']}: HR@{row['rank']} "
        f"{100.0 * row['hr_after']:.1f} here, {100.0 * row['other_hr_after']:.1f} there "
        f"({100.0 * row['hr_difference_low']:+.1f} to {100.0 * row['hr_difference_high']:+.1f} "
        f"points, n = {row['n']:,})"
        for row in records(table.head(DIFFERENCES))
    ]
    heading = (
        f"against {other}, on the promoted articles of both: {len(table)} of {len(made)} cells "
        "differ (95 % interval of the difference over articles)"
    )
    return [heading, *lines] if len(made) else []


def _users(results: Results) -> list[str]:
    """IDs of the users, whatever their order."""
    return sorted(map(str, pq.read_table(results.run.users, columns=["user"])["user"].to_pylist()))


def _keyed(results: Results, rank: int) -> pd.DataFrame:
    """Rows of promotions by names of articles; none where no such rank was measured."""
    rows = promotions.rows(results)
    if rank not in results.study.evaluation.ranks:
        rows = rows.iloc[:0].assign(**{f"hr_after_{rank}": 0.0})
    names = read_table(results.run.catalog, schema.CATALOG)["name"].to_pandas()
    keyed = rows[promotions.CELL].astype({key: object for key in promotions.CELL})
    keyed = keyed.astype({"epsilon": "float64"})
    return keyed.assign(
        article=names.iloc[rows["article_id"]].to_numpy(), hr=rows[f"hr_after_{rank}"]
    )
