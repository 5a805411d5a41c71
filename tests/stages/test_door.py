"""`ingest` in a study and in a run: what attacks pass by default, what is refused, and that a run
without it stays what it is.
"""

import json
import shutil

import pandas as pd
import pytest
import yaml

from advrec.errors import ConfigError
from advrec.model import checkpoint
from advrec.run import identity
from advrec.run.cells import cells
from advrec.run.directory import Run
from advrec.run.tables import read_embeddings
from advrec.spec import study as study_file
from tests.commands import advrec
from tests.conftest import STUDY, study
from tests.runs import EVALUATION

PLAIN = {"defense": "none", "epochs": 1}


def through_of(attacks, models, delivery=("float", "jpeg-90")):
    evaluation = STUDY["evaluation"] | {"attacks": attacks, "delivery": list(delivery)}
    made = study(evaluation=evaluation, models=models)
    return {a.name: a.through for a in made.evaluation.attacks}


def test_attacks_pass_the_door_by_default_where_a_model_has_one():
    attacks = ["auto", "pgd-8", {"name": "blind", "attack": "auto", "through": []}]
    attacks += [{"name": "half", "attack": "auto", "through": ["jpeg-90", "ingest"]}]
    door = {"unsecured": PLAIN, "door": PLAIN | {"ingest": "jpeg-75"}}
    both = ("ingest", "jpeg-90")
    assert through_of(attacks, door) == {"auto": both, "pgd-8": (), "blind": (), "half": both}
    assert through_of(attacks[:3], {"unsecured": PLAIN})["auto"] == ("jpeg-90",)
    with pytest.raises(ConfigError, match=r"attacks\.3\.through names ingest, and no model has"):
        through_of(attacks, {"unsecured": PLAIN})


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (PLAIN | {"ingest": "upload-64+jpeg-75"}, "belongs to a delivery"),
        (PLAIN | {"ingest": "jpg-75"}, "nothing that is done to an image"),
        ({"model": "torchvision/resnet18", "ingest": "smooth-0.1-8+png"}, "it is last"),
    ],
)
def test_what_is_no_door_is_refused_in_one_sentence(entry, said):
    with pytest.raises(ConfigError, match=said) as error:
        study(models={"a": entry})
    assert "\n" not in str(error.value)
    assert "models.a" in str(error.value)


def test_the_door_of_a_model_is_a_part_of_it_and_of_no_other():
    before = study()
    door = study(models={"unsecured": PLAIN, "door": PLAIN | {"ingest": "blur-1.0"}})
    parts = identity.identities(door).models
    assert parts["door"] == parts["unsecured"] | {"ingest": "blur-1"}
    assert parts["unsecured"] == identity.identities(before).models["unsecured"]
    attack = {"attacks": ["apgd-2"]}
    one, two = (
        {cell.model: identity.cell(each, cell) for cell in cells(each)}
        for each in (
            study(evaluation=STUDY["evaluation"] | attack),
            study(evaluation=STUDY["evaluation"] | attack, models=door_models()),
        )
    )
    assert two["unsecured"] == one["unsecured"]
    assert two["door"] == one["unsecured"] | {"through": ["ingest"]}
    said = study_file.as_dict(before)["models"]["unsecured"]
    assert "ingest" not in said


def door_models():
    return {"unsecured": PLAIN, "door": PLAIN | {"ingest": "blur-1"}}


@pytest.mark.long
def test_a_run_gains_a_model_with_a_door_and_keeps_its_rows(evaluated, tmp_path):
    shutil.copytree(evaluated, tmp_path, dirs_exist_ok=True)
    run = Run(tmp_path / "results" / "tiny")
    before = {path: path.read_bytes() for path in run.attacks.rglob("*.parquet")}
    content = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    content["models"]["door"] = {"defense": "none", "epochs": 1, "ingest": "bits-3"}
    content["models"]["both"] = {"join": ["unsecured", "door"], "ingest": "median-3"}
    attacks = [*EVALUATION["attacks"], "apgd-2"]
    content["evaluation"] |= {
        "attacks": [*attacks, {"name": "b", "attack": "apgd-2", "through": []}]
    }
    network = checkpoint.load(run.weights("unsecured"))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    done = advrec("study", "tiny.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in before} == before
    door, both = (checkpoint.load(run.weights(model)) for model in ("door", "both"))
    assert (door.door.ingest, door.door.seed) == ("bits-3", 42)
    assert (both.door.ingest, both.networks[1].door.ingest) == ("median-3", "bits-3")
    assert network.door is None
    assert len(read_embeddings(run, "both", both.dimension)) > 0
    recorded = json.loads((run.directory / "identities.json").read_text())
    said = {
        (model, attack): recorded[f"attacks/{model}/{attack}"]["through"]
        for model in ("unsecured", "door", "both")
        for attack in ("pgd-2", "apgd-2", "b")
    }
    assert {key for key, through in said.items() if through == ["ingest"]} == {
        ("door", "apgd-2"),
        ("both", "apgd-2"),
    }
    rows = pd.concat(map(pd.read_parquet, run.attacks.glob("model=door/attack=*2/*.parquet")))
    assert len(rows)
    page = (run.directory / "report" / "index.html").read_text()
    assert "apgd-2" in page
    # Again nothing is to do.
    done = advrec("evaluate", "tiny.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
