"""Outcomes -> success rates with their intervals. Needs neither torch nor Ray: a report can be rebuilt anywhere."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

CELL = ["model", "attack", "epsilon"]
SUCCESS_TYPES = {
    "model": "str",
    "attack": "str",
    "epsilon": "float64",
    "rank": "int64",
    "n": "int64",
    "successes": "int64",
    "success_percent": "float64",
    "low_percent": "float64",
    "high_percent": "float64",
}


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


def success_table(outcomes: pd.DataFrame, ranks: Sequence[int]) -> pd.DataFrame:
    """Success at every rank for every (model, attack, epsilon) among the outcomes.

    Args:
        outcomes: rows of schema.OUTCOMES with the columns model and attack, one a (model, attack, epsilon, tuple).
        ranks: success at r means adversarial_rank <= r; ranks are 1-based.

    Returns:
        Tidy, one row a (model, attack, epsilon, rank), sorted by them: n (tuples), successes (tuples), success_percent
        and its 95 % Wilson interval low_percent..high_percent, all three 0..100.
    """
    rows: list[dict[str, Any]] = []
    for (model, attack, epsilon), cell in outcomes.groupby(CELL, observed=True)["adversarial_rank"]:
        key = {"model": model, "attack": attack, "epsilon": epsilon}
        reached = cell.to_numpy()
        rows += [
            {**key, "rank": rank, "n": len(reached), "successes": int((reached <= rank).sum())}
            for rank in sorted(ranks)
        ]
    counts = pd.DataFrame(rows, columns=list(SUCCESS_TYPES)[:6])
    low, high = wilson(counts["successes"].to_numpy(np.float64), counts["n"].to_numpy(np.float64))
    percent = 100.0 * counts["successes"].to_numpy(np.float64) / counts["n"].to_numpy(np.float64)
    filled = counts.assign(success_percent=percent, low_percent=100.0 * low, high_percent=100.0 * high)
    return filled.astype(SUCCESS_TYPES)


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
