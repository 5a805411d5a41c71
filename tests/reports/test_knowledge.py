"""The ladder of knowledge: which attack stands on which rung, and what the table and page say."""

import numpy as np
import pandas as pd
import pytest

from advrec.evaluation.rates import paired_difference
from advrec.reports import results
from advrec.reports.page import knowledge as page
from advrec.reports.pictures import charts
from advrec.reports.tables import every, knowledge
from advrec.spec.attacks import AttackSpec, attack_entry

FROM_AT = {"name": "from-at", "attack": "pgd-8", "from": "at"}
FROM_BOTH = {"name": "from-both", "attack": "pgd-8", "from": ["at", "cat"]}
ATTACKS = ["noise", FROM_AT, FROM_BOTH, "rank-40", "rank-400", "square-300", "pgd-8", "auto"]


@pytest.mark.parametrize(
    ("entry", "on", "wanted"),
    [
        ("noise", "a", "nothing"),
        ("rank-40", "a", "lists alone"),
        ("square-40", "a", "distances"),
        ("pgd-8", "a", "the model"),
        ("auto", "a", "the model"),
        ({"name": "t", "attack": "pgd-8", "from": "b"}, "a", "no access"),
        ({"name": "t", "attack": "pgd-8", "from": "b"}, "b", "the model"),
        ({"name": "t", "attack": "auto", "from": ["b", "c"]}, "a", "no access"),
        ({"name": "t", "attack": "auto", "from": ["b", "c"]}, "b", None),
        ({"name": "t", "attack": "square-9", "from": "b"}, "a", None),
        ("minimal-9", "a", None),
        ("shop.attacks:mine", "a", None),
        ({"name": "t", "attack": "pgd-8", "loss": "score"}, "a", None),
    ],
)
def test_an_attack_stands_on_the_rung_of_what_it_knows(entry, on, wanted):
    assert knowledge.rung(AttackSpec.model_validate(attack_entry(entry)), on) == wanted


@pytest.fixture
def read(make_run):
    return results.read(make_run(attacks=ATTACKS))


def test_the_ladder_holds_each_rung_with_its_own_numbers(read):
    table = every.all_tables(read)["knowledge"]
    assert list(table.columns) == knowledge.COLUMNS
    on = table[table["model"] == "unsecured"]
    rungs = on.groupby("knowledge", sort=False)["attack"].unique().map(list).to_dict()
    assert rungs == {
        "nothing": ["noise"],
        "no access": ["from-at", "from-both"],
        "lists alone": ["rank-40", "rank-400"],
        "distances": ["square-300"],
        "the model": ["auto"],
    }
    assert "from-both" not in set(table[table["model"] == "cat"]["attack"])
    asked = on.groupby("attack")["queries"].first().to_dict()
    assert asked == {
        "noise": 0, "from-at": 0, "from-both": 0, "rank-40": 40, "rank-400": 400,
        "square-300": 300, "auto": 0,
    }  # fmt: skip
    keys = ["model", "attack", "epsilon", "rank"]
    shared = ["n", "successes", "percent", "low_percent", "high_percent"]
    both = table.merge(read.success, on=keys, suffixes=("", "_success"))
    assert len(both) == len(table)
    for column in shared:
        assert (both[column] == both[f"{column}_success"]).all()


def test_what_is_above_noise_is_paired_by_tuple(read):
    table = every.all_tables(read)["knowledge"].set_index(["model", "attack", "epsilon", "rank"])
    rows = read.outcomes[(read.outcomes["model"] == "at") & (read.outcomes["epsilon"] == 0.05)]
    won = rows.assign(won=rows["adversarial_rank"] <= 10).pivot_table(
        index=["tuple_id", "target_id"], columns="attack", values="won", aggfunc="first"
    )
    difference = won["rank-400"].astype(int) - won["noise"].astype(int)
    low, high = paired_difference(difference, won.index.get_level_values("target_id"))
    row = table.loc["at", "rank-400", 0.05, 10]
    assert row["above_noise"] == pytest.approx(100 * difference.mean())
    assert row["above_noise_low"] == pytest.approx(100 * low)
    assert row["above_noise_high"] == pytest.approx(100 * high)
    assert np.isnan(table.loc["at", "noise", 0.05, 10]["above_noise"])


def test_page_and_figure_show_it(read):
    tables = every.all_tables(read)
    shown = page.tables(read, tables["knowledge"])
    assert len(shown) == 3
    assert "success at rank 10" in shown[0].caption
    cells = [[cell.text for cell in row[:3]] for row in shown[0].rows]
    assert ["lists alone", "rank-400", "400"] in cells
    assert ["nothing", "noise", "none"] in cells
    below = {row[1].text: row[1].below for row in shown[0].rows}
    assert below["from-both"] == "pgd-8, made on at and cat"
    chart = charts.ladder(read, tables)
    assert set(chart.data["rank"]) == {10}
    assert {"lists alone", "distances", "no access: made on at"} <= set(chart.data["label"])
    for shape in ("wide", "narrow"):
        assert len(chart.draw(shape).axes) == 3


def test_one_rung_is_no_ladder(make_run):
    only = results.read(make_run(attacks=("pgd-8", "auto")))
    tables = every.all_tables(only)
    assert "knowledge" not in tables
    assert "knowledge" not in charts.charts(only, tables)
    assert isinstance(knowledge.ladder(only), pd.DataFrame)
