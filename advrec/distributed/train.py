"""Training in this process, or by workers of Ray Train (workers.py).

The workers write into models/<model>/.training/<identity> only: after each epoch all that is needed
to go on, and in the end the result, which the driver takes from there.
"""

import itertools
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

import tensorboardX
import torch

from advrec.catalog.dataset import Catalog
from advrec.distributed.placement import place_training
from advrec.errors import AdvrecError, ConfigError
from advrec.model import checkpoint
from advrec.model.checkpoint import Network
from advrec.model.memory import keep_freed
from advrec.run import own_columns, schema
from advrec.run.directory import Run
from advrec.run.files import read_json, write_json, write_table
from advrec.run.log import say
from advrec.run.progress import duration
from advrec.run.tables import read_table
from advrec.spec import study as study_file
from advrec.spec.label_free import LabelFree
from advrec.spec.models import AnyTraining
from advrec.spec.study import Study
from advrec.training import data, state
from advrec.training.loop import Training, fit
from advrec.training.start import initial_network
from advrec.training.state import Epoch
from advrec.training.workers import Workers

IMAGES_A_WORKER = 16
STATE, RESULT = "state.safetensors", "result"  # below the training's storage
MODEL, HISTORY = "model.safetensors", "history.parquet"  # below the result
SHOWN = ("train_loss", "attack_steps")  # in TensorBoard, beside what validation measured
LOOK_S = 0.2  # between two looks for a result
VISIBLE_S = 90.0  # after which a shared disk shows what a worker on another node has written

log = logging.getLogger(__name__)
OnTrained = Callable[[str], None]


class _Job(NamedTuple):
    """A model that is to be trained."""

    model: str
    spec: AnyTraining
    storage: Path
    watcher: "_Watcher"

    @property
    def is_done(self) -> bool:
        """Say whether all of the result is there."""
        return _is_done(self.storage)


def train_models(
    run: Run,
    study: Study,
    identities: Mapping[str, str],
    on_trained: OnTrained = lambda model: None,
    *,
    grows: bool,
) -> None:
    """Train models of the study one after another, or go on with their trainings, and write
    models/<model>/ of each.

    model.safetensors comes last: its presence says that all is there.

    Args:
        identities: by model, in the study's order, a name for what determines its weights. A
            training goes on from its own state; workers that outlive a killed driver write to no
            other.
        on_trained: called after each.
        grows: whether nodes may join the cluster later.

    Raises:
        AdvrecError: training failed.
    """
    jobs = [_job(run, study, model, identity) for model, identity in identities.items()]
    try:
        if study.resources.trains_here:
            threads = torch.get_num_threads()
            for job in jobs:
                with job.watcher:
                    train_alone(_arguments(run, study, [job]))
                torch.set_num_threads(threads)
                _keep(run, job)
                on_trained(job.model)
        else:
            _train_on_ray(run, study, jobs, on_trained, grows=grows)
    finally:
        for job in jobs:
            if run.weights(job.model).exists():
                shutil.rmtree(run.training(job.model), ignore_errors=True)


def _job(run: Run, study: Study, model: str, identity: str) -> _Job:
    spec = study.models[model]
    assert isinstance(spec, AnyTraining), "others are taken as they are"
    storage = run.training(model) / identity
    storage.mkdir(parents=True, exist_ok=True)
    # Ray would ask for what it keeps of an interrupted training.
    shutil.rmtree(storage / "train", ignore_errors=True)
    return _Job(model, spec, storage, _Watcher(run, model, spec, storage / STATE))


def _arguments(run: Run, study: Study, jobs: Sequence[_Job]) -> dict[str, Any]:
    """Those of `train_alone`."""
    return {
        "run": str(run.directory),
        "study": study_file.as_dict(study),
        "storages": {job.model: str(job.storage) for job in jobs},
    }


def _train_on_ray(
    run: Run, study: Study, jobs: Sequence[_Job], on_trained: OnTrained, *, grows: bool
) -> None:
    from advrec.distributed.session import nodes

    def placement(job: _Job) -> tuple[int, bool]:
        return _placement(study, job.spec, nodes(), grows=grows)

    for (workers, gpu), group in itertools.groupby(jobs, placement):
        left = list(group)
        while left:
            left = _train_together(run, study, left, on_trained, workers, gpu=gpu)


def _train_together(
    run: Run,
    study: Study,
    jobs: Sequence[_Job],
    on_trained: OnTrained,
    workers: int,
    *,
    gpu: bool,
) -> list[_Job]:
    """Train models one after another by the same workers, whose start takes as long as epochs.

    Returns:
        What is left: from a model on that failed, not the first, which has its own restarts.
    """
    from advrec.distributed.workers import train

    ended = train(_arguments(run, study, jobs), workers, gpu=gpu)
    processes = f"{workers} process{'es' if workers > 1 else ''}{' with a GPU each' if gpu else ''}"
    for number, job in enumerate(jobs):
        say(f"train {job.model}: {processes}")
        try:
            with job.watcher:
                _wait(job, ended)
        except AdvrecError as error:
            if not number:
                raise
            log.warning("%s; new workers go on", error)
            return list(jobs[number:])
        _keep(run, job)
        on_trained(job.model)
    futures.wait([ended])  # then the cores are free, and Ray writes no more into the storage
    return []


def _placement(
    study: Study, spec: AnyTraining, nodes: Sequence[Mapping[str, float]], *, grows: bool
) -> tuple[int, bool]:
    """The number of processes that train a model, and whether each gets a GPU."""
    workers, gpu = place_training(study.resources, nodes, grows=grows)
    if study.resources.training_workers == "auto":
        # BatchNorm's statistics are those of a worker's share of the batch: keep it at 16 images or
        # more, unless it takes none.
        kept = isinstance(spec, LabelFree) and spec.batch_norm == "kept"
        workers = min(workers, max(1, spec.batch // (2 if kept else IMAGES_A_WORKER)))
    elif workers > spec.batch // 2:
        raise ConfigError(
            f"resources.training_workers is {workers}: "
            f"a batch of {spec.batch} gives each less than 2 images"
        )
    return workers, gpu


def _wait(job: _Job, ended: "futures.Future[None]") -> None:
    """Wait for the result of a training; raises AdvrecError if its workers end without it."""
    while not job.is_done:
        if futures.wait([ended], timeout=LOOK_S).done:
            break
    deadline = time.monotonic() + VISIBLE_S
    while not job.is_done:
        error = ended.exception()
        if error is not None or time.monotonic() > deadline:
            reason = error or f"there is no {job.storage / RESULT}"
            raise AdvrecError(f"training {job.model} failed: {reason}") from error
        time.sleep(LOOK_S)


def train_alone(
    arguments: dict[str, Any], device: torch.device | None = None, *, first: bool = True
) -> None:
    """Train models, or go on, as one process of their trainings; the first one saves the results.

    Args:
        arguments: run: directory; study: as JSON; storages: the directory of each model's training.
        device: where to train, if not on the CPU.
    """
    torch.set_num_threads(1)
    keep_freed()
    study = study_file.parse(arguments["study"], "the study")
    run = Run(Path(arguments["run"]))
    catalog = Catalog(run)
    storages = {model: Path(storage) for model, storage in arguments["storages"].items()}
    workers = Workers.of(device or torch.device("cpu"))
    for model, storage in storages.items():
        if workers.agree(_is_done(storage)):  # before a worker died
            continue
        spec = study.models[model]
        assert isinstance(spec, AnyTraining), "others are taken as they are"
        # The driver may not have taken it yet.
        start = storages[spec.init] / RESULT / MODEL if spec.init in storages else None
        network = initial_network(run, spec, catalog, study.seed, start=start)
        source = data.source(run, spec, catalog)
        _train_one(network, spec, catalog, source, study.seed, storage, device, first=first)
        workers.agree(None)  # the result is there for all


def _train_one(
    network: Network,
    spec: AnyTraining,
    catalog: Catalog,
    source: data.Source,
    seed: int,
    storage: Path,
    device: torch.device | None,
    *,
    first: bool,
) -> None:
    if device is not None:
        network.to(device)
    saved = storage / STATE
    training = fit(network, spec, catalog, seed=seed, source=source, checkpoint=saved)
    metrics = training.measure()  # by all workers together
    if first:
        if isinstance(spec, LabelFree):  # which may train on other images than the split
            metrics |= catalog.seen_in(source.catalog.hashes_of(source.ids))
        _save(storage / RESULT, training, metrics)


def _save(directory: Path, training: Training, metrics: dict[str, Any]) -> None:
    checkpoint.save(directory / MODEL, training.network)
    write_json(directory / "metrics.json", metrics)
    columns = own_columns.history(training.spec)
    values = {name: [getattr(epoch, name) for epoch in training.history] for name in columns.names}
    write_table(directory / HISTORY, schema.table(columns, values))


def _is_done(storage: Path) -> bool:
    return (storage / RESULT / HISTORY).exists()  # it comes last


def _keep(run: Run, job: _Job) -> None:
    model, directory = job.model, job.storage / RESULT
    network = checkpoint.load(directory / MODEL)
    write_json(run.model(model) / "metrics.json", read_json(directory / "metrics.json"))
    write_table(run.history(model), read_table(directory / HISTORY, own_columns.history(job.spec)))
    run.forget_measurements(model)
    checkpoint.save(run.weights(model), network)


class _Watcher:
    """Follows the epochs as they are saved: a line each on the screen, and TensorBoard's log."""

    def __init__(self, run: Run, model: str, spec: AnyTraining, saved: Path) -> None:
        self._model, self._saved = model, saved
        self._total = spec.total_epochs
        self._of = f"/{self._total}" if self._total else ""
        self._tensorboard = run.model(model) / "tensorboard"
        self._earlier = len(state.read_history(saved))
        self._said = self._earlier

    def __enter__(self) -> None:
        shutil.rmtree(self._tensorboard, ignore_errors=True)
        self._writer = tensorboardX.SummaryWriter(str(self._tensorboard))
        if self._earlier:
            say(f"train {self._model}: goes on after epoch {self._earlier}{self._of}")
        self._seen = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._show_new()
        self._writer.close()

    def _left(self, epoch: Epoch) -> str:
        return (
            f" an epoch, {duration((self._total - epoch.epoch) * epoch.seconds)} left"
            if self._total
            else ""
        )

    def _follow(self) -> None:
        while not self._stop.wait(0.5):
            self._show_new()

    def _show_new(self) -> None:
        history = state.read_history(self._saved)
        for epoch in history[self._seen :]:
            for name, value in epoch._asdict().items():
                if value is not None and (name.startswith("validation") or name in SHOWN):
                    self._writer.add_scalar(name, value, epoch.epoch)
            if epoch.epoch > self._said:
                self._said = epoch.epoch
                self._say(epoch)
        self._seen = len(history)

    def _say(self, epoch: Epoch) -> None:
        say(
            f"train {self._model}: epoch {epoch.epoch}{self._of}, loss {epoch.train_loss:.3f}, "
            f"validation {_validated(epoch)}, {duration(epoch.seconds)}{self._left(epoch)}"
        )


def _validated(epoch: Epoch) -> str:
    """The result of a validation, in words."""
    under = f"under PGD-{epoch.attack_steps}"
    clean, attacked = epoch.validation_clean_accuracy, epoch.validation_adversarial_accuracy
    kind = "accuracy"
    if epoch.validation_texture_precision is not None:
        kind, clean = "texture precision", epoch.validation_texture_precision
        attacked = epoch.validation_adversarial_texture_precision
    if clean is None or attacked is None:
        moved = [epoch.validation_drift or 0.0, epoch.validation_attacked_drift or 0.0]
        return f"drift {100 * moved[0]:.1f} % clean, {100 * moved[1]:.1f} % {under}"
    withstood = f", {100 * attacked:.1f} % {under}" if epoch.attack_steps else ""
    return f"{kind} {100 * clean:.1f} % clean{withstood}"
