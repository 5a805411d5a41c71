"""The section of the page on a whole category that is swapped at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from advrec.evaluation import bootstrap
from advrec.reports.page.cells import Table, TextCell
from advrec.reports.results import Results
from advrec.reports.tables import category_attacks
from advrec.reports.tables.rows import DASH, records
from advrec.spec.base import FLOAT

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Swapped:
    """Shares of a category in the lists of users, before and after."""

    said: Markup
    table: Table


def section(results: Results) -> Swapped | None:
    """The section; None where no category was attacked."""
    table = category_attacks.category_attacks(results)
    return None if table.empty else Swapped(said=_said(results), table=_table(results, table))


def _said(results: Results) -> Markup:
    """A sentence on what is swapped, and on what the strongest way gains at the largest budget."""
    rows = records(category_attacks.headline(results))
    best = max(rows, key=lambda row: row["chr_after"] - row["chr_before"])
    return Markup(
        "All {:,} images of <b>{}</b> are swapped at once for ones that resemble <b>{}</b>. At "
        "budget epsilon {}, towards {}, they hold <strong>{}</strong> of the first {} "
        "places of {:,} users by <b>{}</b>; before, {}."
    ).format(
        best["articles"],
        best["origin"],
        best["target"],
        results.shown(best["epsilon"]),
        best["towards"],
        _percent(best, "chr_after"),
        best["rank"],
        best["users"],
        best["model"],
        _percent(best, "chr_before"),
    )


def _percent(row: Row, name: str) -> str:
    return category_attacks.percent(row, name).replace(" %", "\u00a0%")


def _table(results: Results, table: pd.DataFrame) -> Table:
    """A row a hybrid, way, delivery and rank; columns before and at each budget."""
    epsilons = results.whole.evaluation.epsilons
    keys = ["model", "towards", "delivery", "rank"]
    first = records(table)[0]
    body = []
    for (model, towards, delivery, rank), rows in table.groupby(keys, sort=False):
        known = {row["epsilon"]: row for row in records(rows)}
        last = list(known.values())[-1]
        body.append(
            [
                TextCell(str(model)),
                TextCell(str(towards), "" if delivery == FLOAT else f"after {delivery}"),
                TextCell(f"{rank:,}"),
                _share(last, "chr_before"),
                *(_share(known.get(epsilon), "chr_after") for epsilon in epsilons),
                _share(last, "chr_change", "{:+.1f}", ""),
                TextCell(_both(last, "ndcg")),
                TextCell(_both(last, "target_chr")),
            ]
        )
    at = f"ε = {results.shown(epsilons[-1])}"
    columns = ["Model", "Towards", "K", "CHR@K before"]
    columns += [f"ε = {results.shown(epsilon)}" for epsilon in epsilons]
    columns += [f"Change (points), {at}", f"NDCG@K (%), {at}"]
    columns += [f"CHR@K of {first['target']} (%), {at}"]
    caption = f"{first['origin']}: CHR@K, its share of the first K places of all users"
    return Table(caption, columns, body, heads=2, source="category_attacks")


def _share(row: Row | None, name: str, form: str = "{:.1f}", unit: str = " %") -> TextCell:
    """A share in percent and its interval, where that is known."""
    if row is None or np.isnan(row[name]):
        return TextCell(DASH)
    value, low, high = (form.format(100 * row[f"{name}{bound}"]) for bound in bootstrap.BOUNDS)
    return TextCell(value + unit, "" if np.isnan(row[f"{name}_low"]) else f"{low} to {high}")


def _both(row: Row, name: str) -> str:
    before, after = row[f"{name}_before"], row[f"{name}_after"]
    return DASH if np.isnan(before) else f"{100 * before:.1f} → {100 * after:.1f}"
