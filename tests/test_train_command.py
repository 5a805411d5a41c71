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

from advrec.store import Run
from advrec.training.state import read_history
from tests.conftest import draw_catalog
from tests.runs import write_study
from tests.test_study import ADVREC, advrec, kill_when

MODELS = {"cat": {"defense": "cat", "ks": [0, 2, 4], "patience": 3, "epochs": 4, "batch": 32}}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed")
    train(directory)
    return directory


def train(directory: Path, kill=()):
    """Train, killing the driver or a worker (by name) each time one more epoch is saved; then to the end."""
    run = Run(directory / "run")
    with run.lock():
        draw_catalog(run)
    study = write_study(directory / "cat.yaml", run, evaluation={}, models=MODELS, resources={"training_workers": 2})
    command = ["train", study, "--out", run.directory]
    for what in kill:
        epochs = saved_epochs(run)
        grown = lambda: saved_epochs(run) > epochs  # noqa: B023, E731
        if what == "driver":
            kill_when(grown, *command, cwd=directory)
            continue
        driver = subprocess.Popen([*ADVREC, *map(str, command)], cwd=directory, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 200
        while not grown() and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert driver.poll() is None
        os.kill(a_worker(driver.pid), signal.SIGKILL)
        assert driver.wait(280) == 0, driver.stderr.read()
        return run
    ended = advrec(*command, cwd=directory)
    assert ended.returncode == 0, ended.stderr
    return run


def saved_epochs(run: Run) -> int:
    return sum(len(read_history(state)) for state in run.training("cat").glob("*/state.safetensors"))


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


def test_a_training_whose_driver_and_worker_are_killed_ends_with_the_weights_of_an_undisturbed_one(undisturbed, tmp_path):
    disturbed, whole = train(tmp_path, kill=["driver", "driver", "worker"]), Run(undisturbed / "run")
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
    study = write_study(tmp_path / "cat.yaml", run, evaluation={}, models=MODELS, resources={"training_workers": 2})
    kill_when(lambda: saved_epochs(run) > 0, "train", study, "--out", run.directory, cwd=tmp_path)
    other = advrec("train", study, "--out", run.directory, "--set", "models.cat.ks=[1]", cwd=tmp_path)
    assert other.returncode == 0, other.stderr
    assert "goes on" not in other.stdout
    assert {row["attack_steps"] for row in path_of(run)} == {1}
