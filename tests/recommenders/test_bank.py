"""A bank of many queries ranks as a loop does, with ties and what was seen; one of similar
articles is the bank of one row a tuple.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advrec.recommenders.bank import Bank, NoDistanceError, Seen
from advrec.recommenders.losses import cosine_distance
from advrec.recommenders.ranks import ExactIndex, similar_articles
from tests.recommenders.test_ranks import small_tiles


def score(bank, query, embedding):
    """By the definition, in float64."""
    vector = (bank.items if bank.queries is None else bank.queries)[query].astype(np.float64)
    embedding = embedding.astype(np.float64)
    product = (vector * embedding).sum()
    if bank.unit:
        # In the order of the formula of distances: ties must be ties to the last bit.
        lengths = (vector * vector).sum() * (embedding * embedding).sum()
        product = -(1.0 - product / np.sqrt(lengths))
    return product


def brute_force_rank(bank, seen, query, article, candidate):
    own = score(bank, query, candidate)
    return 1 + sum(
        score(bank, query, item) > own
        for j, item in enumerate(bank.items)
        if j != article and j not in seen[query]
    )


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    ties=st.booleans(),
    unit=st.booleans(),
    articles=st.integers(2, 25),
    queries=st.integers(1, 9),
    dimension=st.integers(1, 6),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    rows=st.integers(1, 12),
    width=st.integers(1, 26),
)
def test_many_queries_rank_as_a_loop_does(
    seed, ties, unit, articles, queries, dimension, scale, rows, width
):
    random = np.random.default_rng(seed)

    def draw(*shape):
        values = random.integers(1, 3, size=shape) if ties else random.normal(size=shape)
        return (values * (1.0 if ties else scale)).astype(np.float32)

    seen = [random.permutation(articles)[: random.integers(articles)] for _ in range(queries)]
    bank = Bank(
        items=draw(articles, dimension),
        queries=draw(queries, dimension),
        seen=Seen.of(seen),
        unit=unit,
    )
    query_ids = random.integers(queries, size=8).astype(np.int32)
    article_ids = random.integers(articles, size=8).astype(np.int32)
    candidates = bank.items[random.integers(articles, size=8)].copy()
    if not ties:
        candidates[::2] += draw(4, dimension) * np.float32(1e-3)
    with small_tiles(rows, width):
        ranks = ExactIndex(bank).ranks(query_ids, article_ids, candidates)
    asked = zip(query_ids, article_ids, candidates, strict=True)
    assert ranks.tolist() == [brute_force_rank(bank, seen, q, a, c) for q, a, c in asked]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), articles=st.integers(3, 30))
def test_one_row_a_tuple_is_the_index_of_similar_articles(seed, articles):
    random = np.random.default_rng(seed)
    items = random.normal(size=(articles, 5)).astype(np.float32)
    targets = random.integers(articles, size=12).astype(np.int32)
    attacks = ((targets + random.integers(1, articles, size=12)) % articles).astype(np.int32)
    candidates = items[random.integers(articles, size=12)]
    rows = np.arange(12, dtype=np.int32)
    bank = Bank(items=items, queries=items[targets], seen=Seen.of([t] for t in targets))
    one, today = ExactIndex(bank), similar_articles(items)
    assert (one.ranks(rows, attacks, candidates) == today.ranks(targets, attacks, candidates)).all()
    assert one.nearest_distances(rows, attacks) == pytest.approx(
        today.nearest_distances(targets, attacks), abs=1e-6
    )


def test_the_best_articles_of_a_query_leave_out_what_it_has_seen():
    items = np.arange(1, 7, dtype=np.float32)[:, None]
    bank = Bank(
        items=items,
        queries=np.array([[1], [-1]], dtype=np.float32),
        seen=Seen.of([[5], [0, 1]]),
        unit=False,
    )
    best = ExactIndex(bank).top_k(np.array([0, 1]), 3)
    assert best.ids.tolist() == [[4, 3, 2], [2, 3, 4]]
    assert best.costs.tolist() == [[-5, -4, -3], [3, 4, 5]]
    with pytest.raises(ValueError, match="fewer articles"):
        ExactIndex(bank).top_k(np.array([0, 1]), 5)


def test_arrays_are_kept_and_not_copied():
    items, queries = np.ones((4, 3), dtype=np.float32), np.ones((2, 3), dtype=np.float32)
    items.setflags(write=False)  # as in Ray's object store
    bank = Bank(items=items, queries=queries)
    assert bank.items is items
    assert bank.queries is queries


def of_ones(**changes):
    arrays = {"items": np.ones((4, 3)), "queries": np.ones((2, 3))}
    seen = changes.pop("seen", Seen.of([[0], [1]]))
    unit = changes.pop("unit", True)
    arrays = {name: np.asarray(value, np.float32) for name, value in (arrays | changes).items()}
    return Bank(**arrays, seen=seen, unit=unit)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"queries": np.ones((2, 2))}, "D = 3"),
        ({"items": np.ones(4)}, "need"),
        ({"items": np.ones((0, 3))}, "not empty"),
        ({"items": np.zeros((4, 3))}, "article 0 is zero"),
        ({"queries": [[1, 1, 1], [0, 0, 0]]}, "query 1 is zero"),
        ({"queries": [[1, 1, 1], [np.nan, 0, 0]], "unit": False}, "query 1 is not finite"),
        ({"seen": Seen.of([[0]])}, "1 queries; the bank has 2"),
        ({"seen": Seen.of([[0], [4]])}, "outside 0..3"),
        ({"seen": Seen(np.array([0, 2, 1]), np.array([0], np.int32))}, "rise"),
        (
            {"items": np.full((4, 3), 1e30), "queries": np.full((2, 3), 1e30), "unit": False},
            "large",
        ),
    ],
)
def test_a_bank_that_does_not_fit_together_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        of_ones(**changes)


def test_zero_vectors_are_allowed_where_length_does_not_count():
    bank = of_ones(items=np.zeros((4, 3)), unit=False)
    rank = ExactIndex(bank).ranks(np.array([0]), np.array([1]), np.zeros((1, 3), np.float32))
    assert rank.tolist() == [1]  # all scores are equal, and ties go to the adversary


@pytest.mark.parametrize("length", [1e-7, 1e-3, 1.0, 1e8, 1e17])
def test_attacks_and_ranks_agree_on_distances_at_every_length_that_is_taken(length):
    vectors = np.random.default_rng(0).normal(size=(40, 8))
    vectors *= length / np.linalg.norm(vectors, axis=1, keepdims=True)
    items = vectors.astype(np.float32)
    ids = np.arange(40, dtype=np.int32)
    exact = ExactIndex(Bank(items=items)).pair_costs(ids, np.roll(items, 1, axis=0))
    attack = cosine_distance(torch.from_numpy(np.roll(items, 1, axis=0)), torch.from_numpy(items))
    np.testing.assert_allclose(attack.numpy(), exact, atol=1e-6)


@pytest.mark.parametrize("length", [1e-10, 1e20])
def test_vectors_are_refused_at_lengths_where_attacks_and_ranks_disagree(length):
    items = np.ones((3, 4), dtype=np.float32)
    items[1] *= np.float32(length)
    near = torch.from_numpy(items[1:2])
    assert not abs(float(cosine_distance(near, near))) < 0.1  # of itself: 0, or no number
    with pytest.raises(NoDistanceError, match=r"article 1 has the length .* multiply") as refused:
        Bank(items=items)
    assert refused.value.row == 1
