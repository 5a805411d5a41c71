"""Words that sentences of the page share: names, attacks, percentages with their intervals."""

from typing import Any

import pandas as pd
from markupsafe import Markup

from advrec.reports.page.cells import number
from advrec.reports.results import Results
from advrec.reports.tables.rows import made_on

Row = dict[str, Any]


def name(of: object) -> Markup:
    """The name of a model or an attack."""
    return Markup("<b>{}</b>").format(of)


def attack(results: Results, row: Row) -> Markup:
    """The attack of a row, and where a transferred one was made."""
    source = made_on(results, row["attack"])
    return name(row["attack"]) + (f" ({source})" if source else "")


def measured(row: Row, unit: str = "tuples") -> Markup:
    """A percentage with its interval and n, from a row of `quantities` or of `success`."""
    n = int(row["n"])
    return Markup(
        "<strong>{}\u00a0%</strong> (95\u00a0% interval {} to {}, n\u00a0=\u00a0{}\u00a0{})"
    ).format(
        number(row["percent"], n),
        number(row["low_percent"], n),
        number(row["high_percent"], n),
        f"{n:,}",
        unit,
    )


def cell(results: Results, row: Row) -> pd.DataFrame:
    """The outcomes behind a row of `success`."""
    rows = results.outcomes
    chosen = (
        (rows["model"] == row["model"])
        & (rows["attack"] == row["attack"])
        & (rows["epsilon"] == row["epsilon"])
    )
    outcomes: pd.DataFrame = rows.loc[chosen]
    return outcomes
