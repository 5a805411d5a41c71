"""Attacks of a shop's own in a study: rows like those of any attack, or one sentence."""

import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest

from advrec.reports import report
from advrec.run.directory import Run
from advrec.stages import forecast
from tests.attacks.test_own import guide_attack
from tests.commands import advrec
from tests.runs import blocks, rows, write_study

MINE = "shop.attacks:sign_gradient"
NAME = "shop-attacks-sign_gradient"


@pytest.fixture
def shop(ready, tmp_path):
    """A shop with the guide's attack, and a run that is ready to be evaluated."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "attacks.py").write_text(guide_attack()[0])
    shutil.copytree(ready.directory, tmp_path / "results" / "mine")

    def evaluate(*attacks, epsilons=(0.01, 0.05), tuples=6, delivery=("float",), dry=False):
        evaluation = {"attacks": list(attacks), "epsilons": list(epsilons), "tuples": tuples}
        evaluation["delivery"] = list(delivery)
        write_study(tmp_path / "mine.yaml", ready, evaluation=evaluation)
        return advrec("evaluate", "mine.yaml", *["--dry-run"] * dry, cwd=tmp_path)

    return evaluate


def test_the_guide_s_attack_makes_the_rows_of_pgd(shop, tmp_path):
    ours = {"name": "ours", "attack": "pgd-8", "through": ["png"]}
    assert shop(MINE, ours, delivery=["float", "png"]).returncode == 0
    table = rows(tmp_path / "results" / "mine").set_index("attack").drop(columns="winner")
    assert len(table.loc[NAME]) == 12
    assert table.loc[NAME, "raw_linf"].max() < 0.05 + 1e-6  # what it claims, before projection
    table = table.drop(columns="raw_linf")
    pd.testing.assert_frame_equal(
        table.loc[NAME].reset_index(drop=True), table.loc["ours"].reset_index(drop=True)
    )


def test_another_code_is_another_attack(shop, tmp_path, monkeypatch):
    assert shop(MINE).returncode == 0
    before = blocks(tmp_path / "results" / "mine")
    assert shop(MINE, "fgsm").returncode == 0  # the same code: nothing is made anew
    assert before.items() <= blocks(tmp_path / "results" / "mine").items()
    code = tmp_path / "shop" / "attacks.py"
    code.write_text(code.read_text().replace("STEPS = 8", "STEPS = 2"))
    ended = shop(MINE)
    assert ended.returncode == 2
    assert f"holds attacks/unsecured/{NAME} made with code_sha256" in ended.stderr
    assert shop({"name": "again", "attack": MINE}).returncode == 0
    shutil.rmtree(tmp_path / "shop")  # a report needs Parquet alone
    monkeypatch.setattr(report, "write_report", lambda read, partial, compared: read.run.report)
    assert advrec("report", "results/mine", cwd=tmp_path).returncode == 0


def test_a_nested_and_restarted_attack_never_loses(shop, tmp_path):
    keys = {"attack": MINE, "nested": True, "stop": "rank-1", "restarts": 1}
    assert shop(MINE, {"name": "whole", **keys}, epsilons=[0.05, 0.3]).returncode == 0
    table = rows(tmp_path / "results" / "mine").set_index(["attack", "tuple_id", "epsilon"])
    whole, alone = table.loc["whole"], table.loc[NAME]
    assert len(whole) == 12
    assert (
        (whole["adversarial_distance"] <= alone["adversarial_distance"])
        | (whole["adversarial_rank"] == 1)
    ).all()
    nearer = whole["adversarial_distance"].unstack().diff(axis=1).iloc[:, 1]
    assert (nearer <= 0).all()
    assert set(whole["gradient_steps"]) == {16}


BAD = {
    "raised ZeroDivisionError": "    1 / 0\n",
    "changes its argument images in place": "    return images.mul_(0.5)\n",
    "returned a tuple": "    return objective.gradient(images)\n",
    "has no function": None,
}


@pytest.mark.parametrize("words", BAD)
def test_a_wrong_attack_is_refused_before_any_work(shop, tmp_path, words):
    head = "def sign_gradient(images, epsilons, objective, generator):\n"
    text = "" if BAD[words] is None else head + BAD[words]
    (tmp_path / "shop" / "attacks.py").write_text(text)
    ended = shop("fgsm", MINE)
    assert ended.returncode == 2
    assert f"mine.yaml: evaluation.attacks.1: {MINE}" in ended.stderr
    assert words in ended.stderr
    assert not blocks(tmp_path / "results" / "mine")


def test_an_attack_that_fails_later_sets_its_block_aside(shop, tmp_path):
    code = "def sign_gradient(images, *_):\n    assert len(images) == 2, 'only pairs'\n"
    code += "    return images"
    (tmp_path / "shop" / "attacks.py").write_text(code)
    ended = shop("fgsm", MINE, epsilons=[0.01], tuples=6)
    assert ended.returncode == 3
    run = Run(tmp_path / "results" / "mine")
    reason = f"ConfigError: {MINE} raised AssertionError: only pairs (3 attempts)"
    assert run.set_aside() == {f"attacks/unsecured/{NAME}/0": reason}
    kept = pq.read_table(run.block("unsecured", NAME, 1))
    assert kept["gradient_steps"].to_pylist() == [0, 0]
    assert kept["adversarial_rank"].equals(kept["clean_rank"])


def test_a_forecast_calls_it_once_whatever_the_cells(shop, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(forecast, "rehearse", lambda name, size: asked.append(name) or 8)
    several = [MINE, {"name": "again", "attack": MINE}, {"name": "stops", "attack": MINE}]
    shop(*several, "fgsm", dry=True)
    assert asked == [MINE]


def test_one_is_looked_at(shop, tmp_path):
    assert shop("fgsm").returncode == 0
    pair = pq.read_table(Run(tmp_path / "results" / "mine").tuples).slice(0, 1).to_pylist()[0]
    words = ["--model", "unsecured", "--attack", MINE, "--epsilon", "0.05"]
    words += ["--target", pair["target_id"], "--article", pair["attack_id"]]
    ended = advrec("attack", "mine.yaml", *words, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert f"{MINE} on unsecured" in ended.stdout


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"attack": MINE, "restarts": 1}, "give this attack a name of its own"),
        ({"name": "mine", "attack": MINE, "stop": "converged"}, "leave stop out, or write rank-1"),
        ("shop attacks:f", "write package.module:function"),
        (MINE + "gradient" * 6, "at most 64 characters"),
        ("shop.gone:f", "No module named 'shop.gone'"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(shop, entry, words):
    ended = shop(entry)
    assert ended.returncode == 2
    assert words in ended.stderr
