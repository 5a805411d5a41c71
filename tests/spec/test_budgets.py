"""Budgets as people write them: 2/255 means the float, and is remembered for whoever shows it."""

import copy
import json
import pickle
import shutil
from fractions import Fraction

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from advrec.errors import ConfigError
from advrec.run import identity
from advrec.run.cells import cells
from advrec.spec import budgets, search
from advrec.spec import study as study_file
from advrec.spec import yaml as strict_yaml
from advrec.spec.defenses import DEFENSES
from tests.commands import advrec
from tests.conftest import STUDY, study
from tests.runs import EVALUATION, blocks, rows, write_study

LEVELS = ["1/255", "0.5/255", "2/255"]


@given(st.integers(0, 2550).map(lambda tenths: f"{Fraction(tenths, 10).__float__():g}/255"))
def test_a_text_means_its_float_and_comes_back_as_it_was_written(text):
    budget = budgets.parse(text)
    assert budget == float(text.removesuffix("/255")) / 255
    assert hash(budget) == hash(float(budget))
    for same in (budget, pickle.loads(pickle.dumps(budget)), copy.deepcopy(budget)):
        assert budgets.shown(same) == text
    assert budgets.shown(float(budget), [0.12345, budget]) == text, "as a table gives it back"
    assert json.loads(json.dumps(budget)) == float(budget)


def test_budgets_that_nobody_wrote_follow_the_others_of_the_study():
    known = [budgets.parse("1/255"), 0.0]
    assert budgets.shown(1.5 / 255, known) == "1.5/255"
    assert budgets.shown(1.5 / 255, [*known, 0.03]) == "0.00588235"
    assert budgets.shown(0.03) == "0.03"


def test_a_resolved_study_keeps_what_was_written_and_sorts_by_the_float():
    resolved = study(evaluation=EVALUATION | {"epsilons": LEVELS})
    written = study_file.as_dict(resolved)
    assert written["evaluation"]["epsilons"] == ["0.5/255", "1/255", "2/255"]
    again = study_file.parse(yaml.safe_load(yaml.safe_dump(written)), "again")
    assert study_file.as_dict(again) == written
    assert again == study(evaluation=EVALUATION | {"epsilons": [0.5 / 255, 1 / 255, 2 / 255]})


@pytest.mark.parametrize("bad", ["2/256", "256/255", "-1/255", "1/255/2", "half", "0.01", "1 /255"])
def test_what_is_no_budget_is_refused_in_one_sentence(bad):
    with pytest.raises(ConfigError) as error:
        study(evaluation=EVALUATION | {"epsilons": [0.5, bad]})
    said = "is no budget: write a number of 0 to 1, as 0.01 or 2/255"
    assert str(error.value) == f"test: evaluation.epsilons.1: {bad!r} {said}"


def test_one_budget_written_in_two_ways_stands_twice():
    with pytest.raises(ConfigError, match="epsilons lists 2/255 twice"):
        study(evaluation=EVALUATION | {"epsilons": ["2/255", 0.00784313725490196]})


START = {"defense": "none"}


@pytest.mark.parametrize(
    "defense", [kind.word() for kind in DEFENSES if "epsilon" in kind.model_fields]
)
def test_every_defense_takes_levels_and_is_the_same_model(defense):
    both = [
        study(models={"s": START, "m": {"defense": defense, "epsilon": epsilon, "init": "s"}})
        for epsilon in ("2/255", 0.00784313725490196)
    ]
    assert both[0].models["m"].epsilon == 2 / 255
    assert study_file.as_dict(both[0])["models"]["m"]["epsilon"] == "2/255"
    parts = [identity.identities(each).models["m"] for each in both]
    assert parts[0] == parts[1]
    assert json.dumps(parts[0]) == json.dumps(parts[1]), "as a version before wrote it"


def test_a_cell_is_the_same_however_its_budgets_are_written():
    both = [
        study(evaluation=EVALUATION | {"epsilons": epsilons})
        for epsilons in (["2/255"], [0.00784313725490196])
    ]
    texts = [[json.dumps(identity.cell(each, cell)) for cell in cells(each)] for each in both]
    assert texts[0] == texts[1]


def test_a_search_takes_levels_and_is_the_same_search(tmp_path):
    (tmp_path / "tiny.yaml").write_text(
        yaml.safe_dump(STUDY | {"models": {"at": {"defense": "at", "steps": 1, "epochs": 1}}})
    )
    parts = []
    for two, four in (("2/255", "4/255"), (2 / 255, 4 / 255)):
        content = {
            "name": "levels",
            "study": "tiny.yaml",
            "model": "at",
            "epsilon": two,
            "set": {"evaluation.epsilons": [two]},
            "searcher": "random",
            "space": {
                "models.at.epsilon": {"choice": [two, four]},
                "models.at.learning_rate": {"uniform": [two, four]},
            },
        }
        (tmp_path / "search.yaml").write_text(yaml.safe_dump(content))
        spec, chosen, directory = search.load(tmp_path / "search.yaml")
        assert spec.epsilon == 2 / 255
        assert spec.space["models.at.learning_rate"].uniform == (2 / 255, 4 / 255)
        whole = study_file.resolve(chosen, "study", directory)
        parts.append(json.dumps(identity.search(spec, whole, ["at"])))
    assert parts[0] == parts[1]


def test_set_takes_levels():
    raw = copy.deepcopy(STUDY)
    strict_yaml.override(raw, "evaluation.epsilons=[1/255, 2/255]")
    assert study_file.parse(raw, "study").evaluation.epsilons == (1 / 255, 2 / 255)


def test_a_run_in_floats_goes_on_in_levels(ready, tmp_path):
    shutil.copytree(ready.directory, tmp_path / "run")
    few = {"attacks": ["pgd-2"], "tuples": 4, "examples": 1}
    for epsilons in ([0.00784313725490196, 0.01568627450980392], ["2/255", "4/255"]):
        write_study(tmp_path / "s.yaml", ready, evaluation=few | {"epsilons": epsilons})
        done = advrec("evaluate", "s.yaml", "--out", "run", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        written = blocks(tmp_path / "run")
        if epsilons[0] != "2/255":
            before = written
    assert written == before, "nothing is attacked again"
    assert set(rows(tmp_path / "run")["epsilon"]) == {2 / 255, 4 / 255}
    pair = pq.read_table(tmp_path / "run" / "tuples.parquet").to_pylist()[0]
    words = ["--target", pair["target_id"], "--article", pair["attack_id"], "--out", "run"]
    words += ["--model", "unsecured", "--attack", "pgd-2", "--epsilon"]
    made = advrec("attack", "s.yaml", *words, "4/255", cwd=tmp_path)
    assert "budget epsilon 4/255, largest change of a pixel 0.0157" in made.stdout
    refused = advrec("attack", "s.yaml", *words, "4/256", cwd=tmp_path)
    assert (refused.returncode, refused.stderr) == (
        2,
        "advrec: --epsilon: '4/256' is no budget: write a number of 0 to 1, as 0.01 or 2/255\n",
    )
