"""Training as a user runs it, on Ray Train with two workers, disturbed by kill -9."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from advrec.run.directory import Run
from advrec.training.state import read_history
from tests.commands import ADVREC, kill_when
from tests.commands import advrec_process as advrec
from tests.conftest import draw_catalog
from tests.runs import write_study

pytestmark = pytest.mark.ray
DISTURBANCES = {"kill": signal.SIGKILL, "ctrl-c": signal.SIGINT, "worker": signal.SIGKILL}
# exit codes of the driver, where it does not go on by itself
ENDS = {"kill": -signal.SIGKILL, "ctrl-c": 130}
MODELS = {"cat": {"defense": "cat", "ks": [0, 2, 4], "patience": 3, "epochs": 4, "batch": 32}}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed")
    train(directory)
    return directory


def train(directory: Path, disturb=()):
    """Train; each time one more epoch is done, end the driver by a signal, or a worker by kill -9;
    then to the end.
    """
    run = Run(directory / "run")
    with run.lock():
        draw_catalog(run)
    study = write_study(
        directory / "cat.yaml", run, evaluation={}, models=MODELS, resources={"training_workers": 2}
    )
    command = [*ADVREC, "train", str(study), "--out", str(run.directory)]
    for what in [*disturb, None]:
        epochs = saved_epochs(run)
        with (directory / "said").open("w") as said:
            # A shell's background job, and so these tests in one, ignore SIGINT, and so would what
            # they start.
            driver = subprocess.Popen(
                command,
                cwd=directory,
                stdout=said,
                stderr=said,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
            if what is not None:
                deadline = time.monotonic() + 200
                # It has said so: workers of a killed driver may save one more epoch before they
                # end.
                while (
                    "train cat: epoch" not in (directory / "said").read_text()
                    and time.monotonic() < deadline
                ):
                    time.sleep(0.02)
                assert driver.poll() is None
                os.kill(
                    a_worker(driver.pid) if what == "worker" else driver.pid, DISTURBANCES[what]
                )
            code = driver.wait(280)
        said = (directory / "said").read_text()
        assert code == ENDS.get(what, 0), said
        assert ("goes on after epoch" in said) == (epochs > 0)
        if what == "ctrl-c":
            assert "interrupted; what is finished is kept" in said
            assert "Traceback" not in said
        if code == 0:
            return run
    raise AssertionError("it never ended")


def saved_epochs(run: Run) -> int:
    return sum(
        len(read_history(state)) for state in run.training("cat").glob("*/state.safetensors")
    )


def a_worker(driver: int) -> int:
    """A process that trains for this driver."""
    parents, trains = {}, []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if (path / "cmdline").read_text().startswith("ray::RayTrainWorker"):
                trains.append(int(path.name))

    def is_below(pid: int) -> bool:
        return pid == driver or (pid in parents and is_below(parents[pid]))

    return next(pid for pid in trains if is_below(pid))


def path_of(run: Run):
    return pq.read_table(run.model("cat") / "history.parquet").drop_columns("seconds").to_pylist()


def test_a_training_whose_driver_and_worker_are_killed_ends_with_the_weights_of_an_undisturbed_one(
    undisturbed, tmp_path
):
    disturbed, whole = (
        train(tmp_path, disturb=["kill", "ctrl-c", "worker"]),
        Run(undisturbed / "run"),
    )
    assert path_of(disturbed) == path_of(whole)
    assert {row["attack_steps"] for row in path_of(whole)} == {0, 2, 4}
    expected, found = load_file(whole.weights("cat")), load_file(disturbed.weights("cat"))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert value.equal(found[name]), name
    assert not disturbed.training("cat").exists()


def test_a_training_of_another_kind_does_not_go_on_from_it(undisturbed, tmp_path):
    run = Run(tmp_path / "run")
    with run.lock():
        draw_catalog(run)
    study = write_study(
        tmp_path / "cat.yaml", run, evaluation={}, models=MODELS, resources={"training_workers": 2}
    )
    kill_when(lambda: saved_epochs(run) > 0, "train", study, "--out", run.directory, cwd=tmp_path)
    other = advrec(
        "train", study, "--out", run.directory, "--set", "models.cat.ks=[1]", cwd=tmp_path
    )
    assert other.returncode == 0, other.stderr
    assert "goes on" not in other.stdout
    assert {row["attack_steps"] for row in path_of(run)} == {1}
