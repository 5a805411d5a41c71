"""Outcomes -> success rates with their intervals. Needs neither torch nor Ray: a report can be rebuilt anywhere."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

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


def wilson(successes: npt.ArrayLike, n: npt.ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Score interval of a binomial proportion.

    The bounds are the two proportions p at which |successes/n - p| is exactly z standard errors sqrt(p (1 - p) / n)
    (E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927, pages 209-212).
    Unlike the textbook interval it stays within 0..1 and says something at 0 and at n successes.

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
    hits, trials = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64))
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


def clustered(hits: npt.ArrayLike, clusters: npt.ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share where trials of one cluster may agree: tuples of one target succeed together more often than not.

    n becomes the effective number of trials, n / max(1, d), with d the variance of the share between clusters over that of independent
    trials (Rao and Scott, A simple method for the analysis of clustered binary data, Biometrics 48, 1992). Where all trials agree, nothing
    says how much those of a cluster do: then each cluster counts once. Where few clusters are hit it covers less than it says: 90 % at a
    share of 0.03 in 60 clusters of 8 that hardly differ within, where Wilson's own covers 59 %.

    Args:
        hits: (n,), whether each trial succeeded.
        clusters: (n,), which trials belong together.

    Returns:
        Low and high bound as fractions 0..1; nan without trials.
    """
    won = np.asarray(hits, dtype=np.float64)
    effective = effective_trials(won, clusters)
    share = float(won.mean()) if len(won) else 0.0
    low, high = wilson(share * effective, effective, confidence)
    return float(low), float(high)


def effective_trials(hits: npt.ArrayLike, clusters: npt.ArrayLike) -> float:
    """How many independent trials say as much of a share as these do: see `clustered`."""
    won, (codes, _) = np.asarray(hits, dtype=np.float64), pd.factorize(np.asarray(clusters))
    n, share = len(won), float(won.mean()) if len(won) else 0.0
    sizes, of = np.bincount(codes), np.bincount(codes, weights=won)
    if not 0.0 < share < 1.0 or not 1 < len(sizes) < n:
        return float(len(sizes))
    between = len(sizes) / (len(sizes) - 1) * float(((of - share * sizes) ** 2).sum()) / n**2
    return n / max(1.0, between / (share * (1.0 - share) / n))


def shares(hits: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Of each group of trials the share that succeeded, with its 95 % interval, `clustered` by target.

    Args:
        hits: the columns `keys`, target_id, and won (bool).
        keys: what makes a group.

    Returns:
        Tidy, one row a group, in the order of their values: n (trials), successes, effective_n (effective_trials), percent and its interval
        low_percent..high_percent, all three 0..100.
    """
    rows: list[tuple[Any, ...]] = []
    for key, group in hits.groupby(list(keys), observed=True):
        n, won, effective = len(group), int(group["won"].sum()), effective_trials(group["won"], group["target_id"])
        low, high = wilson(won / n * effective, effective)
        rows.append((*key, n, won, effective, 100.0 * won / n, 100.0 * float(low), 100.0 * float(high)))
    return pd.DataFrame(rows, columns=[*keys, *SHARE]).astype(SHARE)


def success_table(outcomes: pd.DataFrame, ranks: Sequence[int]) -> pd.DataFrame:
    """Success at every rank for every (model, attack, epsilon) among the outcomes.

    Args:
        outcomes: rows of schema.OUTCOMES with the columns model and attack, one a (model, attack, epsilon, tuple).
        ranks: success at r means adversarial_rank <= r; ranks are 1-based.

    Returns:
        `shares` of tuples, one row a (model, attack, epsilon, rank), sorted by them.
    """
    reached = outcomes[[*CELL, "target_id"]]
    parts = [shares(reached.assign(won=outcomes["adversarial_rank"] <= rank), CELL).assign(rank=rank) for rank in sorted(ranks)]
    made = pd.concat(parts, ignore_index=True).sort_values([*CELL, "rank"], ignore_index=True)
    types = {"model": "str", "attack": "str", "epsilon": "float64", "rank": "int64"}  # of no rows too
    return made.astype(types)[[*CELL, "rank", *SHARE]]


def paired_difference(won: int, lost: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the difference of two success rates on the same n tuples: Wald's, after one is added to both discordant counts
    (D. G. Bonett and R. M. Price, Adjusted Wald confidence interval for a difference of binomial proportions based on paired data,
    Journal of Educational and Behavioral Statistics 37, 2012).

    Args:
        won: tuples on which only the second succeeds; `lost`: only the first.

    Returns:
        Low and high bound of second minus first, -1..1.
    """
    if won < 0 or lost < 0 or won + lost > n:
        raise ValueError("won and lost are disjoint counts among n")
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    up, down = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    half = z * float(np.sqrt((up + down - (up - down) ** 2) / (n + 2)))
    return max(-1.0, up - down - half), min(1.0, up - down + half)


def clustered_sign(differences: npt.ArrayLike, clusters: npt.ArrayLike) -> float:
    """Two-sided p-value that two paired shares are equal, where trials of one cluster may agree: McNemar's test of sums over clusters
    (N. A. Obuchowski, On the comparison of correlated proportions for clustered data, Statistics in Medicine 17, 1998); 1 where none
    differs.

    Args:
        differences: (n,), second minus first outcome of each trial: -1, 0 or 1.
        clusters: (n,), which trials belong together.
    """
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(codes, weights=np.asarray(differences, dtype=np.float64))
    spread = float((sums**2).sum())
    return 2.0 * NormalDist().cdf(-abs(float(sums.sum())) / spread**0.5) if spread else 1.0


def mcnemar(won: int, lost: int) -> float:
    """Exact two-sided p-value of McNemar's test (Q. McNemar, Psychometrika 12, 1947): how likely so uneven a split of the discordant pairs
    is, were both equally likely; 1 without any.

    Args:
        won: tuples on which only the second succeeds; `lost`: only the first.
    """
    from scipy.stats import binomtest  # a second to import, for comparisons alone

    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
