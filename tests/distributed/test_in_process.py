"""A study of which all work is done in this process, without Ray."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml

from advrec import cli
from advrec.model import fused
from advrec.model.fashionnet import FashionNet
from advrec.run import identity
from advrec.run.directory import AUTOGRAD, Run
from advrec.run.tables import read_outcomes
from advrec.spec import study as study_file
from advrec.stages import study as stages
from tests.conftest import STUDY
from tests.runs import ready_run, write_study

WITHOUT_RAY = """
import sys
from advrec import cli
code = cli.main(sys.argv[1:])
assert "advrec.distributed.evaluate" in sys.modules
loaded = [name for name in sys.modules if name.split(".")[0] == "ray"]
sys.exit(f"{len(loaded)} modules of ray are loaded" if loaded else code)
"""


def rows(run):
    read = read_outcomes(run.attacks).to_pandas().drop(columns="seconds")
    return read.sort_values(["model", "attack", "tuple_id", "epsilon"], ignore_index=True)


@pytest.mark.long
def test_a_whole_study_imports_no_ray(tmp_path):
    study = {**STUDY, "resources": {"actors": 0}}  # with it, training_workers: auto means 0
    study["evaluation"] = STUDY["evaluation"] | {
        "tuples": 2,
        "epsilons": [0.05],
        "attacks": ["fgsm"],
        "checks": 1,
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    command = [sys.executable, "-c", WITHOUT_RAY, "study", "study.yaml", "--out", "run"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    run = Run(tmp_path / "run")
    assert len(rows(run)) == 2
    assert (run.report / "index.html").exists()
    assert "image-steps/s" in run.log.read_text()
    assert json.loads(run.health("unsecured").read_text())["n"] >= 2


@pytest.mark.ray
def test_rows_equal_those_of_two_actors(tmp_path, ray_address):
    here, there = ready_run(tmp_path / "here"), ready_run(tmp_path / "there")
    evaluation = {"attacks": ["pgd-4", "apgd-6", "square-10"], "checks": 4}
    path = write_study(tmp_path / "study.yaml", here, evaluation=evaluation)
    for run, actors in ((here, 0), (there, 2)):
        study = study_file.load(path, [f"resources.actors={actors}"])
        address = ray_address if actors else None
        assert stages.run_study(study, run.directory, stages=("evaluate",), address=address) == 0
    assert len(rows(here)) == 3 * 12 * 2
    assert rows(here).equals(rows(there))
    assert run_health(here) == run_health(there)


def test_a_half_done_cell_of_0_2_0_is_finished_by_its_own_steps(tmp_path, monkeypatch):
    old, now = ready_run(tmp_path / "old"), ready_run(tmp_path / "now")
    evaluation = {"tuples": 4, "block": 2, "attacks": ["apgd-8"], "checks": 0}
    path = write_study(tmp_path / "s.yaml", old, evaluation=evaluation, resources={"actors": 0})
    study = study_file.load(path)

    def evaluate(run):
        assert stages.run_study(study, run.directory, stages=("evaluate",)) == 0
        return rows(run)

    with monkeypatch.context() as before:
        before.setattr(FashionNet, "embed", FashionNet.plain)
        before.setattr(identity, "PROTOCOL", AUTOGRAD)
        whole = evaluate(old)
    old.block("unsecured", "apgd-8", 1).unlink()
    assert evaluate(old).equals(whole)
    assert old.identities()["attacks/unsecured/apgd-8"]["protocol"] == AUTOGRAD
    fused = evaluate(now)
    assert not fused.equals(whole)  # in the last bits, or this test shows nothing
    assert fused["adversarial_distance"].to_numpy() == pytest.approx(
        whole["adversarial_distance"].to_numpy(), abs=1e-3
    )


def test_the_log_says_of_each_model_why_it_takes_the_plain_step(tmp_path, monkeypatch):
    run = ready_run(tmp_path / "run")
    evaluation = {"tuples": 2, "epsilons": [0.05], "attacks": ["fgsm"], "checks": 1}
    path = write_study(tmp_path / "s.yaml", run, evaluation=evaluation, resources={"actors": 0})

    def refuse(*_):
        raise fused.UnfusableError("it has no convolution")

    monkeypatch.setattr(fused, "segmented", refuse)
    assert stages.run_study(study_file.load(path), run.directory, stages=("evaluate",)) == 0
    assert run_health(run)["plain_step"] == "it has no convolution"
    assert "unsecured takes the plain step: it has no convolution" in run.log.read_text()


def run_health(run):
    return json.loads(run.health("unsecured").read_text())


@pytest.mark.long
def test_ctrl_c_ends_the_command_and_the_same_command_goes_on(tmp_path, capsys):
    run = ready_run(tmp_path / "run")
    evaluation = {"tuples": 6, "block": 1, "attacks": ["pgd-60"]}
    study = write_study(
        tmp_path / "study.yaml", run, evaluation=evaluation, resources={"actors": 0}
    )
    command = ["evaluate", str(study), "--out", str(run.directory)]

    def interrupt_after_a_block():
        deadline = time.monotonic() + 60
        while not any(run.attacks.rglob("block-*.parquet")) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt_after_a_block)
    interrupter.start()
    assert cli.main(command) == 130
    interrupter.join()
    finished = {path: path.stat().st_mtime_ns for path in run.attacks.rglob("block-*.parquet")}
    assert 0 < len(finished) < 6
    assert cli.main(command) == 0
    assert len(rows(run)) == 6 * 2
    assert finished == {path: path.stat().st_mtime_ns for path in finished}


def test_a_dry_run_speaks_of_this_process(tmp_path, capsys):
    run = ready_run(tmp_path / "run")
    study = write_study(tmp_path / "study.yaml", run, evaluation={}, resources={"actors": 0})
    assert cli.main(["evaluate", str(study), "--out", str(run.directory), "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "in this process, without Ray" in said
    assert "0 processes" not in said
