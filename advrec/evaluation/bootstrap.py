"""Bootstrap intervals of means (B. Efron, 1979): what is measured is drawn anew, with repeats."""

from typing import NamedTuple

import numpy as np

from advrec.recommenders.bank import Doubles

RESAMPLES = 2000
CHUNK = 250
"""Resamples at once."""


class Means(NamedTuple):
    """Means of columns, with their 95 % percentile intervals."""

    value: Doubles
    """(c,)"""
    low: Doubles
    """(c,); NaN where one row alone was measured."""
    high: Doubles
    """(c,)"""


def means(values: Doubles, seed: int = 0) -> Means:
    """Means of the columns of values (n, c), n above 0; whole rows are drawn, so that columns of
    one row stay together. The same values have the same interval.
    """
    n, columns = values.shape
    if n < 2:
        nothing = np.full(columns, np.nan)
        return Means(values.mean(axis=0), nothing, nothing)
    random = np.random.default_rng(seed)
    drawn = [
        random.multinomial(n, np.full(n, 1.0 / n), size=CHUNK) @ values / n
        for _ in range(0, RESAMPLES, CHUNK)
    ]
    low, high = np.quantile(np.concatenate(drawn), (0.025, 0.975), axis=0)
    return Means(values.mean(axis=0), low, high)
