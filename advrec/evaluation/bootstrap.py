"""Bootstrap intervals of means (B. Efron, 1979): what is measured is drawn anew, with repeats."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from advrec.recommenders.bank import Doubles

BOUNDS = ("", "_low", "_high")
"""Ends of the names of columns that hold a mean and its bounds."""
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


def bounded(values: pd.DataFrame) -> dict[str, float]:
    """The mean of each column of values (n, c) and its bounds, by the column's name and BOUNDS."""
    found = means(values.to_numpy(np.float64))
    return {
        f"{name}{bound}": float(each[place])
        for place, name in enumerate(values)
        for bound, each in zip(BOUNDS, found, strict=True)
    }
