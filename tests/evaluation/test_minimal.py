"""minimal-K in an evaluation: its rows, its smallest budgets as the harness measures them, and what
a report says of them.
"""

import dataclasses
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from advrec.attacks import registry
from advrec.errors import ConfigError
from advrec.evaluation.block import Block
from advrec.evaluation.harness import evaluate_block
from advrec.evaluation.rates import clustered
from advrec.model.encoder import frozen
from advrec.reports import results
from advrec.reports.page.verdict import verdict
from advrec.reports.tables import minimal
from advrec.reports.terminal import comparison_text
from advrec.run.directory import Run
from tests.commands import advrec
from tests.conftest import random_network, recommender, study
from tests.runs import write_study

EPSILONS = (0.002, 0.01, 0.05)
KNOWS_NOT = "minimal-4 knows no stop, nested, restarts or from"


@pytest.fixture(scope="module")
def setting(catalog):
    ids = catalog.ids_of("test")
    block = Block(
        tuple_ids=np.arange(6, dtype=np.int32),
        target_ids=ids[:6],
        attack_ids=ids[6:12],
        pixels=catalog.pixels(ids[6:12]),
        epsilons=EPSILONS,
        batch=4,
        examples=6,
        label="minimal-40",
        seed=7,
        minimal_rank=1,
    )
    return recommender(catalog, frozen(random_network()).embed), block


@pytest.mark.parametrize("rank", [1, 3])
def test_rows_and_smallest_budgets_are_one_search(setting, rank):
    used, block = setting[0], dataclasses.replace(setting[1], minimal_rank=rank)
    rows = evaluate_block(used, registry.by_name("minimal-40"), block).rows.to_pandas()
    assert (rows["linf"] <= rows["epsilon"].astype("float32")).all()
    for _, found in rows.groupby("tuple_id"):
        high = found["epsilon_high"].iloc[0]
        assert (found["epsilon_high"] == high).all()
        assert (found["epsilon_low"] < high).all()
        solved = found["adversarial_rank"] <= rank
        assert (solved == (found["epsilon"] >= high)).all()
        assert found["gradient_steps"].tolist() == [0, 0, 40]  # all budgets for the price of one
        assert (found["forward_passes"] > 0).tolist() == [False, False, True]
    highs = rows.groupby("tuple_id")["epsilon_high"].first()
    assert highs.between(0.0, 0.05).any()
    assert highs.nunique() > 3  # not the study's budgets


def test_it_finds_small_budgets_where_large_steps_lead_astray(setting):
    """A deep network with random weights: from the largest budget down, one of six was found."""
    used, block = setting
    found = evaluate_block(used, registry.by_name("minimal-100"), block).rows.to_pandas()
    assert (found["adversarial_rank"][found["epsilon"] == 0.002] == 1).sum() >= 3


def test_a_rank_further_down_needs_no_larger_budget(setting):
    first, third = (
        evaluate_block(
            setting[0],
            registry.by_name("minimal-100"),
            dataclasses.replace(setting[1], minimal_rank=rank),
        )
        .rows.to_pandas()
        .groupby("tuple_id")["epsilon_high"]
        .first()
        for rank in (1, 3)
    )
    assert third.sum() < first.sum()  # tuple by tuple both are upper bounds


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"attack": "apgd-4", "rank": 3}, "rank belongs to minimal-K, not to apgd-4"),
        (
            {"attack": "minimal-4", "stop": "rank-1"},
            "minimal-4 knows no stop, nested, restarts or from",
        ),
        (
            {"attack": "minimal-4", "nested": True},
            "minimal-4 knows no stop, nested, restarts or from",
        ),
        (
            {"attack": "minimal-4", "from": "other"},
            "minimal-4 knows no stop, nested, restarts or from",
        ),
        (
            {"attack": "minimal-4", "restarts": 1},
            "minimal-4 knows no stop, nested, restarts or from",
        ),
    ],
    ids=str,
)
def test_what_it_does_not_know_is_refused(entry, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        study(
            models={"unsecured": {"defense": "none"}, "other": {"defense": "none"}},
            evaluation={"tuples": 4, "attacks": [{"name": "a"} | entry]},
        )


@pytest.fixture(scope="module")
def reported(ready, tmp_path_factory):
    """A study with a minimal attack at rank 1 and one at rank 3, evaluated."""
    directory = tmp_path_factory.mktemp("minimal")
    attacks = ["minimal-30", {"name": "third", "attack": "minimal-30", "rank": 3}, "noise"]
    evaluation = {"attacks": attacks, "epsilons": list(EPSILONS), "examples": 0}
    file = write_study(directory / "s.yaml", ready, evaluation=evaluation)
    run = Run(directory / "run")
    with run.lock():
        shutil.copytree(ready.directory, run.directory, dirs_exist_ok=True)
    done = advrec("evaluate", file, "--out", run.directory, cwd=directory)
    assert done.returncode == 0, done.stderr
    return results.read(run)


def test_the_curve_counts_the_tuples_that_fall(reported):
    budgets, curve = minimal.budgets(reported), minimal.curve(reported)
    assert set(budgets["attack"]) == {"minimal-30", "third"}
    assert len(budgets) == 2 * 12
    assert set(zip(curve["attack"], curve["rank"], strict=True)) == {
        ("minimal-30", 1),
        ("third", 3),
    }
    for row in curve.to_dict("records"):
        cell = budgets[budgets["attack"] == row["attack"]]
        fallen = (cell["epsilon_high"] <= row["epsilon"]).tolist()
        assert (row["successes"], row["n"]) == (sum(fallen), 12)
        interval = clustered(fallen, cell["target_id"].tolist())
        assert row["low_percent"] == pytest.approx(100 * interval.low)
        assert row["high_percent"] == pytest.approx(100 * interval.high)
    # at a budget of the study, it is the success of the rows
    success = reported.success.set_index(["attack", "rank", "epsilon"])["percent"]
    for attack, rank in (("minimal-30", 1), ("third", 3)):
        last = curve[curve["attack"] == attack].iloc[-1]
        assert last["epsilon"] == 0.05
        assert last["percent"] == success[attack, rank, 0.05]


def test_the_terminal_tells_the_curve(reported):
    lines = comparison_text(reported).splitlines()
    told = [line for line in lines if ", tuples that reach rank " in line]
    assert len(told) == 2
    curve = minimal.curve(reported)
    last = curve[curve["attack"] == "third"].iloc[-1]
    interval = f"({last['low_percent']:.0f} to {last['high_percent']:.0f})"
    assert told[1].endswith(f"{last['percent']:.0f} % {interval} by 0.05")


def test_the_median_is_where_half_of_all_tuples_fall(reported):
    rows = reported.outcomes
    for median in minimal.medians(reported):
        own = minimal.budgets(reported).query("attack == @median.attack")
        found = [
            min(
                [
                    high,
                    *rows[(rows["tuple_id"] == n) & (rows["adversarial_rank"] <= median.rank)][
                        "epsilon"
                    ],
                ]
            )
            for n, high in zip(own["tuple_id"], own["epsilon_high"], strict=True)
        ]
        fallen = [sum(h <= median.epsilon for h in found), sum(h < median.epsilon for h in found)]
        assert fallen[0] >= 6 > fallen[1]


def test_the_verdict_names_the_median_and_takes_no_attack_that_aims_elsewhere(reported):
    said = " ".join(verdict(reported)[0].sentences)
    assert "half of all tuples reach rank 1 at budget epsilon" in said
    assert "strongest attack of this study, <b>third</b>," in said  # the headline's rank is 3
    unsolved = {"epsilon_high": np.inf, "epsilon_low": 0.05, "adversarial_rank": 50}
    none = dataclasses.replace(reported, outcomes=reported.outcomes.assign(**unsolved))
    assert "rank 1 at budget epsilon &gt; 0.05, &gt; 13/255" in " ".join(verdict(none)[0].sentences)


def test_attacks_without_smallest_budgets_have_no_tables(reported):
    rows = reported.outcomes.assign(epsilon_high=np.nan)
    other = dataclasses.replace(reported, outcomes=pd.DataFrame(rows))
    assert minimal.budgets(other).empty
    assert minimal.curve(other).empty
    assert minimal.medians(other) == []
