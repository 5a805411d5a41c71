"""Where there is nothing to compute, neither torch nor Ray is imported."""

import json
import subprocess
import sys

import pytest
import yaml

from advrec.spec import study as study_file
from tests.reports.conftest import Maker

HEAVY = ("torch", "ray", "torchvision", "imagededup", "nmslib")
COMMAND = f"""
import json, sys
from advrec import cli
code = cli.main(sys.argv[1:])
print(json.dumps([code, [name for name in {HEAVY} if name in sys.modules]]))
"""


def fresh(code, *arguments):
    """Run Python code in a fresh process; the JSON of its last line."""
    process = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.long
def test_a_finished_study_its_report_and_its_status_compute_nothing(tmp_path):
    run = Maker(tmp_path)()
    for model in study_file.read(run.study).models:
        run.weights(model).touch()
    assert fresh(COMMAND, "study", run.study, "--out", run.directory) == [0, []]
    assert run.log.read_text().count("done before") == 5
    (run.report / "index.html").unlink()
    assert fresh(COMMAND, "report", run.directory) == [0, []]
    assert (run.report / "index.html").exists()
    assert fresh(COMMAND, "status", run.directory) == [0, []]


@pytest.mark.parametrize(
    ("command", "change"),
    [
        ("study", {"evaluatoin": {}}),
        ("study", {"evaluation": {"attacks": ["fgsm", "pdg-8"]}}),
        ("evaluate", {"models": {"m": {"model": "no.such:module"}}}),
    ],
)
def test_a_study_that_is_refused_for_what_it_says_computes_nothing(tmp_path, command, change):
    study = {"name": "a", "catalog": {"source": "synthetic"}, "models": {"m": {"defense": "none"}}}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study | {"evaluation": {"attacks": ["fgsm"]}} | change))
    assert fresh(COMMAND, command, file, "--out", tmp_path / "out") == [2, []]
    assert not (tmp_path / "out").exists()
