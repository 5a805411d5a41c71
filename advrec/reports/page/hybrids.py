"""Tables of the page on hybrid recommenders: their utility, and perturbed embeddings."""

from typing import Any

import pandas as pd

from advrec.reports.page.cells import Table, TextCell
from advrec.reports.results import Results
from advrec.reports.tables import utility
from advrec.reports.tables.rows import DASH, records


def utility_table(results: Results) -> Table | None:
    """Places of held-out purchases; None where there is no hybrid."""
    rows = [
        [TextCell(articles), TextCell(name), *(_value(rows[each]) for each in utility.SHOWN)]
        for name, articles, rows in utility.compared(results)
    ]
    columns = ["Articles", "Order of", *utility.SHOWN.values()]
    drawn = "synthetic " if utility.is_drawn(results) else ""
    caption = f"Utility for users: held-out {drawn}purchases among all articles not seen"
    return Table(caption, columns, rows, heads=2, source="utility") if rows else None


def attacks_table(results: Results) -> Table | None:
    """The fall of NDCG@10 where embeddings are perturbed; None where there is no hybrid."""
    rows = [
        [
            TextCell(row["model"]),
            TextCell(f"{row['epsilon']:g}"),
            TextCell(f"{row['before']:.3f}"),
            TextCell(_percent(row["percent"]), _range(row)),
            TextCell(_percent(row["pinterest_percent"])),
            TextCell(_percent(row["amazon_percent"])),
        ]
        for row in records(utility.feature_attacks(results))
    ]
    columns = ["Model", "ε", "NDCG@10 before", "Change", "Published: Pinterest", "Amazon"]
    caption = "Change of NDCG@10 when every embedding is perturbed"
    return Table(caption, columns, rows, heads=2, source="feature_attacks") if rows else None


def _value(row: dict[str, Any]) -> TextCell:
    exact = pd.isna(row["low"])
    below = "exact" if exact else f"{row['low']:.3f} to {row['high']:.3f}; n = {row['n']:,}"
    return TextCell(f"{row['value']:.3f}", below)


def _percent(value: float | None) -> str:
    return DASH if value is None or pd.isna(value) else f"{value:+.1f} %"


def _range(row: dict[str, Any]) -> str:
    return f"{row['low_percent']:+.1f} to {row['high_percent']:+.1f}; n = {row['n']:,}"
