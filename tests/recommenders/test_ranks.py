"""Ranks against a naive loop, with ties, with an image farther than all, and against the
definition.
"""

import contextlib
import itertools
import tracemalloc
from fractions import Fraction
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from advrec.catalog.duplicates import equal_images
from advrec.recommenders import ranks
from advrec.recommenders.ranks import pair_distances, similar_articles


def naive_distance(a, b):
    """By the formula of `pair_distances`, one pair at a time: equal to the last bit."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return 1.0 - (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def naive_rank(embeddings, target, attack, candidate):
    own = naive_distance(embeddings[target], candidate)
    return 1 + sum(
        naive_distance(embeddings[target], other) < own
        for j, other in enumerate(embeddings)
        if j not in (target, attack)
    )


def rational(vector):
    return [Fraction(float(value)) for value in vector]


def exact_cosine(a, b):
    """Cosine of two vectors times the length of the first, its sign and its square, in rational
    arithmetic.
    """
    a, b = rational(a), rational(b)
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product * abs(product) / sum(y * y for y in b)


def exact_ranks(embeddings, target, attack, candidate):
    """The lowest and the highest rank that exact arithmetic allows where float64 may take a
    difference of a few last bits of a distance for a tie, or the other way round.
    """
    own, length = (
        exact_cosine(embeddings[target], candidate),
        sum(x * x for x in rational(embeddings[target])),
    )
    others = [
        exact_cosine(embeddings[target], other)
        for j, other in enumerate(embeddings)
        if j not in (target, attack)
    ]
    margin = Fraction(4e-15) * length  # of squared cosines, whose slope is 2 at most
    return 1 + sum(c > own + margin for c in others), 1 + sum(c > own - margin for c in others)


def catalog(random, kind, articles, dimension):
    """Embeddings that are all different, full of exact ties, or nearer to each other than float32
    resolves.
    """
    if kind == "ties":
        return random.integers(1, 3, size=(articles, dimension)).astype(np.float32)
    made = random.normal(size=(articles, dimension))
    return (made if kind == "different" else made[:1] + 1e-3 * made).astype(np.float32)


def small_tiles(rows, width, pairs=2):
    """The index in pieces: so many rows at once, so many articles a tile (more where rows are
    fewer), so many pairs in float64.
    """
    return patch.multiple(ranks, ROWS=rows, TILE_BYTES=4 * rows * width, PAIRS=pairs)


@settings(max_examples=150, deadline=None)
# two distances of about 1e-12 that differ, and a loop that takes what is so near for a tie
@example(seed=13, kind="near", articles=31, dimension=2, rows=1, width=1, pairs=1)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["different", "ties", "near"]),
    articles=st.integers(3, 40),
    dimension=st.integers(2, 8),
    rows=st.integers(1, 12),
    width=st.integers(1, 41),
    pairs=st.integers(1, 5),
)
def test_ranks_and_nearest_distances_equal_a_naive_loop(
    seed, kind, articles, dimension, rows, width, pairs
):
    random = np.random.default_rng(seed)
    embeddings = catalog(random, kind, articles, dimension)
    targets = random.integers(articles, size=10).astype(np.int32)
    targets[1] = targets[0]
    attacks = ((targets + random.integers(1, articles, size=10)) % articles).astype(np.int32)
    for row in range(0, 10, 3):  # the attacked article is the nearest
        others = [j for j in range(articles) if j != targets[row]]
        attacks[row] = min(
            others, key=lambda j, row=row: naive_distance(embeddings[targets[row]], embeddings[j])
        )
    candidates = embeddings[random.integers(articles, size=10)].copy()
    candidates[::2] += random.normal(size=candidates[::2].shape).astype(np.float32) * (
        1e-3 if kind == "near" else 0.1
    )
    with small_tiles(rows, width, pairs):
        ranks = similar_articles(embeddings).ranks(targets, attacks, candidates)
        nearest = similar_articles(embeddings).nearest_distances(targets, attacks)
        third = similar_articles(embeddings).nearest_distances(targets, attacks, 3)
    rows = list(zip(targets, attacks, candidates, strict=True))
    assert ranks.tolist() == [naive_rank(embeddings, t, a, c) for t, a, c in rows]
    for rank, (t, a, c) in zip(ranks, rows, strict=True):
        lowest, highest = exact_ranks(embeddings, t, a, c)
        assert lowest <= rank <= highest
    for first, beyond, (t, a, _) in zip(nearest, third, rows, strict=True):
        expected = sorted(
            naive_distance(embeddings[t], other)
            for j, other in enumerate(embeddings)
            if j not in (t, a)
        )
        assert first == pytest.approx(expected[0], abs=1e-6)
        assert beyond == pytest.approx([*expected, np.inf, np.inf][2], abs=1e-6)


def test_ties_go_to_the_adversary():
    embeddings = np.array([[1, 0], [1, 1], [1, 1], [1, 1], [0, 1]], dtype=np.float32)
    candidate = np.array([[2, 2]], dtype=np.float32)  # same direction as articles 1, 2 and 3
    assert similar_articles(embeddings).ranks(np.array([0]), np.array([4]), candidate).tolist() == [
        1
    ]


def test_an_image_farther_than_every_article_has_the_last_rank():
    embeddings = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    ranks = similar_articles(embeddings).ranks(np.array([3]), np.array([9]), -embeddings[3:4])
    # N - 1: the target and the attacked article's clean copy do not compete
    assert ranks.tolist() == [49]


def test_distances_closer_than_float32_resolves_are_counted_in_float64():
    near = np.array([1, 1e-4], dtype=np.float32)
    # cosine distances 5.0e-9 and 4.9e-9: both 0 in float32
    nearer = np.array([1, 0.99e-4], dtype=np.float32)
    embeddings = np.array([[1, 0], nearer, [0, 1], nearer], dtype=np.float32)
    index = similar_articles(embeddings)
    assert index.ranks(np.array([0]), np.array([2]), near[None]).tolist() == [3]
    assert index.ranks(np.array([0]), np.array([2]), nearer[None]).tolist() == [1]


def test_the_clean_copy_of_the_attacked_article_does_not_compete():
    embeddings = np.array([[1, 0], [1, 0.1], [0, 1]], dtype=np.float32)
    candidate = np.array([[1, 0.2]], dtype=np.float32)
    assert similar_articles(embeddings).ranks(np.array([0]), np.array([1]), candidate).tolist() == [
        1
    ]


@pytest.mark.parametrize(
    ("target", "attack"),
    [pair for pair in itertools.product([0, 2, 3, 8], range(9)) if pair[0] != pair[1]],
)
def test_target_and_attacked_article_do_not_compete_in_any_tile(target, attack):
    """At the first and last places of tiles of three: all articles are nearer than the candidate,
    none but the attacked one is near.
    """
    embeddings = np.tile(np.array([1, 1], dtype=np.float32), (9, 1))
    embeddings[[target, attack]] = [1, 0], [1, 0.1]
    with small_tiles(1, 3):
        index = similar_articles(embeddings)
        assert index.ranks(
            np.array([target]), np.array([attack]), np.array([[0, 1]], dtype=np.float32)
        ).tolist() == [8]
        assert index.ranks(
            np.array([target]), np.array([attack]), np.array([[1, 0.5]], dtype=np.float32)
        ).tolist() == [1]
        nearest = index.nearest_distances(np.array([target]), np.array([attack]))
    assert nearest == pytest.approx(1 - 0.5**0.5, abs=1e-6)


def test_an_article_equal_to_the_target_is_its_nearest():
    embeddings = np.array([[1, 0], [0, 1], [2, 0], [1, 1]], dtype=np.float32)
    nearest = similar_articles(embeddings).nearest_distances(np.array([0, 0]), np.array([1, 2]))
    # of the second row it is the attacked article
    assert nearest == pytest.approx([0, 1 - 0.5**0.5], abs=1e-6)


def test_ties_are_ties_in_any_order_of_memory():
    random = np.random.default_rng(5)
    embeddings = random.normal(size=(40, 300)).astype(np.float32)
    targets, attacks, same = np.arange(20), np.arange(1, 21), np.arange(20, 40)
    ranks = similar_articles(embeddings).ranks(targets, attacks, embeddings[same])
    assert (
        similar_articles(embeddings).ranks(targets, attacks, np.asfortranarray(embeddings[same]))
        == ranks
    ).all()
    assert (
        similar_articles(np.asfortranarray(embeddings)).ranks(targets, attacks, embeddings[same])
        == ranks
    ).all()


@contextlib.contextmanager
def peak_below(mib):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < mib * 2**20
    finally:
        tracemalloc.stop()


def test_a_catalog_of_equal_articles_is_recounted_in_little_memory():
    candidates = np.ones((4, 64), dtype=np.float32)
    candidates[::2, 0] += 1e-3  # farther than all others by less than float32 resolves
    index = similar_articles(np.ones((20_000, 64), dtype=np.float32))
    with peak_below(4):  # 41, were all pairs of a row taken to float64 at once
        ranks = index.ranks(np.arange(4), np.arange(4) + 9, candidates)
    assert ranks.tolist() == [19_999, 1, 19_999, 1]


def test_distances_are_held_a_tile_at_a_time():
    embeddings = np.random.default_rng(6).normal(size=(20_000, 8)).astype(np.float32)
    index, targets, attacks = similar_articles(embeddings), np.arange(1000), np.arange(1000) + 1
    with peak_below(16):  # 78, were the distances of 512 rows held to all articles
        index.ranks(targets, attacks, embeddings[attacks])
    with peak_below(16):
        index.nearest_distances(targets, attacks)
    with peak_below(32):  # ids of 8 bytes are sorted
        index.top_k(targets, 10)


def test_top_k_equals_sorting_and_leaves_the_article_out():
    embeddings = np.random.default_rng(2).normal(size=(40, 5)).astype(np.float32)
    with small_tiles(1, 7):
        ids, distances = similar_articles(embeddings).top_k(np.array([7, 0], dtype=np.int32), 9)
    for row, article in enumerate((7, 0)):
        exact_ones = [
            (pair_distances(embeddings[article][None], e[None])[0], j)
            for j, e in enumerate(embeddings)
            if j != article
        ]
        assert ids[row].tolist() == [j for _, j in sorted(exact_ones)[:9]]
        assert distances[row] == pytest.approx([d for d, _ in sorted(exact_ones)[:9]], abs=1e-6)


def test_top_k_gives_equal_articles_by_id():
    embeddings = np.array([[1, 0], [0, 1]] * 8, dtype=np.float32)
    with small_tiles(2, 5):
        ids, _ = similar_articles(embeddings).top_k(np.array([4, 1]), 9)
    assert ids.tolist() == [[0, 2, 6, 8, 10, 12, 14, 1, 3], [3, 5, 7, 9, 11, 13, 15, 0, 2]]


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_an_embedding_without_a_direction_is_refused_by_its_article(bad):
    embeddings = np.ones((4, 3), dtype=np.float32)
    embeddings[2] = bad
    with pytest.raises(ValueError, match="article 2"):
        similar_articles(embeddings)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_candidate_without_a_direction_is_refused(bad):
    candidates = np.ones((2, 3), dtype=np.float32)
    candidates[1] = bad
    with pytest.raises(ValueError, match="finite"):  # a NaN compares as nearest of all
        similar_articles(np.eye(3, dtype=np.float32)).ranks(
            np.array([0, 0]), np.array([1, 1]), candidates
        )


@pytest.mark.parametrize("other", np.linspace(0.5, 0.9, 9))
@pytest.mark.parametrize(("truly", "nearer"), [(0.4, True), (1.0, False)])
def test_no_distance_falls_between_the_two_counts(monkeypatch, other, truly, nearer):
    """What float32 says, at its finest steps around both bounds, matters only where it is more than
    1e-6 away from the candidate.
    """
    candidate = np.array([[1.0, other]], dtype=np.float32)
    embeddings = np.array([[1, 0], [0, 1], *[[1.0, truly]] * 800], dtype=np.float32)
    index = similar_articles(embeddings)
    own = pair_distances(embeddings[:1], candidate)[0]
    around = np.concatenate(
        [own + bound + np.linspace(-3e-7, 3e-7, 400) for bound in (-1e-6, 1e-6)]
    ).astype(np.float32)
    said = np.concatenate([np.array([0.0, 1.0], dtype=np.float32), around])
    monkeypatch.setattr(
        index, "_distances", lambda units, first, last: np.tile(said[first:last], (len(units), 1))
    )
    counted = index.ranks(np.array([0]), np.array([1]), candidate)[0] - 1
    if nearer:
        assert (around <= own + 1e-6).sum() <= counted <= (around <= own + 1.1e-6).sum()
    else:
        assert (around < own - 1.1e-6).sum() <= counted <= (around < own - 1e-6).sum()


def test_float32_distances_err_by_less_than_what_is_recounted():
    random = np.random.default_rng(3)
    # like features after a ReLU: all near each other
    embeddings = np.abs(random.normal(size=(300, 1280))).astype(np.float32)
    approximate = similar_articles(embeddings).distances(embeddings[:20])
    for row in range(20):
        exact = pair_distances(np.broadcast_to(embeddings[row], embeddings.shape), embeddings)
        assert np.abs(approximate[row] - exact).max() < 1e-6


def naive_distinct_rank(embeddings, groups, target, attack, candidate):
    """Walk through the catalog and look at each image once."""
    own = naive_distance(embeddings[target], candidate)
    images = {j: groups[j] or -j - 1 for j in range(len(embeddings))}
    nearer = {
        images[j]
        for j, other in enumerate(embeddings)
        if j not in (target, attack) and naive_distance(embeddings[target], other) < own
    }
    return 1 + len(nearer - {images[target]})


@given(seed=st.integers(0, 2**31), kind=st.sampled_from(["ties", "different", "near"]))
@settings(max_examples=30, deadline=None)
def test_ranks_among_distinct_images_are_those_of_a_naive_loop(seed, kind):
    random = np.random.default_rng(seed)
    articles = int(random.integers(4, 14))
    embeddings = catalog(random, kind, articles, 3)
    groups = equal_images([str(name) for name in random.integers(0, 6, size=articles)])
    for group in set(groups.tolist()) - {0}:
        embeddings[groups == group] = embeddings[groups == group][0]
    pairs = np.array([random.choice(articles, 2, replace=False) for _ in range(7)], dtype=np.int32)
    targets, attacks = pairs.T
    candidates = np.concatenate([embeddings[attacks[:3]], catalog(random, kind, 4, 3)])
    with small_tiles(rows=3, width=2):
        made = similar_articles(embeddings).distinct_ranks(targets, attacks, candidates, groups)
    expected = [
        naive_distinct_rank(embeddings, groups, *row)
        for row in zip(targets, attacks, candidates, strict=True)
    ]
    assert made.tolist() == expected


def test_copies_of_the_target_do_not_count_and_those_of_another_image_count_once():
    """The target is shown four times, a nearer image three times: rank 7, and 2 among images."""
    one, near, far = [1.0, 0.0], [1.0, 0.1], [1.0, 0.5]
    embeddings = np.array([one] * 4 + [near] * 3 + [far, [0.0, 1.0]], dtype=np.float32)
    groups = equal_images([*"aaaa", *"bbb", "c", "d"])
    assert groups.tolist() == [1] * 4 + [2] * 3 + [0, 0]
    index, row = similar_articles(embeddings), (np.array([0]), np.array([8]))
    candidate = np.array([[1.0, 0.3]], dtype=np.float32)
    assert index.ranks(*row, candidate).tolist() == [7]
    assert index.distinct_ranks(*row, candidate, groups).tolist() == [2]
