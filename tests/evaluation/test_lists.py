import numpy as np
import pandas as pd
import pytest

from advrec.evaluation import lists
from advrec.evaluation.rates import paired_difference, wilson
from advrec.recommenders.ranks import similar_articles


def test_lists_are_the_nearest_others_and_their_shares_those_of_a_plain_loop():
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(40, 6)).astype(np.float32)
    other = embeddings + random.normal(size=(40, 6), scale=0.3).astype(np.float32)
    queries = np.arange(5, 25, dtype=np.int32)
    made, others = (
        lists.nearest(similar_articles(each), queries).to_pandas() for each in (embeddings, other)
    )
    labels = [frozenset(random.choice(list("abc"), size=n % 3, replace=False)) for n in range(40)]
    agreeing, overlapping = [], []
    for place, article in enumerate(queries):
        expected = []
        for each in (embeddings, other):
            units = each / np.linalg.norm(each, axis=1, keepdims=True)
            order = np.argsort(1 - units @ units[article], kind="stable")
            expected.append([n for n in order if n != article][:10])
        assert made["neighbours"][place].tolist() == expected[0]
        if labels[article]:
            agreeing.append(sum(bool(labels[article] & labels[n]) for n in expected[0]) / 10)
        overlapping.append(len(set(expected[0]) & set(expected[1])) / 10)
    assert lists.agreement(made, labels) == pytest.approx(agreeing)
    assert 0 < len(agreeing) < len(queries)
    assert lists.overlap(made, others) == pytest.approx(overlapping)
    assert lists.overlap(made, made).tolist() == [1.0] * len(queries)


def test_a_small_catalog_has_short_lists():
    made = lists.nearest(
        similar_articles(np.eye(4, dtype=np.float32)), np.array([0, 2], dtype=np.int32)
    ).to_pandas()
    assert [len(neighbours) for neighbours in made["neighbours"]] == [3, 3]


@pytest.mark.parametrize(("a", "b"), [(2, 3), (0.5, 0.5), (40, 1)])
def test_the_interval_of_a_mean_covers_it_in_95_of_100_samples(a, b):
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        shares = random.binomial(10, random.beta(a, b, size=80)) / 10  # of lists of ten
        low, high = lists.mean_interval(shares)[1:]
        covered += low <= a / (a + b) <= high
    assert 0.92 < covered / 400 < 0.99


def test_where_all_lists_agree_the_interval_is_that_of_as_many_articles():
    assert lists.mean_interval(np.ones(50)) == (1.0, *map(float, wilson(50, 50)))


def test_an_article_in_one_list_alone_does_not_count_as_overlap():
    first = pd.DataFrame({"article_id": [1, 2], "neighbours": [[3, 4], [5, 6]]})
    second = pd.DataFrame({"article_id": [2], "neighbours": [[6, 7]]})
    assert lists.overlap(first, second).tolist() == [0.5]


def test_the_paired_interval_covers_a_mean_and_is_bonett_and_prices_of_whole_differences():
    random = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        low, high = lists.paired_mean(random.choice([-0.3, 0.0, 0.0, 0.5], size=60))
        covered += low <= 0.25 * (0.5 - 0.3) <= high
    whole = random.choice([-1.0, 0.0, 1.0], size=30)

    assert covered / 400 > 0.93
    assert lists.paired_mean(whole) == pytest.approx(paired_difference(whole, np.arange(30)))
