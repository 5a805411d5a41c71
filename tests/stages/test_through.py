"""`through` in a study and in a run: what is the default, what is refused, and that runs of earlier
versions go on blind.
"""

import json
import shutil

import pandas as pd
import pytest
import yaml

from advrec.errors import ConfigError
from advrec.run.directory import Run
from advrec.spec import study as study_file
from tests.commands import advrec
from tests.conftest import STUDY, study
from tests.runs import write_study

ATTACKS = ["pgd-2", "apgd-2"]


def through_of(attacks, delivery=("float", "png", "jpeg-90")):
    evaluation = STUDY["evaluation"] | {"attacks": attacks, "delivery": list(delivery)}
    return {a.name: a.through for a in study(evaluation=evaluation).evaluation.attacks}


def test_a_new_study_goes_through_all_its_deliveries_but_for_what_is_published():
    names = ["auto", "apgd-8", "apgd-l2-8", "pgd-decay-8", "mifgsm-8", "cw-exact-8", "square-9"]
    transfer = {"name": "t", "attack": "apgd-8", "from": "unsecured"}
    assert set(through_of([*names, transfer]).values()) == {("png", "jpeg-90")}
    assert set(through_of(["fgsm", "pgd-8", "cw-8", "noise"]).values()) == {()}
    assert through_of(["auto"], ["float"]) == {"auto": ()}


def test_an_entry_may_say_what_it_sees():
    entries = [
        {"name": "blind", "attack": "auto", "through": []},
        {"name": "float", "attack": "auto", "through": "float"},
        {"name": "both", "attack": "auto", "through": ["jpeg-90", "png"]},
        {"name": "pgd", "attack": "pgd-8", "through": "png"},
    ]
    seen = {"blind": (), "float": (), "both": ("png", "jpeg-90"), "pgd": ("png",)}
    assert through_of(entries) == seen


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"name": "a", "through": ["webp-80"]}, r"attacks\.0\.through is webp-80, which is not in"),
        ({"through": []}, "says through needs a name of its own: add name"),
        ({"name": "a", "through": ["png", "png"]}, "lists png twice"),
        ({"name": "a", "through": "gif"}, "through: 'gif' is nothing .*float, png, jpeg-Q,"),
        ({"name": "a", "attack": "noise", "through": "png"}, "noise looks at nothing"),
        ({"name": "a", "trough": "png"}, "did you mean through"),
    ],
)
def test_what_cannot_be_seen_is_refused_in_one_sentence(entry, said):
    with pytest.raises(ConfigError, match=said) as error:
        through_of([{"attack": "apgd-2"} | entry])
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory, ready):
    """A finished run as version 0.2.0 left it, and its study, which says nothing of `through`."""
    directory = tmp_path_factory.mktemp("earlier")
    shutil.copytree(ready.directory, directory / "results" / "s")
    blind = ["pgd-2", {"name": "apgd-2", "attack": "apgd-2", "through": []}]
    evaluation = {"attacks": blind, "delivery": ["png"], "epsilons": [0.05], "tuples": 8}
    path = write_study(directory / "s.yaml", ready, evaluation=evaluation)
    done = advrec("evaluate", path.name, cwd=directory)
    assert done.returncode == 0, done.stderr
    write_study(path, ready, evaluation=evaluation | {"attacks": ATTACKS})
    run = Run(directory / "results" / "s")
    identities = json.loads((run.directory / "identities.json").read_text())
    for identity in identities.values():
        identity.pop("through", None)
        identity.pop("rank", None)
    (run.directory / "identities.json").write_text(json.dumps(identities))
    resolved = yaml.safe_load(run.study.read_text())
    for entry in resolved["evaluation"]["attacks"]:
        del entry["through"], entry["rank"]
    run.study.write_text(yaml.safe_dump(resolved))
    return directory


@pytest.fixture
def again(earlier, tmp_path):
    shutil.copytree(earlier, tmp_path, dirs_exist_ok=True)
    return tmp_path


def rows_of(directory, attack="apgd-2"):
    files = sorted(directory.glob(f"results/s/attacks/*/attack={attack}/*.parquet"))
    return pd.concat([pd.read_parquet(path) for path in files]).drop(columns="seconds")


def resolved_of(directory):
    attacks = study_file.read(Run(directory / "results" / "s").study).evaluation.attacks
    return {attack.name: attack.through for attack in attacks}


@pytest.mark.long
def test_a_run_of_an_earlier_version_goes_on_blind_and_is_reported_as_such(again):
    before = rows_of(again)
    (lost,) = again.glob("results/s/attacks/*/attack=apgd-2/block-000001.parquet")
    lost.unlink()
    wanted = (again / "s.yaml").read_text().replace("- apgd-2", "- apgd-2\n  - apgd-3")
    (again / "s.yaml").write_text(wanted)
    done = advrec("study", "s.yaml", cwd=again)
    assert done.returncode == 0, done.stderr
    assert rows_of(again).equals(before)
    # What is new in it sees the delivery; the resolved study says both.
    assert resolved_of(again) == {"pgd-2": (), "apgd-2": (), "apgd-3": ("png",)}
    assert "linf_png" in rows_of(again, "apgd-3")
    assert "linf_png" not in rows_of(again)
    page = (again / "results" / "s" / "report" / "index.html").read_text()
    assert "; blind" in page
    assert "lower bound" in page
    table = pd.read_csv(again / "results" / "s" / "report" / "tables" / "delivered.csv")
    seen = table[table["delivery"] == "png"].groupby("attack")["seen"].all().to_dict()
    assert seen == {"pgd-2": False, "apgd-2": False, "apgd-3": True}
    # Again nothing is to do.
    done = advrec("evaluate", "s.yaml", cwd=again)
    assert (done.returncode, resolved_of(again)["apgd-2"]) == (0, ())


def test_blind_rows_are_not_mixed_with_others(again):
    asked = {"name": "apgd-2", "attack": "apgd-2", "through": ["png"]}
    done = advrec(
        "evaluate", "s.yaml", "--set", f"evaluation.attacks=[{json.dumps(asked)}]", cwd=again
    )
    assert done.returncode == 2
    assert 'made with through = [], the study says ["png"]' in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_new_run_sees_and_says_so(again, ready):
    shutil.rmtree(again / "results" / "s")
    shutil.copytree(ready.directory, again / "results" / "s")
    assert advrec("evaluate", "s.yaml", cwd=again).returncode == 0
    assert resolved_of(again) == {"pgd-2": (), "apgd-2": ("png",)}
    identities = json.loads((again / "results" / "s" / "identities.json").read_text())
    assert identities["attacks/unsecured/apgd-2"]["through"] == ["png"]
    assert "linf_png" in rows_of(again)
    said = advrec(
        *("attack", "s.yaml", "--model", "unsecured", "--attack", "apgd-2"),
        *("--epsilon", "0.05", "--target", "0", "--article", "1"),
        cwd=again,
    )
    assert "made for png and ranked after it" in said.stdout
    assert len(list((again / "results" / "s" / "pictures").glob("attack-*.png"))) == 2
