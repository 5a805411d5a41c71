"""Outcomes -> success rates with their intervals. Needs neither torch nor Ray: a report can be
rebuilt anywhere.
"""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

PUBLISHED_RANK = 3  # of the study that advrec grew from
CELL = ["model", "attack", "epsilon"]
SHARE = {
    "n": "int64",
    "successes": "int64",
    "effective_n": "float64",
    "percent": "float64",
    "low_percent": "float64",
    "high_percent": "float64",
}
"""The columns of `shares`, with their types."""


def headline_rank(ranks: Sequence[int]) -> int:
    """The rank that counts where one number is shown: the nearest to 3, the smaller of two such."""
    return min(ranks, key=lambda rank: (abs(rank - PUBLISHED_RANK), rank))


def wilson(
    successes: npt.ArrayLike, n: npt.ArrayLike, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Score interval of a binomial proportion.

    The bounds are the two proportions p at which |successes/n - p| is exactly z standard errors
    sqrt(p (1 - p) / n) (E. B. Wilson, Probable inference, the law of succession, and statistical
    inference, JASA 22, 1927, pages 209-212). Unlike the textbook interval it stays within 0..1 and
    says something at 0 and at n successes.

    Args:
        successes: counts, 0..n; any shape that broadcasts with `n`.
        n: trials; 0 gives nan.
        confidence: coverage, between 0 and 1.

    Returns:
        Low and high bound as fractions 0..1, in the broadcast shape.

    Raises:
        ValueError: more successes than trials, a negative count, or a confidence outside (0, 1).
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}; it lies between 0 and 1")
    hits, trials = np.broadcast_arrays(
        np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64)
    )
    if np.any((hits < 0) | (hits > trials)):
        raise ValueError("successes lie between 0 and n")
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = (hits + z**2 / 2) / (trials + z**2)
        half = z / (trials + z**2) * np.sqrt(hits * (trials - hits) / trials + z**2 / 4)
    # At 0 and n the bound is exactly 0 or 1; floating point would leave it a hair beside.
    low = np.where(hits == 0, 0.0, centre - half)
    high = np.where(hits == trials, 1.0, centre + half)
    empty = trials == 0
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


class Interval(NamedTuple):
    """A confidence interval of a share, and the number of independent trials that would give it."""

    effective_n: float
    low: float
    high: float


def clustered(hits: npt.ArrayLike, clusters: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Wilson's interval of a share where trials of one cluster may agree: tuples of one target
    succeed together more often than not.

    n becomes `effective_trials`. Where few clusters are hit it covers less than it says: 90 % at a
    share of 0.03 in 60 clusters of 8 that hardly differ within, where Wilson's own covers 59 %.

    Args:
        hits: (n,), whether each trial succeeded.
        clusters: (n,), which trials belong together.

    Returns:
        Bounds as fractions 0..1; nan without trials.
    """
    won = np.asarray(hits, dtype=np.float64)
    effective, share = effective_trials(won, clusters), float(won.mean()) if len(won) else 0.0
    low, high = wilson(share * effective, effective, confidence)
    return Interval(effective, float(low), float(high))


def effective_trials(values: npt.ArrayLike, clusters: npt.ArrayLike) -> float:
    """The number of independent trials that say as much of a mean as these do: n / max(1, d).

    d is the variance of the mean between clusters over that of independent trials.
    Source: Rao and Scott, A simple method for the analysis of clustered binary data, Biometrics 48,
    1992. Where all trials agree, or there is one cluster, each cluster counts once: nothing says
    how much trials of one cluster agree.

    Args:
        values: (n,), 0 or 1, or differences of two such.
        clusters: (n,), which trials belong together.
    """
    known, (codes, _) = np.asarray(values, dtype=np.float64), pd.factorize(np.asarray(clusters))
    n, sizes, sums = len(known), np.bincount(codes), np.bincount(codes, weights=known)
    mean = float(known.mean()) if n else 0.0
    variance = float((known**2).mean()) - mean**2 if n else 0.0
    if variance <= 0.0 or not 1 < len(sizes) < n:
        return float(len(sizes))
    between = len(sizes) / (len(sizes) - 1) * float(((sums - mean * sizes) ** 2).sum()) / n**2
    return n / max(1.0, between / (variance / n))


def shares(hits: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The share of each group of trials that succeeded, with its 95 % interval, `clustered` by
    target.

    Args:
        hits: the columns `keys`, target_id, and won (bool).
        keys: what makes a group.

    Returns:
        Tidy, one row a group, in the order of their values: n (trials), successes, effective_n
        (effective_trials), percent and its interval low_percent..high_percent, all three 0..100.
    """
    rows: list[tuple[Any, ...]] = []
    for key, group in hits.groupby(list(keys), observed=True):
        n, won = len(group), int(group["won"].sum())
        effective, low, high = clustered(group["won"], group["target_id"])
        rows.append((*key, n, won, effective, 100.0 * won / n, 100.0 * low, 100.0 * high))
    return pd.DataFrame(rows, columns=[*keys, *SHARE]).astype(SHARE)


def success_table(outcomes: pd.DataFrame, ranks: Sequence[int]) -> pd.DataFrame:
    """Success at every rank for every (model, attack, epsilon) among the outcomes.

    Args:
        outcomes: rows of schema.OUTCOMES with the columns model and attack, one a (model, attack,
            epsilon, tuple).
        ranks: success at r means adversarial_rank <= r; ranks are 1-based.

    Returns:
        `shares` of tuples, one row a (model, attack, epsilon, rank), sorted by them.
    """
    reached = outcomes[[*CELL, "target_id"]]
    parts = [
        shares(reached.assign(won=outcomes["adversarial_rank"] <= rank), CELL).assign(rank=rank)
        for rank in sorted(ranks)
    ]
    made = pd.concat(parts, ignore_index=True).sort_values([*CELL, "rank"], ignore_index=True)
    # of no rows too
    types = {"model": "str", "attack": "str", "epsilon": "float64", "rank": "int64"}
    return made.astype(types)[[*CELL, "rank", *SHARE]]


def paired_difference(
    differences: npt.ArrayLike, clusters: npt.ArrayLike, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the difference of two success rates on the same tuples, `effective_trials` many.

    It is Wald's, after one is added to both discordant counts.
    Source: Bonett and Price, Adjusted Wald confidence interval for a difference of binomial
    proportions based on paired data, Journal of Educational and Behavioral Statistics 37, 2012.

    Args:
        differences: (n,), second minus first outcome of each tuple: -1, 0 or 1; n at least 1.
        clusters: (n,), which tuples belong together.

    Returns:
        Low and high bound of second minus first, -1..1.
    """
    known = np.asarray(differences, dtype=np.float64)
    n = effective_trials(known, clusters)
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    up, down = ((float((sign * known > 0).mean()) * n + 1.0) / (n + 2.0) for sign in (1.0, -1.0))
    half = z * float(np.sqrt((up + down - (up - down) ** 2) / (n + 2.0)))
    return max(-1.0, up - down - half), min(1.0, up - down + half)


def difference(
    second: tuple[float, float, float], first: tuple[float, float, float]
) -> tuple[float, float]:
    """Interval of the difference of two shares that are taken as independent. It is too wide where
    their trials are the same.

    Source: method 10 of Newcombe, Interval estimation for the difference between independent
    proportions, Statistics in Medicine 17, 1998.

    Args:
        second, first: a share, and the bounds of its interval by Wilson.

    Returns:
        Low and high bound of second minus first, in the same units.
    """
    (share, low, high), (other, other_low, other_high) = second, first
    below, above = (
        np.hypot(share - low, other_high - other),
        np.hypot(high - share, other - other_low),
    )
    return share - other - float(below), share - other + float(above)


def clustered_sign(differences: npt.ArrayLike, clusters: npt.ArrayLike) -> float:
    """Two-sided p-value that two paired shares are equal, where trials of one cluster may agree:
    McNemar's test of sums over clusters (N. A. Obuchowski, On the comparison of correlated
    proportions for clustered data, Statistics in Medicine 17, 1998); 1 where none differs.

    Args:
        differences: (n,), second minus first outcome of each trial: -1, 0 or 1.
        clusters: (n,), which trials belong together.
    """
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(codes, weights=np.asarray(differences, dtype=np.float64))
    spread = float((sums**2).sum())
    return 2.0 * NormalDist().cdf(-abs(float(sums.sum())) / spread**0.5) if spread else 1.0


def mcnemar(won: int, lost: int) -> float:
    """Exact two-sided p-value of McNemar's test (Q. McNemar, Psychometrika 12, 1947): how likely so
    uneven a split of the discordant pairs is, were both equally likely; 1 without any.

    Args:
        won: tuples on which only the second succeeds; `lost`: only the first.
    """
    from scipy.stats import binomtest  # a second to import, for comparisons alone

    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
