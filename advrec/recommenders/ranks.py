"""The exact index: distances by a tiled float32 product, ranks by counting. Nothing is searched, so
nothing is missed.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int32]
Rows = npt.NDArray[np.intp]

ROWS = 512  # rows at once: the matrix is read once for all of them
# of their distances to one tile of articles: they stay in the cache while they are counted
TILE_BYTES = 2**22
PAIRS = 128  # pairs at once in float64
# float32 products of unit vectors err by less (tested); nearer pairs are compared in float64
RECOUNT_WITHIN = 1e-6


class ExactIndex:
    """Cosine distances to a catalog of embeddings.

    Args:
        embeddings: (N, D) float32, raw; row j is article j. It is kept as it is, never copied: it
            may lie in shared memory.

    Raises:
        ValueError: an embedding is zero or not finite, so that it has no cosine distance.
    """

    def __init__(self, embeddings: Floats) -> None:
        self.embeddings = embeddings
        norms = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64))
        if not np.all(np.isfinite(norms)) or not np.all(norms > 0):
            bad = int(np.flatnonzero(~np.isfinite(norms) | (norms <= 0))[0])
            raise ValueError(
                f"the embedding of article {bad} is zero or not finite: it has no cosine distance"
            )
        self._inverse_norms = (1.0 / norms).astype(np.float32)

    def __len__(self) -> int:
        return len(self.embeddings)

    def distances(self, queries: Floats) -> Floats:
        """Cosine distances (Q, N) of raw query embeddings (Q, D), in 0..2 up to rounding."""
        return self._distances(_units(queries), 0, len(self))

    def _distances(self, units: Floats, first: int, last: int) -> Floats:
        """Cosine distances (Q, last - first) of unit vectors (Q, D) to the articles first..last -
        1.
        """
        products = units @ self.embeddings[first:last].T
        products *= self._inverse_norms[first:last]
        distances: Floats = np.subtract(1.0, products, out=products)
        return distances

    def _tiles(self, target_ids: Ids, attack_ids: Ids) -> Iterator[tuple[Rows, int, Floats]]:
        """The distances (R, N) of targets (R,) to all articles, tile by tile; a row's own target
        and attack article are infinitely far.

        Yields rows (r,), an article, and the distances (r, w) of these rows to w articles from that
        one on, in the order of the articles.
        """
        # Rows of one target share its product: sort, so that they come together.
        order = np.argsort(target_ids, kind="stable")
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            targets, inverse = np.unique(target_ids[rows], return_inverse=True)
            units = _units(self.embeddings[targets])
            width = max(1, TILE_BYTES // (4 * len(rows)))
            for first in range(0, len(self), width):
                last = min(first + width, len(self))
                distances = self._distances(units, first, last)[inverse]
                for ids in (target_ids[rows], attack_ids[rows]):
                    here = np.flatnonzero((ids >= first) & (ids < last))
                    distances[here, ids[here] - first] = np.inf
                yield rows, first, distances

    def ranks(self, target_ids: Ids, attack_ids: Ids, candidates: Floats) -> Ids:
        """Rank of each candidate among the neighbours of its target.

        rank = 1 + the number of articles j, neither T nor A, with distance(T, j) < distance(T,
        candidate). Ties go to the adversary. A candidate farther than every article has the last
        rank, N - 1.

        Args:
            target_ids: (R,) articles T.
            attack_ids: (R,) articles A that the candidates replace.
            candidates: (R, D) raw embeddings of the (perturbed) attack images.

        Raises:
            ValueError: a candidate is zero or not finite; without a distance it would compare as
                the nearest of all.
        """
        if not np.isfinite(candidates).all() or not candidates.any(axis=1).all():
            raise ValueError(
                "a candidate's embedding is zero or not finite: it has no cosine distance"
            )
        own = pair_distances(self.embeddings[target_ids], candidates)
        # Both sets compare with the same float32, so nothing falls between them; and since no
        # float32 lies between a bound and the float32 next to it, rounding takes no distance that
        # is within 1e-6 out of what is recounted.
        low, high = (
            (own - RECOUNT_WITHIN).astype(np.float32),
            (own + RECOUNT_WITHIN).astype(np.float32),
        )
        ranks = np.ones(len(target_ids), dtype=np.int32)
        for rows, first, distances in self._tiles(target_ids, attack_ids):
            nearer = distances < low[rows, None]
            # several times as fast as a sum
            ranks[rows] += np.array([np.count_nonzero(row) for row in nearer], dtype=np.int32)
            # low <= distance <= high
            close = np.flatnonzero((distances <= high[rows, None]) ^ nearer)
            # in pieces: a catalog may be full of equal articles
            for start in range(0, len(close), PAIRS):
                places, articles = np.divmod(close[start : start + PAIRS], distances.shape[1])
                pairs = rows[places]
                exact = pair_distances(
                    self.embeddings[target_ids[pairs]], self.embeddings[first + articles]
                )
                np.add.at(ranks, pairs[exact < own[pairs]], 1)
        return ranks

    def nearest_distances(self, target_ids: Ids, attack_ids: Ids) -> Floats:
        """Distance (R,) of each target to its nearest article other than the attack article: what
        rank 1 must fall below.
        """
        nearest = np.full(len(target_ids), np.inf, dtype=np.float32)
        for rows, _, distances in self._tiles(target_ids, attack_ids):
            nearest[rows] = np.minimum(nearest[rows], distances.min(axis=1))
        return nearest

    def top_k(self, article_ids: Ids, k: int) -> tuple[Ids, Floats]:
        """The k < N nearest other articles of each article: ids (Q, k) and distances (Q, k),
        nearest first, equal ones by id.
        """
        ids = np.zeros((len(article_ids), k), dtype=np.int32)
        found = np.full((len(article_ids), k), np.inf, dtype=np.float32)
        for rows, first, distances in self._tiles(article_ids, article_ids):
            # What was found before has smaller ids and stands before the tile: a stable sort leaves
            # equal ones in the order of their ids.
            tile = np.broadcast_to(
                np.arange(first, first + distances.shape[1], dtype=np.int32), distances.shape
            )
            all_ids, all_distances = (
                np.hstack([ids[rows], tile]),
                np.hstack([found[rows], distances]),
            )
            nearest = np.argsort(all_distances, axis=1, kind="stable")[:, :k]
            ids[rows] = np.take_along_axis(all_ids, nearest, axis=1)
            found[rows] = np.take_along_axis(all_distances, nearest, axis=1)
        return ids, found


def _units(queries: Floats) -> Floats:
    """Raw embeddings (Q, D) at length one, computed in float64."""
    units: Floats = (
        queries / np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    ).astype(np.float32)
    return units


def pair_distances(first: Floats, second: Floats) -> Doubles:
    """Cosine distance of each pair of rows, (R, D) and (R, D) to (R,), computed in float64 row by
    row.

    Equal embeddings give equal distances, bit for bit, whatever the other rows are: ties stay ties.
    """
    # In C order, whatever came: the order of memory decides the order of a sum, and so its last
    # bits.
    a, b = first.astype(np.float64, order="C"), second.astype(np.float64, order="C")
    dots = (a * b).sum(axis=1)
    return np.asarray(1.0 - dots / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1)))
