"""Intervals against the equation that defines them and against published values; rates against a
naive loop.
"""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from advrec.evaluation.rates import (
    clustered,
    clustered_sign,
    difference,
    headline_rank,
    mcnemar,
    paired_difference,
    success_table,
    wilson,
)

Z95 = 1.959963984540054


@pytest.mark.parametrize(
    ("successes", "n"), [(1, 10), (5, 10), (9, 10), (37, 128), (1, 10_000), (9_999, 10_000)]
)
def test_bounds_are_the_roots_of_wilsons_quadratic(successes, n):
    """|s/n - p| = z sqrt(p (1 - p) / n), squared and collected in powers of p, solved by a root
    finder.
    """
    share = successes / n
    roots = np.sort(np.roots([1 + Z95**2 / n, -(2 * share + Z95**2 / n), share**2]))
    np.testing.assert_allclose(wilson(successes, n), roots, rtol=1e-6)


def test_published_value():
    """81 of 263: 0.2553 to 0.3662 (R. G. Newcombe, Statistics in Medicine 17, 1998, table I, score
    method).
    """
    np.testing.assert_allclose(wilson(81, 263), (0.2553, 0.3662), atol=5e-5)
    np.testing.assert_allclose(wilson(15, 148), (0.0624, 0.1605), atol=5e-5)
    np.testing.assert_allclose(wilson(0, 20), (0.0, 0.1611), atol=5e-5)
    np.testing.assert_allclose(wilson(1, 29), (0.0061, 0.1718), atol=5e-5)


def test_ends_are_exact_and_nothing_counted_is_nan():
    low, high = wilson([0, 7, 0], [7, 7, 0])
    np.testing.assert_array_equal(low[[0, 2]], [0.0, np.nan])
    np.testing.assert_array_equal(high[[1, 2]], [1.0, np.nan])
    assert 0.0 < high[0] < 1.0
    assert 0.0 < low[1] < 1.0


def test_successes_and_failures_mirror_each_other():
    low, high = wilson(np.arange(31), 30 * np.ones(31))
    np.testing.assert_allclose(low, 1 - high[::-1], atol=1e-12)
    assert np.all(np.diff(low) > 0)


def test_shapes_broadcast_and_confidence_widens():
    low, high = wilson([[1], [2]], [10, 20, 40])
    assert low.shape == high.shape == (2, 3)
    wide = wilson([[1], [2]], [10, 20, 40], confidence=0.99)
    assert np.all(wide[0] < low)
    assert np.all(wide[1] > high)


def test_the_interval_covers_as_often_as_it_says():
    """Mean coverage over many shares, from the binomial distribution: Wilson's is close to nominal,
    Wald's is not.
    """
    n, counts = 40, np.arange(41)
    choose = np.array([float(np.prod((n - np.arange(k)) / (np.arange(k) + 1.0))) for k in counts])
    shares = np.linspace(0.02, 0.98, 97)[:, None]
    probability = choose * shares**counts * (1 - shares) ** (n - counts)
    low, high = wilson(counts, n)
    coverage = (probability * ((low <= shares) & (shares <= high))).sum(axis=1)
    assert abs(coverage.mean() - 0.95) < 0.01
    half = Z95 * np.sqrt(counts / n * (1 - counts / n) / n)
    wald = (probability * ((counts / n - half <= shares) & (shares <= counts / n + half))).sum(
        axis=1
    )
    assert wald.mean() < 0.93


@pytest.mark.parametrize(
    ("successes", "n", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0), (1, 2, 0.0)]
)
def test_the_impossible_is_refused(successes, n, confidence):
    with pytest.raises(ValueError, match="lie"):
        wilson(successes, n, confidence)


def test_success_table_equals_a_naive_loop():
    rng = np.random.default_rng(5)
    keys = list(itertools.product(["b", "a"], ["pgd-8", "fgsm"], [0.05, 0.01]))
    rows = [
        {
            "model": m,
            "attack": a,
            "epsilon": e,
            "tuple_id": t,
            "target_id": t,
            "adversarial_rank": int(rng.integers(1, 30)),
        }
        for place, (m, a, e) in enumerate(keys)
        for t in range(10 + place)
    ]
    rng.shuffle(rows)
    made = success_table(pd.DataFrame(rows), [10, 1, 3])
    expected = []
    for model, attack, epsilon in sorted(keys):
        for rank in (1, 3, 10):
            cell = [
                r["adversarial_rank"]
                for r in rows
                if (r["model"], r["attack"], r["epsilon"]) == (model, attack, epsilon)
            ]
            hits = sum(1 for reached in cell if reached <= rank)
            expected.append((model, attack, epsilon, rank, len(cell), hits, 100 * hits / len(cell)))
    columns = ["model", "attack", "epsilon", "rank", "n", "successes", "percent"]
    assert list(made[columns].itertuples(index=False, name=None)) == expected
    low, high = wilson(made["successes"].to_numpy(), made["n"].to_numpy())
    np.testing.assert_array_equal(made["low_percent"], 100 * low)
    np.testing.assert_array_equal(made["high_percent"], 100 * high)


def test_a_rank_equal_to_the_threshold_succeeds():
    rows = pd.DataFrame(
        {
            "model": "m",
            "attack": "a",
            "epsilon": 0.1,
            "target_id": [1, 1],
            "adversarial_rank": [3, 4],
        }
    )
    assert success_table(rows, [3])["successes"].tolist() == [1]


def test_no_outcomes_make_an_empty_table_of_the_same_types():
    empty = pd.DataFrame(
        {"model": [], "attack": [], "epsilon": [], "target_id": [], "adversarial_rank": []}
    )
    made = success_table(empty, [1])
    assert len(made) == 0
    one = success_table(
        pd.DataFrame(
            {"model": ["m"], "attack": "a", "epsilon": 0.1, "target_id": 1, "adversarial_rank": [1]}
        ),
        [1],
    )
    assert list(made.dtypes) == list(one.dtypes)


def test_tuples_that_share_no_target_have_wilsons_interval():
    hits = np.arange(40) % 3 == 0
    np.testing.assert_allclose(
        clustered(hits, np.arange(40))[1:], wilson(hits.sum(), 40), rtol=1e-12
    )


def test_tuples_that_repeat_each_other_count_once():
    """Ten targets, each ten times with one outcome: as good as ten tuples, but for the m / (m - 1)
    of an estimated variance.
    """
    hits, clusters = np.repeat(np.arange(10) < 4, 10), np.repeat(np.arange(10), 10)
    np.testing.assert_allclose(clustered(hits, clusters)[1:], wilson(0.4 * 9, 9), rtol=1e-12)


def test_more_agreement_within_targets_widens_and_less_never_narrows():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(50), 4)
    alone = clustered(rng.random(200) < 0.3, np.arange(200))
    # the same share of every target: less spread than chance
    mixed = np.tile([True, False, False, False], 50)
    np.testing.assert_allclose(clustered(mixed, clusters)[1:], wilson(50, 200), rtol=1e-12)
    together = clustered(np.repeat(rng.random(50) < 0.3, 4), clusters)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


@pytest.mark.parametrize(
    ("a", "b", "least"), [(0.6, 1.4, 0.92), (0.03, 0.97, 0.88), (0.97, 0.03, 0.88)]
)
def test_the_clustered_interval_covers_where_wilsons_does_not(a, b, least):
    """Shares that differ from target to target (beta), eight tuples each: coverage over many draws,
    in the middle and near both ends, where few targets are hit and tell of the others.
    """
    rng = np.random.default_rng(3)
    clusters, share = np.repeat(np.arange(60), 8), a / (a + b)
    covered, plain = 0, 0
    for _ in range(400):
        hits = rng.random(480) < np.repeat(rng.beta(a, b, 60), 8)
        _, low, high = clustered(hits, clusters)
        covered += low <= share <= high
        low, high = wilson(hits.sum(), 480)
        plain += low <= share <= high
    assert covered / 400 > least
    assert plain / 400 < 0.85


def test_where_all_agree_each_target_counts_once():
    clusters = np.repeat(np.arange(10), 10)
    np.testing.assert_allclose(clustered(np.zeros(100), clusters)[1:], wilson(0, 10))
    np.testing.assert_allclose(clustered(np.ones(100), clusters)[1:], wilson(10, 10))
    np.testing.assert_allclose(clustered([1, 0, 1], [5, 5, 5])[1:], wilson(2 / 3, 1))


def test_paired_outcomes_by_target():
    """Alone in its cluster each, the statistic is McNemar's without correction: (won - lost) /
    sqrt(won + lost).
    """
    differences = np.array([1] * 12 + [-1] * 4 + [0] * 30)
    z = 8 / 16**0.5
    assert clustered_sign(differences, np.arange(46)) == pytest.approx(math.erfc(z / 2**0.5))
    assert clustered_sign(np.zeros(9), np.arange(9)) == 1.0
    # Copies of one target say nothing new.
    copied = clustered_sign(np.repeat(differences, 5), np.repeat(np.arange(46), 5))
    assert copied == pytest.approx(clustered_sign(differences, np.arange(46)))


def test_mcnemar_is_twice_the_binomial_tail():
    assert mcnemar(1, 7) == pytest.approx(2 * (1 + 8) / 2**8)
    assert mcnemar(7, 1) == mcnemar(1, 7)
    assert (mcnemar(0, 0), mcnemar(4, 4)) == (1.0, 1.0)


def paired(won, lost, n):
    """Differences of n tuples, each of its own target."""
    return paired_difference([1] * won + [-1] * lost + [0] * (n - won - lost), range(n))


def test_the_interval_of_a_paired_difference_covers_as_often_as_it_says():
    """Against the multinomial it is made for: simulated, 95 % within the simulation's own error and
    the method's.
    """
    random = np.random.default_rng(1)
    for up, down, n in ((0.10, 0.05, 64), (0.30, 0.10, 64), (0.02, 0.02, 128)):
        counts = random.multinomial(n, [up, down, 1 - up - down], size=2000)
        bounds = [paired(won, lost, n) for won, lost, _ in counts.tolist()]
        covered = np.mean([low <= up - down <= high for low, high in bounds])
        assert 0.93 < covered < 0.995, (up, down, n)


def test_a_paired_difference_turns_its_sign_and_narrows_with_n():
    low, high = paired(7, 2, 50)
    z, up, down = 1.959963984540054, 8 / 52, 3 / 52
    half = z * math.sqrt((up + down - (up - down) ** 2) / 52)
    assert (low, high) == pytest.approx((up - down - half, up - down + half))
    assert paired(2, 7, 50) == pytest.approx((-high, -low))
    assert np.diff(paired(70, 20, 500))[0] < high - low


def test_a_paired_difference_of_tuples_that_repeat_each_other_is_that_of_their_targets():
    """Eight times the same: of the targets alone, but for m / (m - 1) of an estimated variance."""
    each = np.array([1] * 7 + [-1] * 2 + [0] * 41)
    f = 49 / 50
    up, down, n = (7 * f + 1) / (50 * f + 2), (2 * f + 1) / (50 * f + 2), 50 * f
    half = 1.959963984540054 * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    copied = paired_difference(np.repeat(each, 8), np.repeat(np.arange(50), 8))
    assert copied == pytest.approx((up - down - half, up - down + half))
    assert paired_difference(np.zeros(80), np.repeat(np.arange(10), 8)) == pytest.approx(
        paired_difference(np.zeros(10), range(10))
    )


def test_a_difference_of_independent_shares_is_newcombes():
    """His example: 56 of 70 and 48 of 80 differ by 0.2, interval 0.0524 to 0.3339 (1998, table II,
    method 10).
    """
    sides = [(hits / n, *map(float, wilson(hits, n))) for hits, n in ((56, 70), (48, 80))]
    assert difference(*sides) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    low, high = difference(*reversed(sides))
    assert (low, high) == pytest.approx((-0.3339, -0.0524), abs=5e-5)


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [([1, 3, 10], 3), ([1, 2], 2), ([5, 10], 5), ([1], 1), ([1, 4], 4), ([2, 4], 2)],
)
def test_the_headlines_rank_is_the_nearest_to_3(ranks, expected):
    assert headline_rank(ranks) == expected
