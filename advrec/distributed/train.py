"""Training in this process, or by workers of Ray Train (workers.py).

The workers write into models/<model>/.training/<identity> only: after each epoch all that is needed
to go on, and in the end the result, which the driver takes from there.
"""

import shutil
import threading
from pathlib import Path
from typing import Any

import tensorboardX
import torch

from advrec.catalog.dataset import Catalog
from advrec.distributed.placement import place_training
from advrec.errors import ConfigError
from advrec.model import checkpoint
from advrec.model.memory import keep_freed
from advrec.run import schema
from advrec.run.directory import Run
from advrec.run.files import read_json, write_json, write_table
from advrec.run.log import say
from advrec.run.progress import duration
from advrec.run.tables import read_table
from advrec.spec import study as study_file
from advrec.spec.defenses import TrainedModel
from advrec.spec.models import OwnModel
from advrec.spec.study import Study
from advrec.training import state
from advrec.training.loop import Training, fit
from advrec.training.start import initial_network
from advrec.training.state import Epoch

IMAGES_A_WORKER = 16
STATE, RESULT = "state.safetensors", "result"  # below the training's storage


def train_model(
    run: Run, study: Study, model: str, spec: TrainedModel, identity: str, *, grows: bool
) -> None:
    """Train one model of the study, or go on with its training, and write models/<model>/.

    model.safetensors comes last: its presence says that all is there.

    Args:
        identity: a name for what determines the weights. A training goes on from its own state;
            workers that outlive a killed driver write to no other.
        grows: whether nodes may join the cluster later.

    Raises:
        AdvrecError: training failed.
    """
    storage = run.training(model) / identity
    storage.mkdir(parents=True, exist_ok=True)
    # Ray would ask for what it keeps of an interrupted training.
    shutil.rmtree(storage / "train", ignore_errors=True)
    arguments = {
        "run": str(run.directory),
        "study": study_file.as_dict(study),
        "model": model,
        "storage": str(storage),
    }
    with _Watcher(run, model, spec, storage / STATE):
        if study.resources.trains_here:
            threads = torch.get_num_threads()
            train_alone(arguments)
            torch.set_num_threads(threads)
        else:
            _train_on_ray(study, model, spec, arguments, grows=grows)
        _keep(run, model, storage / RESULT)
    shutil.rmtree(run.training(model), ignore_errors=True)


def _train_on_ray(
    study: Study, model: str, spec: TrainedModel, arguments: dict[str, Any], *, grows: bool
) -> None:
    from advrec.distributed.session import nodes
    from advrec.distributed.workers import train

    workers, gpu = place_training(study.resources, nodes(), grows=grows)
    if study.resources.training_workers == "auto":
        # BatchNorm's statistics are those of a worker's share of the batch: keep it at 16 images or
        # more.
        workers = min(workers, max(1, spec.batch // IMAGES_A_WORKER))
    elif workers > spec.batch // 2:
        raise ConfigError(
            f"resources.training_workers is {workers}: "
            f"a batch of {spec.batch} gives each less than 2 images"
        )
    processes = f"{workers} process{'es' if workers > 1 else ''}"
    say(f"train {model}: {processes}{' with a GPU each' if gpu else ''}")
    train(model, arguments, workers, gpu=gpu)


def train_alone(
    arguments: dict[str, Any], device: torch.device | None = None, *, first: bool = True
) -> None:
    """Train, or go on, as one process of a training; the first one saves the result.

    Args:
        arguments: run and storage: directories; study: as JSON; model: its name.
        device: where to train, if not on the CPU.
    """
    torch.set_num_threads(1)
    keep_freed()
    study = study_file.parse(arguments["study"], "the study")
    run = Run(Path(arguments["run"]))
    spec = study.models[arguments["model"]]
    assert not isinstance(spec, OwnModel), "is taken as it is"
    catalog = Catalog(run)
    network = initial_network(run, spec, catalog, study.seed)
    if device is not None:
        network.to(device)
    training = fit(
        network, spec, catalog, seed=study.seed, checkpoint=Path(arguments["storage"]) / STATE
    )
    metrics = training.measure()  # by all workers together
    if first:
        _save(Path(arguments["storage"]) / RESULT, training, metrics)


def _save(directory: Path, training: Training, metrics: dict[str, Any]) -> None:
    checkpoint.save(directory / "model.safetensors", training.network)
    write_json(directory / "metrics.json", metrics)
    columns = {name: [getattr(epoch, name) for epoch in training.history] for name in Epoch._fields}
    write_table(directory / "history.parquet", schema.table(schema.HISTORY, columns))


def _keep(run: Run, model: str, directory: Path) -> None:
    network = checkpoint.load_trained(directory / "model.safetensors")
    write_json(run.model(model) / "metrics.json", read_json(directory / "metrics.json"))
    write_table(run.history(model), read_table(directory / "history.parquet", schema.HISTORY))
    run.forget_measurements(model)
    checkpoint.save(run.weights(model), network)


class _Watcher:
    """Follows the epochs as they are saved: a line each on the screen, and TensorBoard's log."""

    def __init__(self, run: Run, model: str, spec: TrainedModel, saved: Path) -> None:
        self._model, self._saved = model, saved
        self._total = spec.total_epochs
        self._of = f"/{self._total}" if self._total else ""
        self._tensorboard = run.model(model) / "tensorboard"
        self._earlier = len(state.read_history(saved))
        self._seen = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        shutil.rmtree(self._tensorboard, ignore_errors=True)
        self._writer = tensorboardX.SummaryWriter(str(self._tensorboard))
        if self._earlier:
            say(f"train {self._model}: goes on after epoch {self._earlier}{self._of}")
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
            for name in (
                "train_loss",
                "validation_clean_accuracy",
                "validation_adversarial_accuracy",
                "attack_steps",
            ):
                self._writer.add_scalar(name, getattr(epoch, name), epoch.epoch)
            if epoch.epoch > self._earlier:
                self._say(epoch)
        self._seen = len(history)

    def _say(self, epoch: Epoch) -> None:
        attacked = (
            f", {100 * epoch.validation_adversarial_accuracy:.1f} % under PGD-{epoch.attack_steps}"
            if epoch.attack_steps
            else ""
        )
        say(
            f"train {self._model}: epoch {epoch.epoch}{self._of}, loss {epoch.train_loss:.3f}, "
            f"validation accuracy {100 * epoch.validation_clean_accuracy:.1f} % clean{attacked}, "
            f"{duration(epoch.seconds)}{self._left(epoch)}"
        )
