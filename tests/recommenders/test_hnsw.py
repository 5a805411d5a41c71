import subprocess
import sys

import numpy as np

from advrec.recommenders import hnsw
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


def test_importing_nmslib_prints_nothing():
    code = (
        "import numpy as np; from advrec.recommenders.hnsw import HnswIndex\n"
        "HnswIndex(np.eye(4, dtype=np.float32))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
