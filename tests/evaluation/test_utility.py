"""Utility of recommenders: counted as a loop counts it, ties and what was seen included.
And attacks on embeddings, as published.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advrec.catalog.interactions import Interactions
from advrec.evaluation import features, utility
from advrec.recommenders.bank import Bank, Seen
from advrec.recommenders.hybrid import SHAPES, Factors, spread
from advrec.recommenders.purchases import Purchases


def drawn(seed, users=6, articles=9, each=4):
    random = np.random.default_rng(seed)
    lists = [random.permutation(articles)[: random.integers(1, each + 1)] for _ in range(users)]
    owners = np.repeat(np.arange(users), [len(one) for one in lists])
    return Interactions.of(owners, np.concatenate(lists), num_users=users, num_articles=articles)


def orders_of(scores, candidates):
    """Every ranking of the candidates that their scores allow."""
    return [
        order
        for order in itertools.permutations(candidates)
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([1, 2, 4]))
def test_04_auc_hr_and_ndcg_are_the_mean_over_all_orders_of_ties(seed, levels):
    known = drawn(seed, articles=6)
    scores = np.random.default_rng(seed).integers(levels, size=(6, 6)).astype(float)
    found = utility.standings(lambda users: scores[users], known)
    starts, bought = known.seen()
    for place, (user, article) in enumerate(zip(*known.held_out_pairs(), strict=True)):
        seen = set(bought[starts[user] : starts[user + 1]].tolist())
        candidates = [j for j in range(6) if j not in seen]
        ranks = [1 + order.index(article) for order in orders_of(scores[user], candidates)]
        for k in (1, 3, 100):
            assert found.hits(k)[place] == pytest.approx(np.mean([rank <= k for rank in ranks]))
            gains = [1 / np.log2(rank + 1) if rank <= k else 0.0 for rank in ranks]
            assert found.gains(k)[place] == pytest.approx(np.mean(gains))
        if len(candidates) > 1:
            below = [(len(candidates) - rank) / (len(candidates) - 1) for rank in ranks]
            assert found.auc()[place] == pytest.approx(np.mean(below))


def test_scores_of_a_bank_that_differ_by_rounding_alone_are_ties():
    random = np.random.default_rng(0)
    items = random.normal(size=(9, 700)).astype(np.float32)
    items[4:] = items[3]
    bank = Bank(items=items, queries=random.normal(size=(6, 700)).astype(np.float32), unit=False)
    owners, bought = np.repeat(np.arange(6), 2), np.tile([0, 5], 6)
    known = Interactions.of(owners, bought, num_users=6, num_articles=9)
    assert (utility.standings(utility.scores_of(bank), known).equal == 5).all()


def rows_of(bank, known):
    rows = utility.utility(bank, known)
    return {(row["by"], row["articles"], row["quantity"]): row for row in rows}


def test_the_table_has_warm_and_cold_articles_popularity_and_chance():
    known = drawn(3, users=40, articles=60, each=6)
    random = np.random.default_rng(0)
    items, queries = (random.normal(size=(n, 5)).astype(np.float32) for n in (60, 40))
    rows = rows_of(Bank(items=items, queries=queries, unit=False), known)
    held = known.held_out.sum()
    assert rows["model", "all", "auc"]["n"] == held
    parts = [rows["model", kind, "auc"]["n"] for kind in ("warm", "cold")]
    assert sum(parts) == held
    assert min(parts) > 0
    assert rows["chance", "all", "auc"]["value"] == 0.5
    assert rows["chance", "all", "auc"]["low"] is None
    sizes = 60 - known.sizes[known.sizes > 1] + 1
    assert rows["chance", "all", "hr@10"]["value"] == pytest.approx(np.mean(10 / sizes))
    assert rows["popularity", "cold", "auc"]["value"] < 0.3
    for row in rows.values():
        if row["low"] is not None:
            assert row["low"] <= row["value"] <= row["high"]


def factors(seed=0, users=30, articles=40, **zeros):
    random = np.random.default_rng(seed)
    sizes = {"N": articles, "U": users, "k": 3, "m": 3, "D": 8}
    made = {
        name: random.normal(size=[sizes[letter] for letter in letters]).astype(np.float32)
        for name, letters in SHAPES.items()
    }
    return Factors(**made), random.normal(size=(articles, 8)).astype(np.float32)


def test_attacked_embeddings_move_by_epsilon_and_raise_the_ranking_loss():
    made, embeddings = factors()
    known = drawn(1, users=30, articles=40, each=8)
    moves = features.directions(made, embeddings, known, seed=4)
    lengths = np.linalg.norm(moves, axis=1)
    assert np.allclose(lengths[lengths > 0], 1.0)
    users, held = known.held_out_pairs()
    owned = Purchases(known.query_ids, known.article_ids, num_users=30, num_articles=40)
    random = np.random.default_rng(4)
    draws = [owned.others(users, random) for _ in range(features.DRAWS)]

    def loss(images):
        items = made.candidates(images.astype(np.float32), np.arange(40, dtype=np.int32))
        margins = [(made.queries()[users] * (items[held] - items[each])).sum(1) for each in draws]
        return np.logaddexp(0.0, -np.concatenate(margins).astype(np.float64)).sum()

    clean = loss(embeddings)
    assert loss(embeddings + 0.01 * moves) > clean
    for article in (held[0], draws[0][0]):  # the direction is that of finite differences
        slope = np.zeros(8)
        for value in range(8):
            step = np.zeros_like(embeddings)
            step[article, value] = 1e-2
            slope[value] = (loss(embeddings + step) - loss(embeddings - step)) / 2e-2
        assert np.allclose(moves[article], slope / np.linalg.norm(slope), atol=2e-2)


def test_the_fall_under_attack_is_that_of_ndcg_at_10():
    made, embeddings = factors()
    known = drawn(1, users=30, articles=40, each=8)
    rows = features.relative_changes(made, embeddings, known, seed=4)
    assert [row["epsilon"] for row in rows] == [0.05, 0.1, 0.2]
    moves = features.directions(made, embeddings, known, seed=4)
    seen = Seen(*known.seen())
    for row in rows:
        moved = (embeddings + row["epsilon"] * spread(embeddings) * moves).astype(np.float32)
        after = rows_of(made.bank(moved, seen), known)["model", "all", "ndcg@10"]["value"]
        before = rows_of(made.bank(embeddings, seen), known)["model", "all", "ndcg@10"]["value"]
        assert row["before"] == pytest.approx(before)
        assert row["after"] == pytest.approx(after)
        assert row["percent"] == pytest.approx(100 * (after / before - 1))
        assert row["low_percent"] <= row["percent"] <= row["high_percent"] < 0


def test_a_ranking_that_sees_no_image_does_not_fall():
    made, embeddings = factors()
    for name in ("projection", "visual_bias"):
        getattr(made, name)[:] = 0.0
    known = drawn(1, users=30, articles=40, each=8)
    assert {
        row["percent"] for row in features.relative_changes(made, embeddings, known, seed=4)
    } == {0.0}
