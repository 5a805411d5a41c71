"""Ranks against a naive loop, with ties, with an image farther than all, and against the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advrec.index.exact import ExactIndex, pair_distances


def naive_rank(embeddings, target, attack, candidate):
    def distance(a, b):
        a, b = a.astype(np.float64), b.astype(np.float64)
        return 1.0 - sum(a * b) / (sum(a * a) * sum(b * b)) ** 0.5

    own = distance(embeddings[target], candidate)
    nearer = 0
    for j, other in enumerate(embeddings):
        # A tie in exact arithmetic may differ in the last bits here: the naive loop treats it as one, by a margin far below 1e-6.
        if j not in (target, attack) and distance(embeddings[target], other) < own - 1e-12:
            nearer += 1
    return 1 + nearer


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), articles=st.integers(3, 40), dimension=st.integers(2, 8), coarse=st.booleans())
def test_ranks_equal_a_naive_loop(seed, articles, dimension, coarse):
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(articles, dimension)).astype(np.float32)
    if coarse:  # small integers: many exact ties
        embeddings = random.integers(1, 3, size=(articles, dimension)).astype(np.float32)
    targets = random.integers(articles, size=10).astype(np.int32)
    attacks = ((targets + random.integers(1, articles, size=10)) % articles).astype(np.int32)
    candidates = embeddings[random.integers(articles, size=10)].copy()
    candidates[::2] += random.normal(size=candidates[::2].shape).astype(np.float32) * 0.1
    expected = [naive_rank(embeddings, t, a, c) for t, a, c in zip(targets, attacks, candidates, strict=True)]
    assert ExactIndex(embeddings).ranks(targets, attacks, candidates).tolist() == expected


def test_ties_go_to_the_adversary():
    embeddings = np.array([[1, 0], [1, 1], [1, 1], [1, 1], [0, 1]], dtype=np.float32)
    candidate = np.array([[2, 2]], dtype=np.float32)  # same direction as articles 1, 2 and 3
    assert ExactIndex(embeddings).ranks(np.array([0]), np.array([4]), candidate).tolist() == [1]


def test_an_image_farther_than_every_article_has_the_last_rank():
    embeddings = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    ranks = ExactIndex(embeddings).ranks(np.array([3]), np.array([9]), -embeddings[3:4])
    assert ranks.tolist() == [49]  # N - 1: the target and the attacked article's clean copy do not compete


def test_distances_closer_than_float32_resolves_are_counted_in_float64():
    near = np.array([1, 1e-4], dtype=np.float32)
    nearer = np.array([1, 0.99e-4], dtype=np.float32)  # cosine distances 5.0e-9 and 4.9e-9: both 0 in float32
    embeddings = np.array([[1, 0], nearer, [0, 1]], dtype=np.float32)
    index = ExactIndex(embeddings)
    assert index.ranks(np.array([0]), np.array([2]), near[None]).tolist() == [2]
    assert index.ranks(np.array([0]), np.array([2]), nearer[None]).tolist() == [1]


def test_the_clean_copy_of_the_attacked_article_does_not_compete():
    embeddings = np.array([[1, 0], [1, 0.1], [0, 1]], dtype=np.float32)
    candidate = np.array([[1, 0.2]], dtype=np.float32)
    assert ExactIndex(embeddings).ranks(np.array([0]), np.array([1]), candidate).tolist() == [1]


def test_ranks_do_not_depend_on_blocking(monkeypatch):
    random = np.random.default_rng(1)
    embeddings = random.normal(size=(200, 16)).astype(np.float32)
    targets, attacks = random.permutation(200)[:60].astype(np.int32), random.permutation(200)[:60].astype(np.int32)
    candidates = random.normal(size=(60, 16)).astype(np.float32)
    whole = ExactIndex(embeddings).ranks(targets, attacks, candidates)
    monkeypatch.setattr("advrec.index.exact.BLOCK_BYTES", 4 * 200 * 7)
    assert (ExactIndex(embeddings).ranks(targets, attacks, candidates) == whole).all()


def test_top_k_equals_sorting_and_leaves_the_article_out():
    embeddings = np.random.default_rng(2).normal(size=(40, 5)).astype(np.float32)
    ids, distances = ExactIndex(embeddings).top_k(np.array([7, 0], dtype=np.int32), 6)
    for row, article in enumerate((7, 0)):
        exact = [(pair_distances(embeddings[article][None], e[None])[0], j) for j, e in enumerate(embeddings) if j != article]
        assert ids[row].tolist() == [j for _, j in sorted(exact)[:6]]
        assert distances[row] == pytest.approx([d for d, _ in sorted(exact)[:6]], abs=1e-6)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_an_embedding_without_a_direction_is_refused_by_its_article(bad):
    embeddings = np.ones((4, 3), dtype=np.float32)
    embeddings[2] = bad
    with pytest.raises(ValueError, match="article 2"):
        ExactIndex(embeddings)


def test_a_candidate_that_is_not_finite_is_refused():
    index = ExactIndex(np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match="finite"):  # a NaN compares as nearest of all
        index.ranks(np.array([0]), np.array([1]), np.full((1, 3), np.nan, dtype=np.float32))


def test_no_distance_falls_between_the_two_counts(monkeypatch):
    """Distances on both sides of 1e-6 below the candidate's, at the finest steps of float32: each is counted, one way or the other."""
    candidate = np.array([[1.0, 0.7]], dtype=np.float32)
    embeddings = np.array([[1, 0], [0, 1], *[[1.0, 0.69]] * 400], dtype=np.float32)  # all truly nearer than the candidate
    index = ExactIndex(embeddings)
    own = pair_distances(embeddings[:1], candidate)[0]
    around = np.concatenate([[0.0, 1.0], own - 1e-6 + np.linspace(-3e-7, 3e-7, 400)]).astype(np.float32)
    monkeypatch.setattr(index, "distances", lambda queries: np.tile(around, (len(queries), 1)))
    assert index.ranks(np.array([0]), np.array([1]), candidate).tolist() == [401]


def test_float32_distances_err_by_less_than_what_is_recounted():
    random = np.random.default_rng(3)
    embeddings = np.abs(random.normal(size=(300, 1280))).astype(np.float32)  # like features after a ReLU: all near each other
    approximate = ExactIndex(embeddings).distances(embeddings[:20])
    for row in range(20):
        exact = pair_distances(np.broadcast_to(embeddings[row], embeddings.shape), embeddings)
        assert np.abs(approximate[row] - exact).max() < 1e-6
