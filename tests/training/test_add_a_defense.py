"""A defense is added as ARCHITECTURE.md says: its keys, its class, one registration. All else
follows, from the study file to the weights and the report's names.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import advrec
from advrec.run.directory import Run
from advrec.run.files import read_json
from advrec.spec import study as study_file
from tests.runs import write_study

KEYS = '''
class Brightening(TrainedModel):
    """Training on brighter images."""

    label = "brighter images"
    implementation = "advrec.training.defenses.bright:Brighter"

    defense: Literal["bright"]
    amount: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    """Brightness that is added."""


'''
CLASS = """
import dataclasses

from advrec.training.defenses.base import Defense


@dataclasses.dataclass(frozen=True, kw_only=True)
class Brighter(Defense):
    amount: float

    def craft(self, network, batch, stage, generator):
        print(f"brighter by {self.amount}")  # one write: progress has a thread of its own
        yield (batch.images + self.amount).clamp(0.0, 1.0)
"""
REGISTRATION = "DEFENSES: tuple[type[Training], ...] = (\n"
SEEN = """
import json, sys
from pathlib import Path
from advrec import cli
from advrec.errors import ConfigError
from advrec.reports import results
from advrec.reports.page.comparison import quality_table
from advrec.run.directory import Run
from advrec.spec import models, study
codes = [cli.main([stage, sys.argv[1], "--out", sys.argv[2]]) for stage in ("train", "evaluate")]
try:
    study.load(Path(sys.argv[1]), ["models.m.defense=brigth"])
except ConfigError as error:
    refused = str(error)
entry = "{model: resnet18, weights: imagenet, defense: bright}"
own = study.load(Path(sys.argv[1]), [f"models.own={entry}"])
label = models.LABELS[own.models["own"].defense]
page = quality_table(results.read(Run(Path(sys.argv[2])))).rows[0][0].below
print(json.dumps([codes, refused, label, page]))
"""


@pytest.mark.long
def test_a_defense_is_added_by_its_keys_its_class_and_one_registration(prepared, tmp_path):
    shutil.copytree(Path(advrec.__file__).parent, tmp_path / "advrec")
    keys = tmp_path / "advrec" / "spec" / "defenses.py"
    text = keys.read_text().replace(REGISTRATION, f"{KEYS}{REGISTRATION}    Brightening,\n")
    keys.write_text(text)
    (tmp_path / "advrec" / "training" / "defenses" / "bright.py").write_text(CLASS)
    run = Run(tmp_path / "run")
    with run.lock():
        shutil.copytree(prepared.directory, run.directory, dirs_exist_ok=True)
    entry = {"epochs": 2, "batch": 32, "width": 0.35}
    file = write_study(
        tmp_path / "s.yaml",
        run,
        evaluation={"tuples": 4, "attacks": ["fgsm"], "examples": 0},
        models={"m": {"defense": "bright", "amount": 0.25, **entry}},
        resources={"actors": 0},
    )
    done = subprocess.run(
        [sys.executable, "-c", SEEN, file, run.directory],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    codes, refused, label, page = json.loads(done.stdout.splitlines()[-1])
    assert codes == [0, 0]
    assert run.weights("m").exists()
    assert read_json(run.model("m") / "metrics.json")["n"] > 0
    plain = study_file.load(file, [f"models.m={json.dumps({'defense': 'none', **entry})}"])
    steps = plain.models["m"].steps_an_epoch(read_json(run.preparation)["splits"]["train"])
    assert done.stdout.count("brighter by 0.25") == 2 * steps
    assert "did you mean bright?" in refused
    assert "allowed: bright, none, at" in refused
    assert label == "brighter images (bright)"
    assert page == f"defense: {label}"
