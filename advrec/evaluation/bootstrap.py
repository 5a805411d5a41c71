"""Bootstrap intervals of means (B. Efron, 1979): what is measured is drawn anew, with repeats."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from advrec.recommenders.bank import Doubles

if TYPE_CHECKING:
    import pandas as pd

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
    return Means(values.mean(axis=0), *_bounds(values, np.ones(n), seed))


def repeated(values: Doubles, seed: int = 0) -> Means:
    """The same, of many rows (n, c) of which few are different, as those of users: time and memory
    are of the different ones. The interval is another draw.
    """
    rows, counts = np.unique(values, axis=0, return_counts=True)
    if len(values) < 2:
        return means(values)
    return Means(values.mean(axis=0), *_bounds(rows, counts.astype(np.float64), seed))


def _bounds(rows: Doubles, counts: Doubles, seed: int) -> tuple[Doubles, Doubles]:
    """Bounds (c,) of the means of rows (r, c), of which each was measured so many times (r,)."""
    n, random = int(counts.sum()), np.random.default_rng(seed)
    drawn = [
        random.multinomial(n, counts / n, size=CHUNK) @ rows / n for _ in range(0, RESAMPLES, CHUNK)
    ]
    low, high = np.quantile(np.concatenate(drawn), (0.025, 0.975), axis=0)
    return low, high


def bounded(values: "pd.DataFrame") -> dict[str, float]:
    """The mean of each column of values (n, c) and its bounds, by the column's name and BOUNDS."""
    found = means(values.to_numpy(np.float64))
    return {
        f"{name}{bound}": float(each[place])
        for place, name in enumerate(values)
        for bound, each in zip(BOUNDS, found, strict=True)
    }
