"""The exact index of a bank: costs by a tiled float32 product, ranks by counting. Nothing is
searched, so nothing is missed.

The cost of an article for a query falls as its score rises: where vectors count at unit length it
is 1 - score, the cosine distance, else -score.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from advrec.recommenders.bank import Bank, Doubles, Floats, Ids, Rows

ROWS = 512  # rows at once: the matrix is read once for all of them
# Bytes of the rows' costs for one tile of articles: they stay in the cache while they are counted.
TILE_BYTES = 2**22
PAIRS = 128  # pairs at once in float64
# float32 products of unit vectors err by less (tested); nearer pairs are compared in float64
RECOUNT_WITHIN = 1e-6
ROUNDING = 2.0**-24  # relative error of one operation in float32


class Tile(NamedTuple):
    """Costs of some rows for some articles."""

    rows: Rows
    """(r,), places among the rows asked for."""
    first: int
    """The first article; the others follow in their order."""
    costs: Floats
    """(r, w); infinite where an article does not compete."""


class Better(NamedTuple):
    """Articles that cost less than the candidates of some rows."""

    rows: Rows
    """(r,), places among the rows asked for."""
    first: int
    """The first article; the others follow in their order."""
    better: npt.NDArray[np.bool_]
    """(r, w)"""


class TopK(NamedTuple):
    """The k best articles of each query, best first."""

    ids: Ids
    """(Q, k)"""
    costs: Floats
    """(Q, k)"""


class ExactIndex:
    """Ranks among all articles of a bank. The bank's arrays are kept as they are."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self._inverse_norms = (1.0 / bank.item_norms).astype(np.float32) if bank.unit else None
        self._largest_item = float(bank.item_norms.max())
        self._kept: tuple[bytes, int, Floats] | None = None

    def __len__(self) -> int:
        return len(self.bank)

    def distances(self, vectors: Floats) -> Floats:
        """Costs (Q, N) of all articles for raw query vectors (Q, D); of unit vectors cosine
        distances, 0..2 up to rounding.
        """
        return self._distances(self._scaled(vectors), 0, len(self))

    def pair_costs(self, query_ids: Ids, embeddings: Floats) -> Doubles:
        """Costs (R,), in float64, of embeddings (R, D) for queries (R,).

        Equal embeddings have equal costs, bit for bit, whatever the other rows are: ties stay ties.
        """
        vectors = self.bank.vectors(query_ids)
        return (pair_distances if self.bank.unit else _pair_costs)(vectors, embeddings)

    def ranks(self, query_ids: Ids, article_ids: Ids, candidates: Floats) -> Ids:
        """Rank (R,) of each candidate in the list of its query.

        rank = 1 + the number of competing articles j, other than the one that the candidate
        replaces, with cost(j) < cost(candidate). Ties go to the adversary. A candidate that costs
        more than all others has the last rank.

        Args:
            query_ids: (R,) queries; in a bank of similar articles the target articles T.
            article_ids: (R,) articles A that the candidates replace.
            candidates: (R, D) raw embeddings of the (perturbed) images.

        Raises:
            ValueError: a candidate is not finite, or zero where vectors count at unit length;
                without a cost it would compare as the best of all.
        """
        ranks = np.ones(len(query_ids), dtype=np.int32)
        for rows, _, better in self._better(query_ids, article_ids, candidates):
            # several times as fast as a sum
            ranks[rows] += np.array([np.count_nonzero(row) for row in better], dtype=np.int32)
        return ranks

    def distinct_ranks(
        self, query_ids: Ids, article_ids: Ids, candidates: Floats, groups: Ids
    ) -> Ids:
        """Rank (R,) of each candidate among distinct images, in a bank of similar articles.

        rank = 1 + the number of images, other than that of the query's article, that a competing
        article j shows with cost(j) < cost(candidate).

        Args:
            query_ids, article_ids, candidates: as for `ranks`; raises as that does.
            groups: (N,), the group of equal images that each article belongs to, from 1 on; 0 where
                no other article shows its image.
        """
        ranks = np.ones(len(query_ids), dtype=np.int32)
        shown = np.zeros((len(query_ids), int(groups.max()) + 1), dtype=bool)
        for rows, first, better in self._better(query_ids, article_ids, candidates):
            tile = groups[first : first + better.shape[1]]
            ranks[rows] += (better & (tile == 0)).sum(axis=1, dtype=np.int32)
            places, columns = np.nonzero(better[:, tile > 0])
            shown[rows[places], tile[tile > 0][columns]] = True
        shown[np.arange(len(shown)), groups[query_ids]] = False
        ranks += shown[:, 1:].sum(axis=1, dtype=np.int32)
        return ranks

    def _better(self, query_ids: Ids, article_ids: Ids, candidates: Floats) -> Iterator[Better]:
        """The competing articles that cost less than the candidates (R, D), tile by tile. Raises as
        `ranks` does.
        """
        zero_or_not = "zero or not finite" if self.bank.unit else "not finite"
        zeros = self.bank.unit and not candidates.any(axis=1).all()
        if zeros or not np.isfinite(candidates).all():
            raise ValueError(f"a candidate's embedding is {zero_or_not}: it has no distance")
        own = self.pair_costs(query_ids, candidates)
        # Both sets compare with the same float32, so nothing falls between them. No float32 lies
        # between a bound and the float32 next to it: rounding takes no cost that is so near out of
        # what is recounted.
        within = self._rounding(query_ids)
        low, high = (own - within).astype(np.float32), (own + within).astype(np.float32)
        for rows, first, costs in self._tiles(query_ids, article_ids):
            better = costs < low[rows, None]
            close = np.flatnonzero(~better & (costs <= high[rows, None]))
            # in pieces: a catalog may be full of equal articles
            for start in range(0, len(close), PAIRS):
                places, columns = np.divmod(close[start : start + PAIRS], costs.shape[1])
                pairs, articles = rows[places], first + columns
                exact = self.pair_costs(query_ids[pairs], self.bank.items[articles])
                better[places, columns] = exact < own[pairs]
            yield Better(rows, first, better)

    def nearest_distances(self, query_ids: Ids, article_ids: Ids, rank: int = 1) -> Floats:
        """Cost (R,) of the `rank`-th best article for each query (R,) other than the attacked one
        (R,): what that rank must fall below; infinite where fewer articles compete.
        """
        return self.lowest(query_ids, rank, article_ids)[:, -1]

    def lowest(self, query_ids: Ids, k: int, article_ids: Ids | None = None) -> Floats:
        """Costs (R, k) of the k best articles for each query (R,), the k-th last; without the
        attacked article (R,), if that is given. Infinite where fewer articles compete.
        """
        lowest = np.full((len(query_ids), k), np.inf, dtype=np.float32)
        for rows, _, costs in self._tiles(query_ids, article_ids):
            if k > 1:
                costs = np.partition(np.hstack([lowest[rows], costs]), (k - 2, k - 1), axis=1)
                lowest[rows] = costs[:, :k]
            else:
                lowest[rows] = np.minimum(lowest[rows], costs.min(axis=1, keepdims=True))
        return lowest

    def kept_lowest(self, query_ids: Ids, k: int) -> Floats:
        """`lowest` (Q, k) of the queries (Q,) of an audience, once: block after block asks for the
        same.
        """
        asked = query_ids.tobytes()
        if self._kept is None or self._kept[:2] != (asked, k):
            self._kept = asked, k, self.lowest(query_ids, k)
        return self._kept[2]

    def top_k(self, query_ids: Ids, k: int) -> TopK:
        """The k best articles of queries (Q,): ids (Q, k) and costs (Q, k), best first, equal ones
        by id.

        Raises:
            ValueError: fewer than k articles compete for a query.
        """
        ids = np.zeros((len(query_ids), k), dtype=np.int32)
        lowest = np.full((len(query_ids), k), np.inf, dtype=np.float32)
        for rows, first, costs in self._tiles(query_ids):
            # Articles of earlier tiles have smaller ids and stand before this one: a stable sort
            # leaves equal ones in the order of their ids.
            tile = np.arange(first, first + costs.shape[1], dtype=np.int32)
            all_ids = np.hstack([ids[rows], np.broadcast_to(tile, costs.shape)])
            all_costs = np.hstack([lowest[rows], costs])
            best = np.argsort(all_costs, axis=1, kind="stable")[:, :k]
            ids[rows] = np.take_along_axis(all_ids, best, axis=1)
            lowest[rows] = np.take_along_axis(all_costs, best, axis=1)
        if np.isinf(lowest).any():
            raise ValueError(f"k is {k}, but for a query fewer articles compete")
        return TopK(ids, lowest)

    def _tiles(self, query_ids: Ids, article_ids: Ids | None = None) -> Iterator[Tile]:
        """The costs (R, N) of all articles for queries (R,), tile by tile. What does not compete is
        infinitely costly: a row's attacked article (R,), the query itself, what it has seen.
        """
        # Rows of one query share its product: sort, so that they come together.
        order = np.argsort(query_ids, kind="stable")
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            queries, inverse = np.unique(query_ids[rows], return_inverse=True)
            scaled = self._scaled(self.bank.vectors(queries))
            places, articles = self.bank.excluded(query_ids[rows])
            if article_ids is not None:
                places = np.concatenate([places, np.arange(len(rows))])
                articles = np.concatenate([articles, article_ids[rows]])
            width = max(1, TILE_BYTES // (4 * len(rows)))
            for first in range(0, len(self), width):
                last = min(first + width, len(self))
                costs = self._distances(scaled, first, last)[inverse]
                here = np.flatnonzero((articles >= first) & (articles < last))
                costs[places[here], articles[here] - first] = np.inf
                yield Tile(rows, first, costs)

    def _distances(self, scaled: Floats, first: int, last: int) -> Floats:
        """Costs (Q, last - first) of the articles first..last - 1 for query vectors (Q, D) that
        `_scaled` gave.
        """
        products = scaled @ self.bank.items[first:last].T
        if self._inverse_norms is None:
            costs: Floats = np.negative(products, out=products)
            return costs
        products *= self._inverse_norms[first:last]
        distances: Floats = np.subtract(1.0, products, out=products)
        return distances

    def _scaled(self, vectors: Floats) -> Floats:
        """Raw query vectors (Q, D) as they count; unit length is computed in float64."""
        if not self.bank.unit:
            return vectors
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        units: Floats = (vectors / norms).astype(np.float32)
        return units

    def _rounding(self, query_ids: Ids) -> Doubles:
        """The most by which costs in float32 can be off for queries (R,): (R,)."""
        if self.bank.unit:
            return np.full(len(query_ids), RECOUNT_WITHIN)
        # D products and D sums round once each (Higham 2002, section 3.1).
        relative = 2.0 * ROUNDING * (self.bank.items.shape[1] + 2)
        lengths = self._largest_item * self.bank.query_norms[query_ids]
        return np.asarray(relative * lengths + 1e-37)


def similar_articles(embeddings: Floats) -> ExactIndex:
    """The index of similar articles by cosine distance: every article (N, D) is a query too."""
    return ExactIndex(Bank(items=embeddings))


def pair_distances(first: Floats, second: Floats) -> Doubles:
    """Cosine distance of each pair of rows, (R, D) and (R, D) to (R,), computed in float64 row by
    row.

    Equal embeddings give equal distances, bit for bit, whatever the other rows are: ties stay ties.
    """
    a, b = _doubles(first), _doubles(second)
    dots = (a * b).sum(axis=1)
    return np.asarray(1.0 - dots / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1)))


def _pair_costs(first: Floats, second: Floats) -> Doubles:
    return np.asarray(-(_doubles(first) * _doubles(second)).sum(axis=1))


def _doubles(rows: Floats) -> Doubles:
    """In C order, whatever came: the order of memory decides the order of a sum, and so its last
    bits.
    """
    return rows.astype(np.float64, order="C")
