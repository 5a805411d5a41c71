"""What a defense changes, against loops written out naively."""

import numpy as np
import pytest

from advrec.evaluation.changes import changes
from advrec.recommenders.drift import drift


def distances(query, catalog):
    units = catalog / np.linalg.norm(catalog, axis=1, keepdims=True)
    return 1.0 - units @ (query / np.linalg.norm(query))


def test_changes_are_those_of_a_plain_loop():
    random = np.random.default_rng(3)
    original = random.normal(size=(60, 5)).astype(np.float32)
    own = (original + random.normal(size=(60, 5), scale=0.6)).astype(np.float32)
    articles = np.arange(7, 30, dtype=np.int32)
    rows = changes(own, original, articles).to_pandas()
    assert rows["article_id"].tolist() == articles.tolist()
    for place, article in enumerate(articles):
        others = [n for n in range(60) if n != article]
        true, mine = (
            sorted(others, key=lambda n, each=each: distances(each[article], each)[n])[:10]
            for each in (original, own)
        )
        row = rows.iloc[place]
        length = np.linalg.norm(original[article])
        assert row["drift"] == pytest.approx(
            np.linalg.norm(own[article] - original[article]) / length, rel=1e-5
        )
        assert row["overlap"] == len(set(true) & set(mine)) / 10
        for name, query, catalog in (("new", own, original), ("old", original, own)):
            far = distances(query[article], catalog)
            expected = [1 + sum(far[j] < far[n] for j in others if j != n) for n in true]
            assert row[f"{name}_query_ranks"].tolist() == expected


def test_a_model_that_changed_nothing_keeps_every_list_and_both_indexes_serve():
    original = np.random.default_rng(4).normal(size=(30, 4)).astype(np.float32)
    rows = changes(original, original, np.arange(30, dtype=np.int32)).to_pandas()
    assert (rows["drift"] == 0).all()
    assert (rows["overlap"] == 1).all()
    for name in ("new", "old"):
        assert np.stack(rows[f"{name}_query_ranks"]).tolist() == [list(range(1, 11))] * 30


def test_drift_of_what_was_nothing_is_nothing_where_it_did_not_move_and_infinite_where_it_did():
    before = np.array([[3, 4], [0, 0], [0, 0]], dtype=np.float32)
    after = np.array([[3, 9], [0, 0], [0, 1]], dtype=np.float32)
    assert drift(after, before).tolist() == [1.0, 0.0, np.inf]


def test_a_small_catalog_has_short_lists():
    rows = changes(
        np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32), np.array([1], dtype=np.int32)
    ).to_pandas()
    assert len(rows["new_query_ranks"][0]) == 3
