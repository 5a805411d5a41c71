"""Interactions: which users have bought which articles, and which purchase of each is held out."""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from advrec.run import schema
from advrec.run.directory import Run
from advrec.run.files import write_table
from advrec.run.interactions import INTERACTIONS, users
from advrec.run.tables import read_table

Ids = npt.NDArray[np.int32]


class Interactions(NamedTuple):
    """Purchases by user, then in order of time; no user has bought an article twice."""

    query_ids: Ids
    """(M,), the user of each purchase, ascending."""
    article_ids: Ids
    """(M,), the article."""
    places: Ids
    """(M,), its place among the user's purchases, from 0."""
    held_out: npt.NDArray[np.bool_]
    """(M,), whether it is the last of two or more."""
    num_users: int
    num_articles: int

    @classmethod
    def of(cls, query_ids: Ids, article_ids: Ids, *, num_users: int, num_articles: int) -> Self:
        """The same of all purchases (n,) in order of time, users in any order; of repeated ones the
        first counts.
        """
        order = np.argsort(query_ids, kind="stable")
        pairs = query_ids[order].astype(np.int64) * num_articles + article_ids[order]
        order = order[np.sort(np.unique(pairs, return_index=True)[1])]
        queries = query_ids[order].astype(np.int32)
        sizes = np.bincount(queries, minlength=num_users)
        places = np.arange(len(queries)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        last = (places == sizes[queries] - 1) & (places > 0)
        return cls(
            queries,
            article_ids[order].astype(np.int32),
            places.astype(np.int32),
            last,
            num_users,
            num_articles,
        )

    @property
    def sizes(self) -> Ids:
        """(U,), purchases of each user."""
        return np.bincount(self.query_ids, minlength=self.num_users).astype(np.int32)

    def training(self) -> tuple[Ids, Ids]:
        """Users and articles (m,) of the purchases that are not held out."""
        return self.query_ids[~self.held_out], self.article_ids[~self.held_out]

    def held_out_pairs(self) -> tuple[Ids, Ids]:
        """Users and articles (h,) of those that are; a user has one at most."""
        return self.query_ids[self.held_out], self.article_ids[self.held_out]

    def seen(self) -> tuple[npt.NDArray[np.int64], Ids]:
        """Training purchases in compressed rows: starts (U + 1,) and articles (m,); user u has
        bought articles[starts[u]:starts[u + 1]].
        """
        query_ids, article_ids = self.training()
        sizes = np.bincount(query_ids, minlength=self.num_users)
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), article_ids

    def cold(self) -> npt.NDArray[np.bool_]:
        """(N,), whether an article has no purchase in training."""
        sold = np.zeros(self.num_articles, dtype=bool)
        sold[self.training()[1]] = True
        return ~sold

    def summary(self) -> str:
        """Its counts in one line of text."""
        few = int((self.sizes < 2).sum())
        kept = f" ({few:,} with a single purchase, of which none is held out)" if few else ""
        return (
            f"{len(self.query_ids):,} purchases of {self.num_users:,} users{kept}, "
            f"{int(self.held_out.sum()):,} held out; "
            f"{int(self.cold().sum()):,} of {self.num_articles:,} articles are cold"
        )


def write(run: Run, interactions: Interactions, names: pa.Array, groups: Ids | None = None) -> None:
    """Write users.parquet, then interactions.parquet, whose presence says that both are there.

    Args:
        names: IDs of the users (U,), int64 or string.
        groups: of drawn users, the taste group (U,) of each.
    """
    drawn = {} if groups is None else {"group": groups}
    columns = users(names.type, drawn=groups is not None)
    content = {
        "query_id": range(interactions.num_users),
        "user": names,
        "purchases": interactions.sizes,
    }
    write_table(run.users, schema.table(columns, content | drawn))
    of_purchases = {
        "query_id": interactions.query_ids,
        "article_id": interactions.article_ids,
        "place": interactions.places,
        "held_out": interactions.held_out,
    }
    write_table(run.interactions, schema.table(INTERACTIONS, of_purchases))


def read(run: Run, num_articles: int) -> Interactions:
    """The interactions of a run.

    Raises:
        AdvrecError: they are not prepared.
    """
    run.require_interactions()
    table = read_table(run.interactions, INTERACTIONS)
    query_ids, article_ids, places, held_out = map(np.asarray, table.columns)
    num_users = pq.read_metadata(run.users).num_rows
    return Interactions(query_ids, article_ids, places, held_out, num_users, num_articles)
