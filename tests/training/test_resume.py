"""An interrupted training ends as an undisturbed one; several workers train as one does."""

import contextlib
import dataclasses
import multiprocessing

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn

from advrec.catalog.dataset import Catalog
from advrec.errors import AdvrecError
from advrec.training import loop, recipe, state
from tests.conftest import small_network, study

TRAININGS = [
    {"defense": "none", "epochs": 3},
    {"defense": "cat", "max_steps": 2, "patience": 1, "epochs": 2},
    {"defense": "cat", "ks": [0, 2], "patience": 1, "epochs": 2, "recipe": "published"},
    {"defense": "free", "replays": 2, "epochs": 2},
]


class StoppedError(Exception):
    pass


@pytest.mark.long
@pytest.mark.parametrize("entry", TRAININGS, ids=str)
def test_a_training_that_is_stopped_after_every_epoch_ends_with_the_weights_of_an_undisturbed_one(
    catalog, tmp_path, entry
):
    spec = study(models={"m": {"batch": 32, **entry}}).models["m"]
    undisturbed = loop.fit(small_network(catalog), spec, catalog, seed=3)
    metrics = undisturbed.measure()

    def stop(epoch):
        torch.rand(3)  # what else happens in the process
        raise StoppedError

    saved = tmp_path / "state.safetensors"
    for seed in range(len(undisturbed.history)):  # what a later one begins with is not used
        with pytest.raises(StoppedError):
            loop.fit(
                small_network(catalog, seed), spec, catalog, seed=3, checkpoint=saved, on_epoch=stop
            )
    ended = loop.fit(small_network(catalog, seed=8), spec, catalog, seed=3, checkpoint=saved)
    assert [e._replace(seconds=0) for e in ended.history] == [
        e._replace(seconds=0) for e in undisturbed.history
    ]
    assert state.read_history(saved) == ended.history
    assert ended.measure() == metrics
    for name, value in undisturbed.network.state_dict().items():
        assert torch.equal(value, ended.network.state_dict()[name]), name


def test_a_file_that_is_no_state_is_said(tmp_path):
    (tmp_path / "state").write_bytes(b"something else")
    with pytest.raises(AdvrecError, match="is not the state of a training"):
        state.load(tmp_path / "state")


def plain_network(catalog):
    """Without BatchNorm and dropout, whose statistics and noise are a worker's own."""
    network = small_network(catalog)
    network.backbone = nn.Sequential(
        *(part for part in network.backbone if not isinstance(part, nn.BatchNorm2d))
    )
    network.dropout.p = 0.0
    return network


def losses(catalog, epochs=2):
    spec = study(models={"m": {"defense": "at", "steps": 2, "epochs": epochs, "batch": 16}}).models[
        "m"
    ]
    # Nothing that a worker draws for itself.
    plain = dataclasses.replace(
        recipe.ADVREC, augment=lambda images, generator: images, random_start=False
    )
    training = loop.Training(plain_network(catalog), spec, catalog, 3, plain)
    return [training.epoch().train_loss for _ in range(epochs)]


def worker(rank, world, work, run, directory):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{directory}/meet", rank=rank, world_size=world
    )
    work(rank, Catalog(run), directory)
    dist.destroy_process_group()


def together(work, run, directory):
    directory.mkdir(exist_ok=True)
    (directory / "meet").unlink(missing_ok=True)
    # Forks of a server that has imported all and computed nothing: imports take most of the time.
    multiprocessing.set_forkserver_preload([__name__])
    torch.multiprocessing.start_processes(
        worker, (2, work, run, directory), nprocs=2, start_method="forkserver"
    )


def write_losses(rank, catalog, directory):
    found = losses(catalog)
    if rank == 0:
        (directory / "losses").write_text(" ".join(map(repr, found)))


def train_on(rank, catalog, directory):
    """As far as the directory says, from where it stands."""
    spec = study(models={"m": {"defense": "at", "steps": 2, "epochs": 3, "batch": 32}}).models["m"]
    most = int((directory / "most").read_text())

    def stop(epoch):
        if epoch.epoch >= most:
            raise StoppedError

    network = small_network(catalog)
    with contextlib.suppress(StoppedError):
        loop.fit(network, spec, catalog, seed=3, checkpoint=directory / "state", on_epoch=stop)
        if rank == 0:
            torch.save(network.state_dict(), directory / "weights")


@pytest.mark.long
def test_two_workers_go_on_as_if_they_had_not_been_stopped(prepared, tmp_path):
    for name, stops in (("undisturbed", [9]), ("stopped", [2, 9])):
        directory = tmp_path / name
        directory.mkdir()
        for most in stops:
            (directory / "most").write_text(str(most))
            together(train_on, prepared, directory)
    expected, found = (
        torch.load(tmp_path / name / "weights", weights_only=True)
        for name in ("undisturbed", "stopped")
    )
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


@pytest.mark.long
def test_two_workers_train_as_one_does_on_the_same_batches(prepared, catalog, tmp_path):
    together(write_losses, prepared, tmp_path)
    found = [float(loss) for loss in (tmp_path / "losses").read_text().split()]
    assert found == pytest.approx(losses(catalog), abs=1e-4)
