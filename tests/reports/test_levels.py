"""Budgets in a report are shown as the study wrote them; tables for programs keep the float."""

import re

import numpy as np
import pandas as pd
import pytest

from advrec.reports import results, terminal
from advrec.reports.pictures import charts
from advrec.reports.pictures.canvas import level_ticks
from advrec.reports.report import write_report
from advrec.reports.tables import every

TWO, FOUR = 2 / 255, 4 / 255


@pytest.fixture
def run(make_run):
    made = make_run(attacks=("fgsm", "pgd-8"), epsilons=(TWO, FOUR), checks=8)
    text = made.study.read_text()
    assert f"[{TWO}, {FOUR}]" in text
    made.study.write_text(text.replace(f"[{TWO}, {FOUR}]", "[2/255, 4/255]"))
    return made


@pytest.mark.parametrize("largest", [0.5, 1, 2, 3.5, 4, 8, 16, 255])
def test_ticks_are_round_numbers_of_levels(largest):
    ticks = level_ticks(largest / 255)
    levels = [255 * tick for tick in ticks]
    assert 3 <= len(ticks) <= 7
    assert levels[0] == 0.0
    assert 0.75 * largest <= levels[-1] <= largest + 1e-6
    assert len(set(np.round(np.diff(levels), 9))) == 1
    for level in levels:
        assert level == pytest.approx(round(level, 1)), "one digit says it all"
        assert largest < 2.0 or level == pytest.approx(round(2 * level) / 2)


def test_page_terminal_and_latex_show_levels_and_csv_keeps_the_float(run, quick):
    read = results.read(run)
    write_report(read)
    page = (run.report / "index.html").read_text()
    # pictures are text of any letters
    page = re.sub(r"data:[^\"]*", "", page)
    assert "budgets epsilon 2/255, 4/255." in page
    assert "at budget epsilon 4/255." in page
    assert 'data-epsilon="4/255"' in page
    assert not re.search(r"0\.00784|0\.0157|of a pixel's 255 levels", page)
    told = terminal.comparison_text(read)
    assert "budget epsilon 4/255;" in told
    tables = run.report / "tables"
    assert set(pd.read_csv(tables / "success.csv")["epsilon"]) == {TWO, FOUR}
    assert " 4/255 &" in (tables / "success.tex").read_text()
    assert pd.read_csv(tables / "defense_comparison.csv")["success_epsilon"].eq(FOUR).all()


def test_the_axis_of_budgets_names_those_of_the_study_as_written(run):
    read = results.read(run)
    chart = charts.success(read, every.all_tables(read))
    axis = chart.draw("wide").axes[0].xaxis
    np.testing.assert_array_equal(axis.get_ticklocs(), [TWO, FOUR])
    assert axis.get_major_formatter().format_ticks(axis.get_ticklocs()) == ["2/255", "4/255"]
