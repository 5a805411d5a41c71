"""Places in lists: CHR and NDCG of a category, against brute force."""

import numpy as np
import pytest

from advrec.recommenders import places
from advrec.recommenders.bank import Bank, Seen
from advrec.recommenders.ranks import ExactIndex

N, QUERIES, D = 30, 17, 4
RANKS = (1, 3, 10, N, 2 * N)


def bank(rng):
    """Items of small integers: many of them tie, and their costs are exact."""
    items = rng.integers(-1, 2, (N, D)).astype(np.float32)
    queries = rng.integers(-2, 3, (QUERIES, D)).astype(np.float32)
    seen = Seen.of([rng.choice(N, rng.integers(0, 8), replace=False) for _ in range(QUERIES)])
    return Bank(items=items, queries=queries, seen=seen, unit=False)


def lists(of, order):
    """The whole list of each query, by cost, then by `order`."""
    for query in range(QUERIES):
        start, end = of.seen.starts[query : query + 2]
        unseen = set(range(N)) - set(of.seen.articles[start:end].tolist())
        costs = -(of.items @ of.queries[query])
        yield sorted(unseen, key=lambda article: (costs[article], order[article]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [2**26, 1])
def test_04_chr_and_ndcg_equal_brute_force(seed, size, monkeypatch):
    monkeypatch.setattr(places, "BYTES", size)  # one query at a time
    rng = np.random.default_rng(seed)
    of, members = bank(rng), rng.random(N) < 0.3
    target = ~members & (rng.random(N) < 0.4)
    users = np.arange(QUERIES, dtype=np.int32)
    found = places.held(ExactIndex(of), users, members, target, RANKS)
    for place, rank in enumerate(RANKS):
        gains = [1 / np.log2(p + 2) for p in range(rank)]
        held = [
            [p for p, article in enumerate(each[:rank]) if members[article]]
            for each in lists(of, ~members)
        ]
        assert found.chr[place] == pytest.approx(sum(map(len, held)) / (rank * QUERIES))
        worth = sum(gains[p] for each in held for p in each)
        assert found.ndcg[place] == pytest.approx(worth / (QUERIES * sum(gains)))
        shares = [len(each) / rank for each in held]
        assert found.by_query[:, place] == pytest.approx(shares)
        others = [target[each[:rank]].sum() / rank for each in lists(of, ~members)]
        assert found.target_chr[place] == pytest.approx(np.mean(others))


@pytest.mark.parametrize("rank", RANKS)
def test_04_chr_of_every_category_equals_brute_force(rank):
    rng = np.random.default_rng(9)
    of, labels = bank(rng), rng.integers(0, 5, N)
    users = np.arange(QUERIES, dtype=np.int32)
    found = places.shares(ExactIndex(of), users, labels, 6, rank)
    counts = np.zeros(6)
    for each in lists(of, range(N)):
        for article in each[:rank]:
            counts[labels[article]] += 1
    assert found == pytest.approx(counts / (rank * QUERIES))
    assert found.sum() <= 1.0 + 1e-12


def test_04_equal_items_stay_ties_whatever_a_product_makes_of_them():
    rng = np.random.default_rng(0)
    items = rng.normal(size=(500, 33)).astype(np.float32)
    items[250:] = items[:250]
    queries = rng.normal(size=(50, 33)).astype(np.float32)
    none = Seen.of([[] for _ in range(50)])
    index = ExactIndex(Bank(items=items, queries=queries, seen=none, unit=False))
    copies = np.arange(500) >= 250
    users = np.arange(50, dtype=np.int32)
    # of two equal articles the member comes first, whichever it is
    for members in (copies, ~copies):
        found = places.held(index, users, members, ~members, (1, 2, 10))
        assert found.chr == pytest.approx([1.0, 0.5, 0.5])
        assert found.target_chr == pytest.approx([0.0, 0.5, 0.5])


@pytest.mark.parametrize("seed", range(2))
def test_04_equal_items_stay_ties_however_small_their_product_is(seed):
    rng = np.random.default_rng(seed)
    query, items = 100.0 * rng.normal(size=65), 100.0 * rng.normal(size=(503, 65))
    items -= np.outer(items @ query / (query @ query), query)
    items[253:] = items[:250]
    queries = np.outer(np.linspace(1.0, 2.0, 51), query)
    of = Bank(items=items.astype(np.float32), queries=queries.astype(np.float32), unit=False)
    index, order, asked = ExactIndex(of), np.arange(503)[::-1], np.arange(51, dtype=np.int32)
    every = [np.full(503, query, np.int32) for query in asked]
    exact = [index.pair_costs(each, of.items) for each in every]
    expected = np.stack([np.lexsort((order, each)) for each in exact])
    for article in range(493, 503):  # a product has its own way with the last ones
        k = 1 + int(np.flatnonzero(expected[0] == article)[0])  # between two equal ones
        (found,) = places._placed(index, asked, k, order)
        assert (found.articles.reshape(51, k) == expected[:, :k]).all()
