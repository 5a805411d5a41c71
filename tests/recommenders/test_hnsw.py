import subprocess
import sys

import numpy as np
import pytest

from advrec.recommenders import hnsw, ranks
from advrec.recommenders.ranks import similar_articles


def test_lists_hold_k_other_articles_and_recall_is_measured():
    embeddings = np.random.default_rng(0).normal(size=(400, 24)).astype(np.float32)
    embeddings[1] = embeddings[0]  # a duplicate: the index may return either first
    queries = np.arange(50, dtype=np.int32)
    for article, (ids, _) in zip(
        queries, hnsw.HnswIndex(embeddings).top_k(queries, 10), strict=True
    ):
        assert len(set(ids)) == 10
        assert article not in ids
    measured = hnsw.measure_recall(similar_articles(embeddings), queries, k=10)
    assert measured["recall_at_10"] >= 0.95
    assert measured["queries"] == 50


def test_recall_falls_when_lists_are_wrong(monkeypatch):
    embeddings = np.random.default_rng(0).normal(size=(300, 24)).astype(np.float32)
    wrong = [(np.arange(290, 300, dtype=np.int32), np.zeros(10, dtype=np.float32))] * 20
    monkeypatch.setattr(hnsw.HnswIndex, "top_k", lambda self, ids, k: wrong)
    assert (
        hnsw.measure_recall(similar_articles(embeddings), np.arange(20, dtype=np.int32))[
            "recall_at_10"
        ]
        < 0.2
    )


def test_recall_without_copies_is_that_of_a_naive_loop(monkeypatch):
    """A quarter of the articles show one image."""
    random = np.random.default_rng(3)
    embeddings = random.normal(size=(1200, 16)).astype(np.float32)
    embeddings[::4] = embeddings[0]
    groups = np.zeros(1200, dtype=np.int32)
    groups[::4] = 1
    queries, exact = np.arange(200, dtype=np.int32), similar_articles(embeddings)
    index = hnsw.HnswIndex(embeddings)  # another build has other lists
    monkeypatch.setattr(hnsw, "HnswIndex", lambda *_, **__: index)
    measured = hnsw.measure_recall(exact, queries, groups=groups)
    lists = index.top_k(queries, 10)
    found = {}
    for article, (ids, _) in zip(queries.tolist(), lists, strict=True):
        others = [other for other in range(1200) if other != article]
        distances = ranks.pair_distances(np.tile(embeddings[article], (1200, 1)), embeddings)
        kth = sorted(distances[others])[9]
        found[article] = sum(distances[other] <= kth + 1e-6 for other in ids) / 10
    single = [share for article, share in found.items() if article % 4]
    assert measured["recall_at_10"] == pytest.approx(np.mean(list(found.values())))
    assert measured["recall_at_10_without_copies"] == pytest.approx(np.mean(single))
    assert measured["queries_without_copies"] == 150
    assert measured["copies"] == 300


def test_importing_nmslib_prints_nothing():
    code = (
        "import numpy as np; from advrec.recommenders.hnsw import HnswIndex\n"
        "HnswIndex(np.eye(4, dtype=np.float32))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
