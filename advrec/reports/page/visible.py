"""Visibility of attacked images as words and tables of the page."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from advrec.reports.page.cells import Table, TextCell, attack_cell
from advrec.reports.results import Results
from advrec.reports.tables import visibility
from advrec.reports.tables.rows import DASH
from advrec.spec.base import FLOAT

DIGITS = {"psnr_db": 1, "ssim": 3, "ciede2000_95": 1}


def told(row: Mapping[str, Any]) -> str:
    """The distances of one image in words."""
    psnr, ssim, colour = (_written(row[name], name) for name in DIGITS)
    return f"PSNR {psnr} dB, SSIM {ssim}, CIEDE2000 {colour}"


def budget_tables(results: Results) -> list[Table]:
    """The budget at which the headline's rank is reached against what is visible, a table a model.

    A row is an attack and the delivery that its images were made for.
    """
    if visibility.visibility(results).empty:
        return []
    made = []
    for model, of_model in visibility.budgets(results).groupby("model", sort=False):
        body: list[list[TextCell]] = []
        for (attack, delivery), rows in of_model.groupby(["attack", "delivery"], sort=False):
            reached = rows[rows["epsilon"] < math.inf]
            head = attack_cell(results, str(attack), body)
            body.append(
                [
                    head,
                    TextCell(str(delivery)),
                    TextCell(f"{len(reached)} of {len(rows)}"),
                    _budget(results, reached["epsilon"]),
                    *(_cell(reached[name], name) for name in DIGITS),
                ]
            )
        columns = ["Attack", "Made for", "Reached", "ε", "PSNR, dB", "SSIM", "CIEDE2000"]
        if set(of_model["delivery"]) == {FLOAT}:
            columns, body = _without(columns, 1), [_without(row, 1) for row in body]
        caption = f"{model}: kept images at the smallest budget that reaches rank {results.rank}"
        made.append(Table(caption, columns, body, source="visible_budgets"))
    return made


def _budget(results: Results, epsilons: "pd.Series[float]") -> TextCell:
    """The lower median of some budgets of the study, with their range."""
    if epsilons.empty:
        return TextCell(DASH)
    in_order = sorted(epsilons)
    middle = in_order[math.ceil(len(in_order) / 2) - 1]
    low, high = results.shown(in_order[0]), results.shown(in_order[-1])
    return TextCell(results.shown(middle), "" if low == high else f"{low} to {high}")


def _cell(values: "pd.Series[float]", name: str) -> TextCell:
    """The lower median of a distance, with its range."""
    if values.empty:
        return TextCell(DASH)
    in_order = sorted(values)
    middle = in_order[math.ceil(len(in_order) / 2) - 1]
    low, high = _written(in_order[0], name), _written(in_order[-1], name)
    return TextCell(_written(middle, name), "" if low == high else f"{low} to {high}")


def _written(value: float, name: str) -> str:
    return "∞" if math.isinf(value) else f"{value:.{DIGITS[name]}f}"


def _without(cells: list[Any], place: int) -> list[Any]:
    return cells[:place] + cells[place + 1 :]
