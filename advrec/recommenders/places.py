"""Places in the lists of many queries: which category holds them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from advrec.recommenders.audience import BYTES, AllCosts, ties_within
from advrec.recommenders.bank import Doubles, Ids, Rows
from advrec.recommenders.ranks import ExactIndex


class Held(NamedTuple):
    """The share of a category in the lists of all queries, for each rank K."""

    chr: Doubles
    """(R,), CHR@K: share of the places 1 to K of all lists that articles of the category hold,
    0..1 (Di Noia et al. 2020, equation 7; divided by K, which the published code leaves out).
    """
    ndcg: Doubles
    """(R,), the same where place p counts 1 / log2(p + 1), as a share of what all K places count.
    """
    by_query: Doubles
    """(Q, R), CHR@K of each query's list alone."""
    target_chr: Doubles
    """(R,), CHR@K of the target's articles in the same lists."""


class Placed(NamedTuple):
    """Articles and their places in the list of one query after the other, from 0."""

    queries: Rows
    """(m,), places among the queries asked for."""
    articles: Ids
    """(m,)"""
    places: Rows
    """(m,)"""


def held(
    index: ExactIndex,
    query_ids: Ids,
    members: npt.NDArray[np.bool_],
    target: npt.NDArray[np.bool_],
    ranks: Sequence[int],
) -> Held:
    """Measure how much of the lists of queries (Q,) the `members` (N,) of a category hold, and
    those of a `target` (N,).

    An article that a query has seen has no place there. Where costs are equal, members come first:
    ties go to the adversary. Where fewer than K articles compete, the places behind them are empty.
    """
    longest = max(ranks)
    counts, size = np.zeros(longest), len(query_ids)
    by_query, of_target = np.zeros((size, len(ranks))), np.zeros(longest)
    for queries, articles, places in _placed(index, query_ids, longest, ~members):
        own = members[articles]
        counts += np.bincount(places[own], minlength=longest)
        of_target += np.bincount(places[target[articles]], minlength=longest)
        for place, rank in enumerate(ranks):
            by_query[:, place] += np.bincount(queries[own & (places < rank)], minlength=size)
    gains = 1.0 / np.log2(np.arange(longest) + 2.0)
    worth = counts * gains / size
    return Held(
        np.array([counts[:rank].sum() / (rank * size) for rank in ranks]),
        np.array([worth[:rank].sum() / gains[:rank].sum() for rank in ranks]),
        by_query / np.array(ranks),
        np.array([of_target[:rank].sum() / (rank * size) for rank in ranks]),
    )


def shares(
    index: ExactIndex, query_ids: Ids, labels: npt.NDArray[np.int64], num: int, rank: int
) -> Doubles:
    """CHR@K (num,) of each category at a rank K, by the articles' `labels` (N,). Equal costs come
    in the order of articles.
    """
    counts = np.zeros(num)
    for _, articles, _ in _placed(index, query_ids, rank, np.arange(len(index))):
        counts += np.bincount(labels[articles], minlength=num)
    return np.asarray(counts / (rank * len(query_ids)))


def _placed(
    index: ExactIndex, query_ids: Ids, k: int, order: npt.NDArray[np.generic]
) -> Iterator[Placed]:
    """The first k places of each query (Q,), some queries at a time. Equal costs come by `order`
    (N,), the smaller first.

    Products choose who is near, in float64. Their last bits depend on the neighbours in a product:
    the costs of those are computed again, pair by pair, so that equal items stay ties.
    """
    bank = index.bank
    k = min(k, len(index))
    at_once = max(1, BYTES // (8 * max(len(index), k * bank.items.shape[1])))
    all_costs = AllCosts(bank, at_once)
    for start in range(0, len(query_ids), at_once):
        some = query_ids[start : start + at_once]
        costs = all_costs(some)
        last = np.partition(costs, k - 1, axis=1)[:, k - 1 :][:, :1]
        near = (costs <= last + 2.0 * ties_within(bank, some)[:, None]) & np.isfinite(costs)
        queries, columns = np.nonzero(near)
        articles: Ids = columns.astype(np.int32)
        exact = index.pair_costs(some[queries], bank.items[articles])
        sorted_rows = np.lexsort((order[articles], exact, queries))
        first = np.searchsorted(queries, np.arange(len(some)))
        places = np.arange(len(queries)) - first[queries]
        there = places < k
        yield Placed(start + queries[there], articles[sorted_rows][there], places[there])
