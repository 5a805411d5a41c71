"""The bank of a recommender: its articles, and the linear queries that score them.

A query u scores article i by s = v . phi(f), with f the article's embedding. phi takes an
embedding to unit length, or leaves it as it is.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int32]
Rows = npt.NDArray[np.intp]


SHORTEST, LONGEST = 1e-8, 1e18
"""Lengths of vectors between which attacks, in float32, compute the cosine that ranks have: below,
torch's cosine_similarity takes 1e-8 for the length; above, its square is infinite.
"""


class NoDistanceError(ValueError):
    """A vector that has no distance."""

    def __init__(self, said: str, row: int) -> None:
        super().__init__(said)
        self.row = row
        """Its place: of an article's embedding the article."""


class Seen(NamedTuple):
    """The articles that each query has seen, in compressed rows."""

    starts: npt.NDArray[np.int64]
    """(U + 1,), rising from 0: query u has seen articles[starts[u]:starts[u + 1]]."""
    articles: Ids
    """(M,), rows of the bank's items."""

    @classmethod
    def of(cls, lists: Iterable[Sequence[int]]) -> Self:
        """The same from one list of articles a query."""
        rows = [np.asarray(row, dtype=np.int32) for row in lists]
        starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return cls(starts, np.concatenate([*rows, np.empty(0, dtype=np.int32)]))


class Excluded(NamedTuple):
    """Pairs that do not compete."""

    places: Rows
    """(E,), places among the queries asked for."""
    articles: Ids
    """(E,)"""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Bank:
    """N articles and U queries. NumPy arrays alone, kept as they are and never copied: they may lie
    in shared memory.

    Args:
        items: (N, D) float32, raw embeddings; row j is article j.
        queries: (U, D) float32. None: every article is a query for what is similar to it, and does
            not compete in its own list.
        seen: what each query has seen, which does not compete for it.
        unit: whether items and queries count at unit length, so that a product is a cosine.

    Raises:
        ValueError: shapes do not belong together, a value is not finite, or a vector that counts at
            unit length is zero.
    """

    items: Floats
    queries: Floats | None = None
    seen: Seen | None = None
    unit: bool = True

    def __post_init__(self) -> None:
        _check_vectors(self.items, self.item_norms, "the embedding of article", unit=self.unit)
        if self.queries is not None:
            if self.queries.ndim != 2 or self.queries.shape[1] != self.items.shape[1]:
                raise ValueError(
                    f"queries have the shape {self.queries.shape}; they need (U, D) with the "
                    f"items' D = {self.items.shape[1]}"
                )
            _check_vectors(self.queries, self.query_norms, "query", unit=self.unit)
        self._check_seen()
        if not self.unit and float(self.query_norms.max()) * float(self.item_norms.max()) > 1e37:
            raise ValueError(
                "queries and items are too large: float32 does not hold their products"
            )

    def __len__(self) -> int:
        return len(self.items)

    @property
    def num_queries(self) -> int:
        return len(self.items if self.queries is None else self.queries)

    @cached_property
    def item_norms(self) -> Doubles:
        """(N,), length of each item."""
        return _norms(self.items)

    @cached_property
    def query_norms(self) -> Doubles:
        """(U,), length of each query."""
        return self.item_norms if self.queries is None else _norms(self.queries)

    def vectors(self, query_ids: Ids) -> Floats:
        """Raw vectors (R, D) of queries (R,)."""
        return (self.items if self.queries is None else self.queries)[query_ids]

    def excluded(self, query_ids: Ids) -> Excluded:
        """The articles that do not compete for queries (R,): the article that is itself the query,
        and what the query has seen.
        """
        places: list[Rows] = []
        articles: list[Ids] = []
        if self.queries is None:
            places.append(np.arange(len(query_ids)))
            articles.append(np.asarray(query_ids, dtype=np.int32))
        if self.seen is not None:
            starts = self.seen.starts[query_ids]
            sizes = self.seen.starts[np.asarray(query_ids) + 1] - starts
            ends = np.cumsum(sizes)
            within = np.arange(sizes.sum()) - np.repeat(ends - sizes, sizes)
            places.append(np.repeat(np.arange(len(query_ids)), sizes))
            articles.append(self.seen.articles[np.repeat(starts, sizes) + within])
        if not places:
            return Excluded(np.empty(0, dtype=np.intp), np.empty(0, dtype=np.int32))
        return Excluded(np.concatenate(places), np.concatenate(articles))

    def _check_seen(self) -> None:
        if self.seen is None:
            return
        starts, articles = self.seen
        if len(starts) != self.num_queries + 1:
            raise ValueError(
                f"seen has rows for {len(starts) - 1} queries; the bank has {self.num_queries}"
            )
        if starts[0] != 0 or starts[-1] != len(articles) or (np.diff(starts) < 0).any():
            raise ValueError(f"the starts of seen must rise from 0 to {len(articles)}")
        if len(articles) and not 0 <= articles.min() <= articles.max() < len(self):
            raise ValueError(f"seen names an article outside 0..{len(self) - 1}")


def _norms(vectors: Floats) -> Doubles:
    if vectors.ndim != 2 or not vectors.size:
        raise ValueError(f"vectors have the shape {vectors.shape}; they need (rows, D), not empty")
    norms: Doubles = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    return norms


def _check_vectors(vectors: Floats, norms: Doubles, name: str, *, unit: bool) -> None:
    if vectors.dtype != np.float32:
        raise ValueError(f"{name}s are {vectors.dtype}; they need float32")
    bad = ~np.isfinite(norms)
    if unit:
        bad |= (norms < SHORTEST) | (norms > LONGEST)
    if not bad.any():
        return
    row = int(np.flatnonzero(bad)[0])
    if not unit:
        raise NoDistanceError(f"{name} {row} is not finite", row)
    if norms[row] == 0 or not np.isfinite(norms[row]):
        raise NoDistanceError(f"{name} {row} is zero or not finite: it has no cosine distance", row)
    raise NoDistanceError(
        f"{name} {row} has the length {norms[row]:.1e}, outside {SHORTEST:g} to {LONGEST:g}: "
        "attacks cannot compute its cosine distance; multiply embeddings by a constant",
        row,
    )
