"""Who is reached: exposure of promoted articles before each taste group of drawn users."""

from functools import lru_cache

import pandas as pd
import pyarrow.parquet as pq

from advrec.evaluation import bootstrap
from advrec.reports.results import Results
from advrec.reports.tables.promotions import in_order
from advrec.run import promotions
from advrec.run.interactions import SEEN
from advrec.run.tables import read_outcomes, read_table
from advrec.spec.audiences import USERS
from advrec.spec.base import FLOAT

CELL = ["model", "attack", "epsilon", "group"]
MEANS = ["hr_before", "hr_after", "hr_change"]
COLUMNS = [
    *(*CELL, "rank", "users", "n"),
    *(f"{name}{bound}" for name in MEANS for bound in bootstrap.BOUNDS),
]
NAME = "promotion_groups"
"""Name of the table."""


@lru_cache(maxsize=1)  # the page asks for it too
def groups(results: Results) -> pd.DataFrame:
    """One row a (hybrid, attack, epsilon, taste group, rank K): HR@K of the n articles whose ranks
    are kept (`ranks_of`), 0..1, among the users of the group who had not bought them.

    Empty where users were not drawn, or no ranks are kept.
    """
    run = results.run
    if not run.users.exists() or "group" not in pq.read_schema(run.users).names:
        return pd.DataFrame(columns=COLUMNS)
    users = pq.read_table(run.users, columns=["query_id", "group"]).to_pandas()
    ranks = read_outcomes(run.directory / "promotion_ranks", promotions.RANKS).to_pandas()
    ranks = ranks[ranks["model"].isin(list(results.whole.hybrids))]
    ranks = ranks[ranks["epsilon"].isin(list(results.study.evaluation.epsilons))]
    ranks = in_order(results, ranks.assign(delivery=FLOAT, audience=USERS))
    ranks = _not_bought(results, ranks).merge(users, on="query_id")
    found = []
    for keys, cell in ranks.groupby(CELL, observed=True):
        key = dict(zip(CELL, keys, strict=True)) | {"users": cell["query_id"].nunique()}
        for rank in results.study.evaluation.ranks:
            hits = pd.DataFrame(
                {
                    "hr_before": cell["rank_before"] <= rank,
                    "hr_after": cell["rank_after"] <= rank,
                }
            )
            of_articles = hits.groupby(cell["article_id"]).mean()
            of_articles["hr_change"] = of_articles["hr_after"] - of_articles["hr_before"]
            measured = bootstrap.bounded(of_articles)
            found.append(key | {"rank": rank, "n": len(of_articles)} | measured)
    return pd.DataFrame(found, columns=COLUMNS)


def _not_bought(results: Results, ranks: pd.DataFrame) -> pd.DataFrame:
    """The ranks of users who had not bought the article, as far as training knows."""
    parts = []
    for model, own in ranks.groupby("model", observed=True):
        seen = read_table(results.run.seen(str(model)), SEEN).to_pandas()
        pairs = own.merge(seen.assign(bought=True), on=["query_id", "article_id"], how="left")
        parts.append(pairs[pairs["bought"].isna()].drop(columns="bought"))
    return pd.concat(parts) if parts else ranks
