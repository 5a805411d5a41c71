"""NMSLIB's HNSW index: top-k lists as a shop may serve them, and their recall against the exact
ones.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from advrec.recommenders.bank import Floats, Ids
from advrec.recommenders.ranks import ExactIndex

M = 16
EF_CONSTRUCTION = 200
EF_SEARCH = 200
NEAR = 1e-6
"""Cosine distance beyond the exact k-th that still counts as found: that of rounding."""


class HnswIndex:
    """Approximate nearest neighbours (Malkov & Yashunin 2016) by cosine distance over embeddings
    (N, D) float32.
    """

    def __init__(self, embeddings: Floats, *, threads: int = 1) -> None:
        with _quiet():
            import nmslib  # prints on import that its wheel is built without AVX

        start = time.monotonic()
        self._embeddings = embeddings
        self._threads = threads
        self._index = nmslib.init(method="hnsw", space="cosinesimil")
        self._index.addDataPointBatch(embeddings)
        parameters = {"M": M, "efConstruction": EF_CONSTRUCTION, "indexThreadQty": threads}
        self._index.createIndex(parameters, print_progress=False)
        self._index.setQueryTimeParams({"efSearch": EF_SEARCH})
        self.build_s = time.monotonic() - start

    def top_k(self, article_ids: Ids, k: int) -> list[tuple[Ids, Floats]]:
        """For each article (Q,) the ids and distances (at most k,) of other articles, nearest
        first.
        """
        answers = self._index.knnQueryBatch(
            self._embeddings[article_ids], k=k + 1, num_threads=self._threads
        )
        results = []
        # An approximate index need not return the query itself, nor return it first: remove it by
        # its id.
        for article, (ids, distances) in zip(article_ids, answers, strict=True):
            others = ids != article
            nearest, near = ids[others][:k], distances[others][:k]
            results.append((nearest.astype(np.int32), near.astype(np.float32)))
        return results


def measure_recall(
    exact: ExactIndex,
    article_ids: Ids,
    *,
    groups: Ids | None = None,
    k: int = 10,
    threads: int = 1,
) -> dict[str, Any]:
    """Recall at k of HNSW against the exact lists of articles (Q,); an article as near as the exact
    k-th counts as found.

    Why also without copies: a graph links copies to each other first, so that a search finds them
    and misses the others.

    Args:
        groups: (N,), articles that show one image, see `Catalog.groups`; None: all differ.

    Returns:
        recall_at_<k>, queries and settings; with groups also the number of copies, and recall and
        number of the queries that are none (recall None: there are none).
    """
    k, embeddings = min(k, len(exact) - 1), exact.bank.items
    approximate = HnswIndex(embeddings, threads=threads)
    furthest = exact.top_k(article_ids, k).costs[:, -1]
    # The index's own distances are not believed: they are computed again from the ids.
    hits = np.array(
        [
            np.count_nonzero(exact.distances(embeddings[article][None])[0, ids] <= kth + NEAR)
            for article, kth, (ids, _) in zip(
                article_ids, furthest, approximate.top_k(article_ids, k), strict=True
            )
        ]
    )
    measured: dict[str, Any] = {f"recall_at_{k}": float(hits.mean() / k)}
    if groups is not None:
        single = hits[groups[article_ids] == 0]
        measured |= {
            f"recall_at_{k}_without_copies": float(single.mean() / k) if len(single) else None,
            "queries_without_copies": len(single),
            "copies": int(np.count_nonzero(groups)),
        }
    return measured | {
        "queries": len(article_ids),
        "build_s": round(approximate.build_s, 3),
        "m": M,
        "ef_construction": EF_CONSTRUCTION,
        "ef_search": EF_SEARCH,
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the C++ streams of this process, which Python's redirections do not reach."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in (*saved, sink):
            os.close(descriptor)
