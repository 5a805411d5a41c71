"""Training as a user runs it, on Ray Train with two workers, disturbed by kill -9 and Ctrl-C."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from advrec.run.directory import Run
from advrec.training.state import Epoch, read_history
from tests.commands import advrec, kill_when, started, wait_until
from tests.conftest import draw_catalog
from tests.runs import write_study

MODELS = {
    "base": {"defense": "none", "epochs": 1, "batch": 32},
    "cat": {
        "defense": "cat",
        "ks": [0, 1, 2],
        "patience": 1,
        "epochs": 2,
        "batch": 32,
        "init": "base",
    },
}
"""Where nothing disturbs them the same workers train both; a disturbed cat goes on in new ones."""
ENDS = {"kill": -signal.SIGKILL, "ctrl-c": 130, "worker": 0}
"""Exit codes of a driver that is disturbed; without a worker it goes on by itself."""


def prepared_study(directory: Path) -> tuple[Run, tuple[object, ...]]:
    """A run with a catalog, and the command that trains on it with two workers."""
    run = Run(directory / "run")
    with run.lock():
        draw_catalog(run)
    study = write_study(
        directory / "cat.yaml", run, evaluation={}, models=MODELS, resources={"training_workers": 2}
    )
    return run, ("train", study, "--out", run.directory)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, ray_address):
    directory = tmp_path_factory.mktemp("undisturbed")
    run, train = prepared_study(directory)
    done = advrec(*train, "--address", ray_address, cwd=directory)
    assert done.returncode == 0, done.stderr
    return run


def saved_epochs(run: Run) -> list[Epoch]:
    """Finished epochs of the training that is at work, or was when it was disturbed."""
    return [
        epoch
        for state in run.training("cat").glob("*/state.safetensors")
        for epoch in read_history(state)
    ]


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


def epochs_of(run: Run) -> list[Epoch]:
    """All epochs of the finished training."""
    return [Epoch(**row) for row in pq.read_table(run.history("cat")).to_pylist()]


def path_of(run: Run) -> list[Epoch]:
    return [epoch._replace(seconds=0.0) for epoch in epochs_of(run)]


@pytest.mark.ray
@pytest.mark.parametrize(
    "what",
    [
        "kill",
        pytest.param("ctrl-c", marks=pytest.mark.slow),
        pytest.param("worker", marks=pytest.mark.slow),
    ],
)
def test_a_disturbed_training_ends_with_the_weights_of_an_undisturbed_one(
    undisturbed, tmp_path, ray_address, what
):
    run, train = prepared_study(tmp_path)
    driver = started(*train, cwd=tmp_path)
    said = tmp_path / "said"
    # It has said so: workers of a killed driver may save one more epoch before they end.
    wait_until(lambda: "train cat: epoch" in said.read_text(), driver)
    assert driver.poll() is None
    before = saved_epochs(run)
    os.kill(
        a_worker(driver.pid) if what == "worker" else driver.pid,
        signal.SIGINT if what == "ctrl-c" else signal.SIGKILL,
    )
    assert driver.wait(280) == ENDS[what], said.read_text()
    if what == "ctrl-c":
        assert "interrupted; what is finished is kept" in said.read_text()
        assert "Traceback" not in said.read_text()
    if what != "worker":
        again = advrec(*train, "--address", ray_address, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert "goes on after epoch" in again.stdout
    assert 0 < len(before) < len(epochs_of(run)), "it came too late to show anything"
    assert epochs_of(run)[: len(before)] == before, (
        "by their seconds: a finished epoch was repeated"
    )
    assert path_of(run) == path_of(undisturbed)
    assert {epoch.attack_steps for epoch in path_of(undisturbed)} == {0, 1, 2}
    expected, found = load_file(undisturbed.weights("cat")), load_file(run.weights("cat"))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert value.equal(found[name]), name
    assert not run.training("cat").exists()
    assert not run.training("base").exists()


@pytest.mark.long
def test_a_training_of_another_kind_does_not_go_on_from_it(tmp_path):
    run, train = prepared_study(tmp_path)
    here = ("--set", "resources.training_workers=0")

    def interrupt_after_an_epoch():
        deadline = time.monotonic() + 200
        while not saved_epochs(run) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt_after_an_epoch)
    interrupter.start()
    assert advrec(*train, *here, cwd=tmp_path).returncode == 130
    interrupter.join()
    other = advrec(*train, *here, "--set", "models.cat.ks=[1]", cwd=tmp_path)
    assert other.returncode == 0, other.stderr
    assert "goes on" not in other.stdout
    assert {epoch.attack_steps for epoch in path_of(run)} == {1}


@pytest.mark.ray
@pytest.mark.slow
def test_workers_that_outlive_a_killed_driver_write_to_no_other_training(tmp_path, ray_address):
    run, train = prepared_study(tmp_path)
    kill_when(lambda: saved_epochs(run), *train, cwd=tmp_path)
    assert saved_epochs(run)
    assert not run.weights("cat").exists(), "the kill came too late to show anything"
    other = ("--address", ray_address, "--set", "models.cat.ks=[1]")
    done = advrec(*train, *other, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "goes on" not in done.stdout
    assert {epoch.attack_steps for epoch in path_of(run)} == {1}


def test_a_start_of_another_width_is_refused_before_anything_is_trained(tmp_path):
    run = Run(tmp_path / "run")
    with run.lock():
        draw_catalog(run)
    base = {"defense": "none", "epochs": 1, "width": 0.25}
    models = {"base": base, "wide": base | {"init": "base", "width": 0.5}}
    study = write_study(
        tmp_path / "study.yaml",
        run,
        evaluation={},
        models=models,
        resources={"training_workers": 0},
    )
    done = advrec("train", study, "--out", run.directory, cwd=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (
        2,
        "advrec: models.wide: init: base has another backbone, width or heads; "
        "give both models the same",
    )
    assert not run.weights("base").exists()
