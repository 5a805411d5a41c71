"""A table of the page, and how numbers stand in its cells: with as many digits as n supports,
intervals and n in small print.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from advrec.reports.tables.tables import DASH


class Cell(NamedTuple):
    text: str
    below: str = ""
    """In small print: the interval and n."""
    alarming: bool = False


class Table(NamedTuple):
    """A table of the page; the first `heads` columns of each row are its headers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    heads: int = 1
    source: str = ""
    """The name of the table on disk that it was made from."""


def number(percent: float, n: int) -> str:
    """A percentage without its sign, with as many digits as n supports."""
    return f"{percent:.{1 if n <= 1000 else 2}f}"


def measured(row: Mapping[str, Any] | None, base: Mapping[str, Any] | None = None) -> Cell:
    """With its sign, n and, where `base` is known, the difference from it; a row of
    `tables.quantities`.
    """
    if row is None:
        return Cell(DASH)
    n = int(row["n"])
    low, high = number(row["low_percent"], n), number(row["high_percent"], n)
    delta = f"; {row['percent'] - base['percent']:+.1f}" if base else ""
    return Cell(f"{number(row['percent'], n)} %", f"{low} to {high}; n = {n:,}{delta}")


def interval(row: Mapping[str, Any] | None) -> Cell:
    """Where n has a column of its own; a row of `rates.shares`."""
    if row is None:
        return Cell(DASH)
    n = int(row["n"])
    return Cell(
        number(row["percent"], n),
        f"{number(row['low_percent'], n)} to {number(row['high_percent'], n)}",
    )


def plain(value: Any) -> str:
    """A number that is no share."""
    if value is None or pd.isna(value):
        return DASH
    return f"{value:,}" if float(value).is_integer() else f"{value:.4g}"
