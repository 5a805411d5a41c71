"""A dry run: blocks, time and memory, and what there is no room for."""

import pytest

from advrec.distributed import evaluate
from advrec.spec import study as study_file
from tests.commands import advrec
from tests.runs import write_study


@pytest.fixture
def study(ready, tmp_path):
    attacks = ["fgsm", {"name": "long", "attack": "cw-1000000", "stop": "rank-1"}]
    return write_study(
        tmp_path / "one.yaml", ready, evaluation={"attacks": attacks}, resources={"actors": 2}
    )


def test_a_dry_run_says_blocks_time_and_memory_and_warns_of_long_blocks(ready, study):
    before = sorted(ready.directory.rglob("*"))
    dry = ("evaluate", study, "--out", ready.directory, "--dry-run")
    shown = advrec(*dry, cwd=study.parent).stdout
    assert "image-steps/s a process" in shown
    assert "unsecured fgsm: 3 blocks of 4 tuples at 2 budgets, about 0 s a block\n" in shown
    warned = next(line for line in shown.splitlines() if "unsecured long: 3 blocks" in line)
    assert "up to about" in warned
    assert "WARNING: longer than 10 min 00 s" in warned
    assert "MiB a process" in shown
    assert "in 2 processes of 1 core each, on this machine" in shown
    assert "checks" not in shown
    checked = advrec(*dry, "--set", "evaluation.checks=4", cwd=study.parent).stdout
    assert "unsecured checks: up to about" in checked
    assert sorted(ready.directory.rglob("*")) == before


def test_a_dry_run_and_an_evaluation_count_memory_alike(ready, study, monkeypatch, capsys):
    """Cores for two, memory for one: Ray takes 30 % for shared objects."""
    free = 1e9
    monkeypatch.setattr("advrec.run.machine.free_memory", lambda: free)
    dry = ("evaluate", study, "--out", ready.directory, "--dry-run")
    assert "in 1 process of 1 core each" in advrec(*dry, cwd=study.parent).stdout
    nodes = [{"CPU": 2.0, "memory": 0.7 * free}]
    monkeypatch.setattr("advrec.distributed.session.nodes", lambda: nodes)
    loaded = study_file.load(study)
    placement = evaluate._placement(ready, loaded, {"unsecured"}, grows=False)
    assert placement.actors == 1
    assert 450e6 < placement.memory < 0.7 * free
    assert "evaluate: memory for 1 of 2 processes" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["actors", "training_workers"])
def test_more_processes_than_this_machine_has_cores_for_are_refused(ready, study, key):
    many = ("--dry-run", "--set", f"resources.{key}=5000")
    refused = advrec("evaluate", study, "--out", ready.directory, *many, cwd=study.parent)
    assert refused.returncode == 1
    assert f"resources.{key} asks for 5000 processes" in refused.stderr
