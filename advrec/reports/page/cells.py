"""A table of the page and the cells of numbers in it.

A number has as many digits as n supports; intervals and n stand in small print.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from advrec.reports.results import Results
from advrec.reports.tables.rows import DASH, made_on


class TextCell(NamedTuple):
    """A cell of a table: text, and small print below it."""

    text: str
    below: str = ""
    """In small print: the interval and n."""
    alarming: bool = False


class Table(NamedTuple):
    """A table of the page; the first `heads` columns of each row are its headers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[TextCell]]
    heads: int = 1
    source: str = ""
    """The name of the table on disk that it was made from."""


def number(percent: float, n: int) -> str:
    """A percentage without its sign, with as many digits as n supports."""
    return f"{percent:.{1 if n <= 1000 else 2}f}"


def measured(row: Mapping[str, Any] | None, base: Mapping[str, Any] | None = None) -> TextCell:
    """The cell of a row of `quantities.quantities`: percentage, interval and n.

    Where `base` is known the difference from it stands there too.
    """
    if row is None:
        return TextCell(DASH)
    n = int(row["n"])
    low, high = number(row["low_percent"], n), number(row["high_percent"], n)
    delta = f"; {row['percent'] - base['percent']:+.1f}" if base else ""
    return TextCell(f"{number(row['percent'], n)} %", f"{low} to {high}; n = {n:,}{delta}")


def interval(row: Mapping[str, Any] | None) -> TextCell:
    """The cell of a row of `rates.shares`, where n has a column of its own."""
    if row is None:
        return TextCell(DASH)
    n = int(row["n"])
    return TextCell(
        number(row["percent"], n),
        f"{number(row['low_percent'], n)} to {number(row['high_percent'], n)}",
    )


def plain(value: Any) -> str:
    """A number that is no share."""
    if value is None or pd.isna(value):
        return DASH
    return f"{value:,}" if float(value).is_integer() else f"{value:.4g}"


def attack_cell(results: Results, name: str, above: Sequence[Sequence[TextCell]] = ()) -> TextCell:
    """The cell of an attack, with what its name does not say unless the row above has said so."""
    spec = results.attack(name)
    parts = [spec.attack] if spec.attack != spec.name else []
    parts += [f"{spec.restarts} restart{'s' if spec.restarts > 1 else ''}"] if spec.restarts else []
    parts += [made_on(results, name)] if spec.sources else []
    return TextCell(name, "" if above and above[-1][0].text == name else ", ".join(parts))
