"""What every command does with a call or a study that is wrong, and each command as a process."""

import json
from pathlib import Path

import pytest
import yaml

from advrec import cli
from tests.commands import advrec, advrec_process
from tests.conftest import STUDY


@pytest.fixture
def study(tmp_path):
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(STUDY))
    return tmp_path / "bad.yaml"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (
            ["--set", "evaluation.attacks=[pdg-8]"],
            "/bad.yaml: evaluation.attacks.0: 'pdg-8' is not",
        ),
        (["--set", "evaluation.attacks=[pdg-8]"], "did you mean pgd-8"),
        (["--set", "evaluation.epsilons=[-0.1]"], "evaluation.epsilons.0 is -0.1"),
        (["--set", "evaluation.epsilon=1"], "did you mean epsilons"),
        (["--set", "catalog={source: folder, root: nowhere}"], "is not a directory"),
        (["--set", "seed"], "write --set key.path=value"),
        (["--set", "evaluation.tuples=pairs.csv"], "/bad.yaml: evaluation.tuples: /"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(study, tmp_path, arguments, part):
    refused = advrec("study", study, *arguments, cwd=tmp_path)
    assert refused.returncode == 2
    assert part in refused.stderr
    assert refused.stderr.startswith("advrec: ")
    assert refused.stderr.count("\n") == 1


def test_what_is_not_there_yet_is_said_in_one_sentence(study, tmp_path):
    for command in ("train", "evaluate"):
        refused = advrec(command, study, cwd=tmp_path)
        assert refused.returncode == 1
        assert "run `advrec" in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert advrec("status", tmp_path, cwd=tmp_path).returncode == 2
    assert advrec("frobnicate", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_cluster_that_no_stage_would_use_is_refused(study, tmp_path, dry):
    there = ("--address", "10.0.0.1:6379", *dry)
    refused = advrec("study", study, *there, cwd=tmp_path)
    assert refused.returncode == 2
    assert "--address is 10.0.0.1:6379, but resources.actors is 0" in refused.stderr
    assert not (tmp_path / "results").exists()


def test_results_in_rays_copy_of_a_jobs_directory_are_refused(study, tmp_path):
    """They would vanish with it: Ray names the directory in the environment of a job."""
    job = {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {"working_dir": "gcs://x"}})}
    for out in (["--out", "results/x"], []):
        refused = advrec("evaluate", study, *out, cwd=tmp_path, env=job)
        assert refused.returncode == 2
        assert "would vanish with it; name an absolute --out" in refused.stderr


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("study --help", "--dry-run"),
        ("prepare tiny.yaml", "prepare: done before"),
        ("train tiny.yaml", "train unsecured: done before"),
        ("evaluate tiny.yaml", "evaluate: done before"),
        ("status results/tiny", "3 of 3 blocks done"),
    ],
)
def test_a_command_runs_as_a_process_of_its_own(evaluated, command, part):
    done = advrec_process(*command.split(), cwd=evaluated)
    assert done.returncode == 0, done.stderr
    assert part in done.stdout


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("report", "--against"),
        ("catalog", "STUDY.yaml"),
        ("recommend", "--model"),
        ("attack", "--epsilon"),
        ("push", "URL"),
        ("tune", "TUNE.yaml"),
        ("import-published", "RUN"),
    ],
)
def test_a_command_explains_itself(tmp_path, command, part):
    done = advrec(command, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert part in done.stdout


def test_the_demo_says_at_its_start_how_long_it_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(cli.study, "run_study", lambda *_: 0)
    assert advrec("demo", cwd=tmp_path).stdout.startswith(f"demo: {cli.DEMO_TAKES}")
    (tmp_path / "results/demo").mkdir(parents=True)
    (tmp_path / "results/demo/catalog.parquet").touch()  # it goes on, and how far it is differs
    assert advrec("demo", cwd=tmp_path).stdout == ""
    for name in ("Makefile", "README.md", "docs/start/demo.md", "docs/start/install.md"):
        assert cli.DEMO_TAKES in (Path(__file__).parents[1] / name).read_text(), name
