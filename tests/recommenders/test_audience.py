"""Ranks for whole audiences and what they are worth, against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advrec.recommenders import audience
from advrec.recommenders.audience import Audience
from advrec.recommenders.bank import Bank, Seen
from advrec.recommenders.ranks import ExactIndex


def banks(rng, n, users, *, unit, queries):
    """A bank of small whole numbers, so that ties are many."""
    seen = [rng.choice(n, rng.integers(0, n - 1), replace=False) for _ in range(users)]
    return Bank(
        items=rng.integers(1, 4, (n, 3)).astype(np.float32),
        queries=rng.integers(1, 4, (users, 3)).astype(np.float32) if queries else None,
        seen=Seen.of(seen) if queries else None,
        unit=unit,
    )


def brute_rank(bank, query, article, candidate):
    """1 + the number of better articles that compete, pair by pair."""
    index, asked = ExactIndex(bank), np.array([query], np.int32)

    def cost(vector):
        return index.pair_costs(asked, vector[None])[0]

    out = set(bank.excluded(asked).articles.tolist()) | {int(article)}
    own = cost(candidate)
    return 1 + sum(cost(bank.items[j]) < own for j in range(len(bank)) if j not in out)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    unit=st.booleans(),
    queries=st.booleans(),
    n=st.integers(3, 9),
)
def test_04_ranks_of_an_audience_equal_brute_force_with_ties(seed, unit, queries, n):
    rng = np.random.default_rng(seed)
    bank = banks(rng, n, 4, unit=unit, queries=queries)
    asked = np.arange(bank.num_queries, dtype=np.int32)[:4]
    articles = rng.choice(n, 2, replace=False).astype(np.int32)
    candidates = rng.integers(1, 4, (2, 3, 3)).astype(np.float32)
    candidates[:, 0] = bank.items[articles]  # unchanged
    candidates[0, 1] = bank.items[(articles[0] + 1) % n]  # a tie with a rival
    ranks = audience.ranks_for_all(ExactIndex(bank), asked, articles, candidates)
    expected = [
        [[brute_rank(bank, q, a, c) for q in asked] for c in each]
        for a, each in zip(articles, candidates, strict=True)
    ]
    assert ranks.tolist() == expected


def test_04_an_audience_is_ranked_in_pieces_as_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    bank = Bank(
        items=rng.normal(size=(50, 4)).astype(np.float32),
        queries=rng.normal(size=(30, 4)).astype(np.float32),
        unit=False,
    )
    asked, articles = np.arange(30, dtype=np.int32), np.array([3, 7], np.int32)
    candidates = rng.normal(size=(2, 2, 4)).astype(np.float32)
    whole = audience.ranks_for_all(ExactIndex(bank), asked, articles, candidates)
    monkeypatch.setattr(audience, "BYTES", 8 * 50 * 7)
    monkeypatch.setattr(audience, "TILE", 16)
    monkeypatch.setattr(audience, "KEPT", 0)
    assert np.array_equal(
        audience.ranks_for_all(ExactIndex(bank), asked, articles, candidates), whole
    )


def test_04_costs_that_only_float64_tells_apart_rank_as_they_are():
    rng = np.random.default_rng(3)
    near = 1.0 + 1e-7 * rng.integers(0, 4, (40, 2))  # float32 has two or three values for these
    bank = Bank(
        items=near.astype(np.float32), queries=np.array([[3.0, 0.7]], np.float32), unit=False
    )
    articles = np.arange(8, dtype=np.int32)
    candidates = np.stack([bank.items[articles], bank.items[articles + 9]], axis=1)
    ranks = audience.ranks_for_all(ExactIndex(bank), np.zeros(1, np.int32), articles, candidates)
    expected = [
        [[brute_rank(bank, 0, article, each)] for each in both]
        for article, both in zip(articles, candidates, strict=True)
    ]
    assert ranks.tolist() == expected
    assert len(np.unique(ranks)) > 4


# of 203 items
EQUAL = np.arange(3, 203, 10, dtype=np.int32)


def across(seed):
    """Seven queries that the `EQUAL` items are orthogonal to, but for rounding."""
    rng = np.random.default_rng(seed)
    items = 100.0 * rng.normal(size=(203, 65)).astype(np.float32)
    one = items[EQUAL] = items[3]
    queries = 100.0 * rng.normal(size=(7, 65))
    queries -= np.outer(queries @ one / (one @ one), one)
    return Bank(items=items, queries=queries.astype(np.float32), unit=False)


@pytest.mark.parametrize("seed", range(4))
def test_04_equal_items_stay_ties_however_small_their_product_is(seed):
    """A product errs by the lengths of its vectors, and not by itself."""
    bank, asked = across(seed), np.arange(7, dtype=np.int32)
    index, candidates = ExactIndex(bank), bank.items[EQUAL][:, None]
    found = audience.ranks_for_all(index, asked, EQUAL, candidates)[:, 0]
    for query in asked:
        expected = index.ranks(np.repeat(query, 20), EQUAL, candidates[:, 0])
        assert found[:, query].tolist() == expected.tolist()


def test_thresholds_are_computed_once_for_all_blocks(monkeypatch):
    rng = np.random.default_rng(4)
    bank = Bank(items=rng.normal(size=(30, 4)).astype(np.float32))
    index, asked, passes = ExactIndex(bank), np.arange(5, dtype=np.int32), []
    tiles = index._tiles
    monkeypatch.setattr(index, "_tiles", lambda *args: passes.append(args) or tiles(*args))
    for ids, rank, total in ((asked, 3, 1), (asked.copy(), 3, 1), (asked, 4, 2), (asked[:4], 4, 3)):
        found = audience.thresholds(index, ids, rank)
        assert len(passes) == total
        fresh = audience.thresholds(ExactIndex(bank), ids, rank)
        assert all(np.array_equal(one, other) for one, other in zip(found, fresh, strict=True))


def test_the_threshold_of_an_article_is_that_of_its_k_th_best_rival():
    rng = np.random.default_rng(1)
    bank = Bank(
        items=rng.normal(size=(12, 4)).astype(np.float32),
        queries=rng.normal(size=(5, 4)).astype(np.float32),
        seen=Seen.of([[0, 1], [], [2], [], [11]]),
        unit=False,
    )
    index, asked = ExactIndex(bank), np.arange(5, dtype=np.int32)
    limits = audience.thresholds(index, asked, 3)
    costs = audience.costs_of(bank, asked, bank.items[:, None])[:, 0]
    below = limits.against(costs)
    for query in asked:
        out = set(bank.excluded(asked[query : query + 1]).articles.tolist())
        for article in set(range(12)) - out:
            rivals = sorted(costs[j, query] for j in range(12) if j not in out | {article})
            assert below[article, query] == pytest.approx(rivals[2], rel=1e-6)


def test_04_what_ranks_are_worth_equals_the_definition():
    ranks = np.array([[1, 2, 5, 11], [3, 3, 3, 40]], np.int32)
    weights = np.array([[1.0, 1.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    assert audience.hit_rate(ranks, weights, 2).tolist() == [0.5, 0.0]
    assert audience.hit_rate(ranks, weights, 1000).tolist() == [1.0, 1.0]  # K above the catalog
    gains = [(1 + 1 / np.log2(3) + 2 / np.log2(6)) / 4, 3 / np.log2(4) / 4]
    assert audience.gain(ranks, weights, 10) == pytest.approx(gains)
    assert audience.median_rank(ranks, weights).tolist() == [3.5, 3.0]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_with_equal_weights_the_median_is_the_usual_one(values):
    ranks = np.array([values], np.int32)
    assert audience.median_rank(ranks, np.full(ranks.shape, 0.1)) == [np.median(values)]


def test_who_has_seen_an_article_is_not_of_its_audience():
    rng = np.random.default_rng(2)
    bank = Bank(
        items=rng.normal(size=(4, 2)).astype(np.float32),
        queries=rng.normal(size=(3, 2)).astype(np.float32),
        seen=Seen.of([[0, 1], [], [3]]),
        unit=False,
    )
    everyone = Audience("users", np.arange(3, dtype=np.int32), np.array([1.0, 2.0, 3.0]))
    members = everyone.members(bank, np.array([0, 3], np.int32))
    assert members.tolist() == [[0.0, 2.0, 3.0], [1.0, 2.0, 0.0]]
    # a target that is promoted itself is none of its own
    similar = Bank(items=bank.items)
    targets = Audience("targets", np.array([1, 3], np.int32), np.ones(2))
    assert targets.members(similar, np.array([3], np.int32)).tolist() == [[1.0, 0.0]]
