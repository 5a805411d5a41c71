"""Training through Ray Train. The workers write into models/<model>/.training only; the driver takes the result from there."""

import json
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import tensorboardX
import torch

from advrec import config, schema
from advrec.catalog.dataset import Catalog
from advrec.config import CurriculumAdversarialTraining, OwnModel, Study, TrainedModel
from advrec.distributed.placement import place_training
from advrec.distributed.session import nodes
from advrec.errors import AdvrecError, ConfigError
from advrec.model import checkpoint
from advrec.model.memory import keep_freed
from advrec.progress import duration
from advrec.store import Run, read_json, read_table, write_json, write_table
from advrec.training.loop import Epoch, Fitted, fit
from advrec.training.start import initial_network

IMAGES_A_WORKER = 16
EPOCHS = "epochs.jsonl"  # below the training's storage; one line an epoch, as it ends


def train_model(run: Run, study: Study, model: str, spec: TrainedModel, *, grows: bool) -> None:
    """Train one model of the study and write models/<model>/; model.safetensors comes last and says that all is there.

    Args:
        grows: whether nodes may join the cluster later.

    Raises:
        AdvrecError: training failed.
    """
    storage = run.model(model) / ".training"
    shutil.rmtree(storage, ignore_errors=True)
    storage.mkdir(parents=True)
    watcher = _Watcher(run, model, spec, storage / EPOCHS)
    arguments = {"run": str(run.directory), "study": config.as_dict(study), "model": model, "storage": str(storage)}
    with watcher:
        if study.resources.training_workers == 0:
            _worker(arguments | {"result": str(storage)})
            _keep(run, model, storage)
        else:
            workers, gpu = place_training(study.resources, nodes(), grows=grows)
            batch = spec.batch
            if study.resources.training_workers == "auto":
                # BatchNorm's statistics are those of a worker's share of the batch: keep it at 16 images or more.
                workers = min(workers, max(1, batch // IMAGES_A_WORKER))
            elif workers > batch // 2:
                raise ConfigError(f"resources.training_workers is {workers}: a batch of {batch} gives each less than 2 images")
            print(f"train {model}: {workers} processes{' with a GPU each' if gpu else ''}", flush=True)
            trainer = ray.train.torch.TorchTrainer(
                _ray_worker,
                train_loop_config=arguments,
                scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu=gpu, resources_per_worker={"CPU": 1}),
                run_config=ray.train.RunConfig(name="train", storage_path=str(storage)),
            )
            try:
                result = trainer.fit()
            except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
                raise AdvrecError(f"training {model} failed: {_cause(error)}") from error
            with result.checkpoint.as_directory() as directory:
                _keep(run, model, Path(directory))
    shutil.rmtree(storage, ignore_errors=True)


def _ray_worker(arguments: dict[str, Any]) -> None:
    """One Ray Train worker; the first one's checkpoint is the result."""
    first = ray.train.get_context().get_world_rank() == 0
    with tempfile.TemporaryDirectory() as directory:
        _worker(arguments | {"result": directory if first else None})
        ray.train.report({}, checkpoint=ray.train.Checkpoint.from_directory(directory) if first else None)


def _worker(arguments: dict[str, Any]) -> None:
    """Train; the worker that is given a place for the result reports epochs as they end, and saves the result there."""
    torch.set_num_threads(1)
    keep_freed()
    study = config.parse(arguments["study"], "the study")
    run = Run(Path(arguments["run"]))
    spec = study.models[arguments["model"]]
    assert not isinstance(spec, OwnModel), "is taken as it is"
    catalog = Catalog(run)
    network = initial_network(run, spec, catalog, study.seed)
    if torch.cuda.is_available() and study.resources.training_workers != 0:
        network.to(ray.train.torch.get_device())
    epochs = Path(arguments["storage"]) / EPOCHS

    def on_epoch(epoch: Epoch) -> None:
        if arguments["result"]:
            with epochs.open("a") as handle:
                handle.write(json.dumps(epoch._asdict()) + "\n")

    fitted = fit(network, spec, catalog, seed=study.seed, on_epoch=on_epoch)
    if arguments["result"]:
        _save(Path(arguments["result"]), fitted)


def _save(directory: Path, fitted: Fitted) -> None:
    checkpoint.save(directory / "model.safetensors", fitted.network)
    write_json(directory / "metrics.json", fitted.metrics)
    columns = {name: [getattr(epoch, name) for epoch in fitted.history] for name in Epoch._fields}
    write_table(directory / "history.parquet", schema.table(schema.HISTORY, columns))


def _keep(run: Run, model: str, directory: Path) -> None:
    network = checkpoint.load_trained(directory / "model.safetensors")
    write_json(run.model(model) / "metrics.json", read_json(directory / "metrics.json"))
    write_table(run.model(model) / "history.parquet", read_table(directory / "history.parquet", schema.HISTORY))
    run.forget_measurements(model)
    checkpoint.save(run.weights(model), network)


class _Watcher:
    """Follows the epochs as the workers report them: a line each on the screen, and TensorBoard's log."""

    def __init__(self, run: Run, model: str, spec: TrainedModel, epochs: Path) -> None:
        self._model, self._epochs = model, epochs
        # A curriculum's length is known when it is over.
        self._total = None if isinstance(spec, CurriculumAdversarialTraining) else spec.epochs
        self._of = f"/{self._total}" if self._total else ""
        self._tensorboard = run.model(model) / "tensorboard"
        self._seen = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        shutil.rmtree(self._tensorboard, ignore_errors=True)
        self._writer = tensorboardX.SummaryWriter(str(self._tensorboard))
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._show_new()
        self._writer.close()

    def _left(self, epoch: Epoch) -> str:
        return f" an epoch, {duration((self._total - epoch.epoch) * epoch.seconds)} left" if self._total else ""

    def _follow(self) -> None:
        while not self._stop.wait(0.5):
            self._show_new()

    def _show_new(self) -> None:
        lines = self._epochs.read_text().split("\n")[:-1] if self._epochs.exists() else []
        for line in lines[self._seen :]:
            epoch = Epoch(**json.loads(line))
            for name in ("train_loss", "validation_clean_accuracy", "validation_adversarial_accuracy", "attack_steps"):
                self._writer.add_scalar(name, getattr(epoch, name), epoch.epoch)
            attacked = f", {100 * epoch.validation_adversarial_accuracy:.1f} % under PGD-{epoch.attack_steps}" if epoch.attack_steps else ""
            print(
                f"train {self._model}: epoch {epoch.epoch}{self._of}, loss {epoch.train_loss:.3f}, validation accuracy "
                f"{100 * epoch.validation_clean_accuracy:.1f} % clean{attacked}, {duration(epoch.seconds)}{self._left(epoch)}",
                flush=True,
            )
        self._seen = len(lines)


def _cause(error: BaseException) -> str:
    """The innermost reason: Ray wraps a worker's error several times."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
