"""Drawn interactions: their truth, which is made of labels alone, and what is drawn by it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advrec.catalog import synthetic_interactions
from advrec.catalog.synthetic_interactions import POPULARITY, TASTE, Truth, draw
from advrec.errors import ConfigError
from advrec.spec.interactions import InteractionsSpec


def spec(**keys):
    return InteractionsSpec(source="synthetic", **keys).resolved(Path())


def labels(articles, categories=11, textures=9, seed=0):
    """One-hot labels (N, categories + textures), each as frequent as its kin."""
    random = np.random.default_rng(seed)
    return np.concatenate(
        [np.eye(kinds)[random.permutation(articles) % kinds] for kinds in (categories, textures)],
        axis=1,
    )


def auc(scores, interactions):
    """Mean over users of the share of articles not bought that score below the held-out one."""
    shares = []
    training = set(zip(*map(list, interactions.training()), strict=True))
    for user, article in zip(*interactions.held_out_pairs(), strict=True):
        rivals = [i for i in range(scores.shape[1]) if i != article and (user, i) not in training]
        shares.append((scores[user, rivals] < scores[user, article]).mean())
    return np.mean(shares)


def test_the_truth_finds_held_out_purchases_as_in_the_quoted_simulation():
    found = []
    for seed in range(4):
        truth = Truth.of(labels(300, seed=seed), spec(), seed)
        found.append(auc(truth.scores(), draw(truth, 12, seed)))
    assert min(found) > 0.88
    assert max(found) < 0.92
    assert 0.89 <= np.mean(found) <= 0.91


@given(
    users=st.integers(1, 12),
    articles=st.integers(4, 40),
    cold=st.floats(0, 0.6),
    personal=st.floats(0, 3),
    groups=st.integers(1, 3),
    seed=st.integers(0, 5),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_whatever_is_drawn_keeps_the_rules(users, articles, cold, personal, groups, seed, data):
    keys = spec(users=users, cold=cold, personal=personal, groups=groups)
    truth = Truth.of(labels(articles, 3, 2), keys, seed)
    assert truth.cold.sum() == round(cold * articles)
    purchases = data.draw(st.integers(1, min(articles, int((~truth.cold).sum()) + 1)))
    found = draw(truth, purchases, seed)
    bought = found.article_ids.reshape(users, purchases)
    assert all(len({*mine}) == purchases for mine in bought.tolist())  # no repeats
    assert found.query_ids.tolist() == np.repeat(range(users), purchases).tolist()
    held_out = found.held_out.reshape(users, purchases)
    assert not held_out[:, :-1].any()  # the last alone
    assert held_out[:, -1].all() == (purchases > 1)
    if purchases > 1:
        assert not truth.cold[bought[:, :-1]].any()
        assert found.cold()[truth.cold].all()
    assert 0 <= truth.groups.min() <= truth.groups.max() < groups


def test_articles_of_equal_labels_differ_by_popularity_alone_where_nothing_is_personal():
    """No feature, and no number of the article, enters the truth."""
    twins = np.repeat(labels(30), 2, axis=0)
    truth = Truth.of(twins, spec(personal=0.0), 1)
    scores = truth.scores()
    liked = scores - truth.popularity
    np.testing.assert_allclose(liked[:, ::2], liked[:, 1::2])
    np.testing.assert_allclose(liked.std(axis=1), TASTE)
    np.testing.assert_allclose(truth.popularity.std(), POPULARITY)
    one = Truth.of(np.ones((30, 2)), spec(personal=0.0), 1)  # all of one category, one texture
    np.testing.assert_allclose(one.scores().std(axis=1), POPULARITY)


def test_the_personal_part_is_as_strong_as_the_study_says():
    plain, personal = (Truth.of(labels(300), spec(personal=p), 1).scores() for p in (0.0, 0.9))
    assert (personal - plain).std() == pytest.approx(0.9, rel=0.1)


def test_users_of_one_group_like_the_same():
    truth = Truth.of(labels(300), spec(users=200), 1)
    likeness = np.corrcoef(truth.scores())
    same = truth.groups[:, None] == truth.groups
    np.fill_diagonal(same, False)
    other = truth.groups[:, None] != truth.groups
    assert likeness[same].mean() > likeness[other].mean() + 0.4


def test_drawing_is_that_of_the_scores_without_replacement():
    """Three articles, two purchases: the probabilities of every ordered pair are known."""
    truth = Truth.of(np.eye(3), spec(users=1, cold=0.0, personal=0.0), 3)
    weights = np.exp(truth.scores()[0])
    many = Truth.of(np.eye(3), spec(users=1, cold=0.0, personal=0.0), 3)
    object.__setattr__(many, "tastes", np.repeat(truth.tastes, 20_000, axis=0))
    object.__setattr__(many, "user_factors", np.repeat(truth.user_factors, 20_000, axis=0))
    pairs = draw(many, 2, 0).article_ids.reshape(-1, 2)
    for first in range(3):
        for last in {0, 1, 2} - {first}:
            left = weights.sum() - weights[first]
            expected = weights[first] / weights.sum() * weights[last] / left
            share = (pairs == [first, last]).all(axis=1).mean()
            assert share == pytest.approx(expected, abs=4 * np.sqrt(expected / 20_000))


def test_a_users_purchases_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    truth = Truth.of(labels(40), spec(users=30), 2)
    whole = draw(truth, 5, 2)
    monkeypatch.setattr(synthetic_interactions, "USERS_AT_ONCE", 7)
    assert all(map(np.array_equal, draw(truth, 5, 2), whole))
    assert not np.array_equal(draw(truth, 5, 3).article_ids, whole.article_ids)


def test_the_truth_of_a_catalog_is_that_of_its_labels(catalog):
    truth = synthetic_interactions.truth(catalog, spec(), 0)
    kinds = len(catalog.categories)
    assert truth.labels[:, :kinds].argmax(axis=1).tolist() == catalog.category_labels.tolist()
    np.testing.assert_array_equal(truth.labels[:, kinds:] > 0, catalog.texture_labels)
    np.testing.assert_allclose(truth.labels.sum(axis=1), 2.0)


def test_more_purchases_than_articles_are_refused():
    truth = Truth.of(labels(10), spec(cold=0.5), 0)
    with pytest.raises(ConfigError, match="purchases is 7, but a user can buy 6 of the 10"):
        draw(truth, 7, 0)
