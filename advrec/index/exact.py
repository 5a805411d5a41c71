"""The exact index: distances by a blocked float32 product, ranks by counting. Nothing is searched, so nothing is missed."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int32]

BLOCK_BYTES = 2**26  # of one block's distances
RECOUNT_WITHIN = 1e-6  # float32 products of unit vectors err by less (tested); nearer pairs are compared in float64


class ExactIndex:
    """Cosine distances to a catalog of embeddings.

    Args:
        embeddings: (N, D) float32, raw; row j is article j. It is kept as it is, never copied: it may lie in shared memory.

    Raises:
        ValueError: an embedding is zero or not finite, so that it has no cosine distance.
    """

    def __init__(self, embeddings: Floats) -> None:
        self.embeddings = embeddings
        norms = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64))
        if not np.all(np.isfinite(norms)) or not np.all(norms > 0):
            bad = int(np.flatnonzero(~np.isfinite(norms) | (norms <= 0))[0])
            raise ValueError(f"the embedding of article {bad} is zero or not finite: it has no cosine distance")
        self._inverse_norms = (1.0 / norms).astype(np.float32)

    def __len__(self) -> int:
        return len(self.embeddings)

    def distances(self, queries: Floats) -> Floats:
        """Cosine distances (Q, N) of raw query embeddings (Q, D), in 0..2 up to rounding."""
        units = queries / np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
        products = units.astype(np.float32) @ self.embeddings.T
        products *= self._inverse_norms
        distances: Floats = np.subtract(1.0, products, out=products)
        return distances

    def ranks(self, target_ids: Ids, attack_ids: Ids, candidates: Floats) -> Ids:
        """Rank of each candidate among the neighbours of its target.

        rank = 1 + the number of articles j, neither T nor A, with distance(T, j) < distance(T, candidate).
        Ties go to the adversary. A candidate farther than every article has the last rank, N - 1.

        Args:
            target_ids: (R,) articles T.
            attack_ids: (R,) articles A that the candidates replace.
            candidates: (R, D) raw embeddings of the (perturbed) attack images.

        Raises:
            ValueError: a candidate is not finite; it would compare as the nearest of all.
        """
        if not np.isfinite(candidates).all():
            raise ValueError("a candidate's embedding is not finite")
        ranks = np.empty(len(target_ids), dtype=np.int32)
        rows = max(1, BLOCK_BYTES // (4 * len(self)))
        # Rows of one target share its distances: sort, so that each target is multiplied once a block.
        order = np.argsort(target_ids, kind="stable")
        for start in range(0, len(order), rows):
            chosen = order[start : start + rows]
            targets, inverse = np.unique(target_ids[chosen], return_inverse=True)
            distances = self.distances(self.embeddings[targets])
            for row, target_row in zip(chosen, inverse, strict=True):
                ranks[row] = self._rank(distances[target_row], int(target_ids[row]), int(attack_ids[row]), candidates[row])
        return ranks

    def _rank(self, distances: Floats, target: int, attack: int, candidate: Floats) -> int:
        own = float(pair_distances(self.embeddings[target][None], candidate[None])[0])
        # In float64, where the two sets leave no gap: in float32 both bounds would be rounded, each its own way.
        farther_by = distances.astype(np.float64) - own
        nearer = farther_by < -RECOUNT_WITHIN
        close = np.flatnonzero(np.abs(farther_by) <= RECOUNT_WITHIN)
        nearer[[target, attack]] = False
        close = close[(close != target) & (close != attack)]
        recounted = 0
        if len(close):
            targets = np.broadcast_to(self.embeddings[target], (len(close), self.embeddings.shape[1]))
            recounted = int((pair_distances(targets, self.embeddings[close]) < own).sum())
        return 1 + int(nearer.sum()) + recounted

    def nearest_distances(self, target_ids: Ids, attack_ids: Ids) -> Floats:
        """Distance (R,) of each target to its nearest article other than the attack article: what rank 1 must fall below."""
        targets, inverse = np.unique(target_ids, return_inverse=True)
        ids, distances = (found[inverse] for found in self.top_k(targets, 2))
        return np.where(ids[:, 0] == attack_ids, distances[:, 1], distances[:, 0])

    def top_k(self, article_ids: Ids, k: int) -> tuple[Ids, Floats]:
        """The k nearest other articles of each article: ids (Q, k) and distances (Q, k), nearest first, equal ones by id."""
        ids = np.empty((len(article_ids), k), dtype=np.int32)
        found = np.empty((len(article_ids), k), dtype=np.float32)
        rows = max(1, BLOCK_BYTES // (4 * len(self)))
        for start in range(0, len(article_ids), rows):
            chosen = article_ids[start : start + rows]
            distances = self.distances(self.embeddings[chosen])
            distances[np.arange(len(chosen)), chosen] = np.inf
            nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
            ids[start : start + rows] = nearest
            found[start : start + rows] = np.take_along_axis(distances, nearest, axis=1)
        return ids, found


def pair_distances(first: Floats, second: Floats) -> Doubles:
    """Cosine distance of each pair of rows, (R, D) and (R, D) to (R,), computed in float64 row by row.

    Equal embeddings give equal distances, bit for bit, whatever the other rows are: ties stay ties.
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    dots = (a * b).sum(axis=1)
    return np.asarray(1.0 - dots / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1)))
