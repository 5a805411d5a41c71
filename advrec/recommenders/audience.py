"""Audiences: many queries that one article is ranked for, and what its ranks are worth to it."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from advrec.recommenders.bank import Bank, Doubles, Floats, Ids, Rows
from advrec.recommenders.ranks import ExactIndex

BYTES = 2**26
"""Size of the costs of all articles for the queries that are ranked at once."""
TILE = 4096  # articles at once in float64
KEPT = 2**28
"""Size of the items in float64 that are kept for all queries; of larger ones each tile is made
anew.
"""
TIES_WITHIN = 1e-12
"""Relative to the lengths of query and item: products in float64 err by less, however small they
are. What is nearer is compared pair by pair, so that equal embeddings stay ties.
"""


class Audience(NamedTuple):
    """Queries of a bank, and how much each counts."""

    name: str
    """users or targets."""
    query_ids: Ids
    """(Q,), rising."""
    weights: Doubles
    """(Q,), above 0."""

    def some(self, places: Rows | slice) -> Self:
        """The queries at some places (S,)."""
        return self._replace(query_ids=self.query_ids[places], weights=self.weights[places])

    def members(self, bank: Bank, article_ids: Ids) -> Doubles:
        """Weights (n, Q), 0 of a query that is itself the article (n,), or has seen it: it is not
        of that article's audience.
        """
        weights = np.repeat(self.weights[None], len(article_ids), axis=0)
        queries, articles = bank.excluded(self.query_ids)
        for row, article in enumerate(article_ids):
            weights[row, queries[articles == article]] = 0.0
        return weights


class Thresholds(NamedTuple):
    """Costs below which an article stands among the K best of each query, (Q,) each; infinite
    where fewer compete.
    """

    best: Floats
    """Cost of the K-th best article."""
    next_best: Floats
    """That of the one behind it, which counts where the attacked article is among the K best."""

    def against(self, costs: Doubles) -> Floats:
        """Thresholds (n, Q) of articles that cost (n, Q) while they are unchanged."""
        # the bounds are of float32: the K-th best article itself may lie a rounding above its own
        rounding = 1e-6 * np.maximum(np.abs(self.best), 1.0)
        return np.where(costs <= self.best + rounding, self.next_best, self.best)


def thresholds(index: ExactIndex, query_ids: Ids, rank: int) -> Thresholds:
    """The thresholds of queries (Q,) at a rank K: one pass over the articles, which the index
    keeps.
    """
    lowest = index.kept_lowest(query_ids, rank + 1)
    return Thresholds(lowest[:, -2], lowest[:, -1])


def costs_of(bank: Bank, query_ids: Ids, candidates: Floats) -> Doubles:
    """Costs (n, C, Q), in float64, of candidates (n, C, D) for queries (Q,)."""
    n, each, dimension = candidates.shape
    products = (
        _scaled(bank, candidates.reshape(-1, dimension)) @ _scaled(bank, bank.vectors(query_ids)).T
    )
    return np.asarray(1.0 - products if bank.unit else -products).reshape(n, each, len(query_ids))


def ranks_for_all(index: ExactIndex, query_ids: Ids, article_ids: Ids, candidates: Floats) -> Ids:
    """Rank (n, C, Q) of each candidate (n, C, D) of an article (n,) in the list of each query (Q,).

    As `ExactIndex.ranks`, for many queries: every query's costs are computed in float64 and sorted
    once for all candidates. A query that has seen the article ranks it all the same.

    Raises:
        ValueError: a candidate is not finite, or zero where vectors count at unit length.
    """
    if not np.isfinite(candidates).all():
        raise ValueError("a candidate's embedding is not finite: it has no distance")
    if index.bank.unit and not candidates.any(axis=2).all():
        raise ValueError("a candidate's embedding is zero: it has no distance")
    n, each = candidates.shape[:2]
    ranks = np.empty((n, each, len(query_ids)), dtype=np.int32)
    at_once = max(1, BYTES // (8 * len(index)))
    costs = AllCosts(index.bank, at_once)
    for first in range(0, len(query_ids), at_once):
        some = query_ids[first : first + at_once]
        ranks[..., first : first + at_once] = _ranks(
            index, costs(some), some, article_ids, candidates
        )
    return ranks


def _ranks(
    index: ExactIndex, costs: Doubles, query_ids: Ids, article_ids: Ids, candidates: Floats
) -> Ids:
    """Ranks (n, C, Q) as `ranks_for_all` gives them, from the costs (Q, N) of all articles.

    Costs are sorted in float32, which takes half the time. Rounding keeps their order: where no
    rival's cost rounds to that of a candidate, as many are better in float64.
    """
    own = costs_of(index.bank, query_ids, candidates)
    longest = np.linalg.norm(candidates.astype(np.float64), axis=2).max(initial=0.0)
    within = ties_within(index.bank, query_ids, longest)
    low, high = (own - within).astype(np.float32), (own + within).astype(np.float32)
    # the article that the candidate replaces does not compete
    replaced = costs[:, article_ids].astype(np.float32).T[:, None]
    between = (low <= replaced) & (replaced <= high)
    better = np.empty(own.shape, dtype=np.int64)
    near = np.empty(own.shape, dtype=bool)
    row = np.empty(len(index) + 2, dtype=np.float32)  # stays in the cache
    for query, exactly in enumerate(costs):
        row[:-2], row[-2:] = exactly, np.inf
        row.sort()
        first = row.searchsorted(low[..., query])
        better[..., query] = first
        near[..., query] = row[first + between[..., query]] <= high[..., query]
    better -= replaced < low
    for place, form, query in np.argwhere(near):
        one, article = query_ids[query : query + 1], article_ids[place : place + 1]
        gaps = costs[query] - own[place, form, query]
        gaps[article] = np.inf
        tied = np.flatnonzero(np.abs(gaps) <= within[query]).astype(np.int32)
        exact = index.pair_costs(np.repeat(one, len(tied)), index.bank.items[tied])
        limit = index.pair_costs(one, candidates[place, form][None])
        better[place, form, query] = np.count_nonzero(gaps < -within[query])
        better[place, form, query] += np.count_nonzero(exact < limit)
    return (1 + better).astype(np.int32)


def ties_within(bank: Bank, query_ids: Ids, longest: float = 0.0) -> Doubles:
    """The costs (Q,) within which queries (Q,) compare pair by pair, for items of the bank and
    others, of which the `longest` has this length.
    """
    if bank.unit:
        return np.full(len(query_ids), TIES_WITHIN)
    longest = max(longest, float(bank.item_norms.max()))
    return np.asarray(TIES_WITHIN * np.maximum(bank.query_norms[query_ids] * longest, 1.0))


class AllCosts:
    """Costs in float64 of all articles of a bank, for some queries after others.

    Args:
        at_once: most queries of a call.
    """

    def __init__(self, bank: Bank, at_once: int) -> None:
        self._bank = bank
        self._room = np.empty((min(at_once, bank.num_queries), len(bank)))
        self._kept = [*self._tiles()] if 8 * bank.items.size <= KEPT else None

    def __call__(self, query_ids: Ids) -> Doubles:
        """Costs (Q, N) for queries (Q,), until the next call; infinite where an article does not
        compete.
        """
        bank, first = self._bank, 0
        costs = self._room[: len(query_ids)]
        queries = -_scaled(bank, bank.vectors(query_ids))
        for items in self._kept or self._tiles():
            np.matmul(queries, items.T, out=costs[:, first : first + len(items)])
            first += len(items)
        if bank.unit:
            costs += 1.0
        places, articles = bank.excluded(query_ids)
        costs[places, articles] = np.inf
        return costs

    def _tiles(self) -> Iterator[Doubles]:
        """Items (w, D) as they count, tile by tile."""
        for first in range(0, len(self._bank), TILE):
            yield _scaled(self._bank, self._bank.items[first : first + TILE])


def _scaled(bank: Bank, vectors: Floats) -> Doubles:
    """Vectors (n, D) as they count, in float64."""
    doubles: Doubles = vectors.astype(np.float64)
    return doubles / np.linalg.norm(doubles, axis=1, keepdims=True) if bank.unit else doubles


# The worth of ranks, by weight (recommenders.md; Jarvelin and Kekalainen 2002 for the gain).


def hit_rate(ranks: Ids, weights: Doubles, rank: int) -> Doubles:
    """HR@K (n,): share of the weights (n, Q) whose rank (n, Q) is K or better, 0..1."""
    return mean(ranks <= rank, weights)


def gain(ranks: Ids, weights: Doubles, rank: int) -> Doubles:
    """NDCG@K (n,) of one relevant article: mean of 1 / log2(rank + 1) where the rank (n, Q) is K or
    better, by weights (n, Q), 0..1.
    """
    return mean(np.where(ranks <= rank, 1.0 / np.log2(ranks + 1.0), 0.0), weights)


def median_rank(ranks: Ids, weights: Doubles) -> Doubles:
    """Median (n,) of ranks (n, Q) by weights (n, Q): the middle of the two ranks where exactly half
    the weight lies on each side.
    """
    order = np.argsort(ranks, axis=1, kind="stable")
    rows = np.arange(len(ranks))
    shares = np.cumsum(np.take_along_axis(weights, order, 1), axis=1)
    shares /= shares[:, -1:]
    in_order = np.take_along_axis(ranks, order, 1).astype(np.float64)
    # sums of equal weights reach one half but for rounding
    lower = in_order[rows, (shares >= 0.5 - 1e-9).argmax(axis=1)]
    upper = in_order[rows, (shares > 0.5 + 1e-9).argmax(axis=1)]
    return np.asarray((lower + upper) / 2.0)


def mean(values: npt.NDArray[Any], weights: Doubles) -> Doubles:
    """Mean (n,) of values (n, Q) by weights (n, Q)."""
    return np.asarray((values * weights).sum(axis=1) / weights.sum(axis=1))
