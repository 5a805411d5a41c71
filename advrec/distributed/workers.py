"""Training by workers of Ray Train: processes that train one model after another, together."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import ray.train
import ray.train.torch
import torch

from advrec.distributed.train import train_alone
from advrec.errors import AdvrecError, last_line

RESTARTS = 3  # of the workers, after one of them died


def train(arguments: dict[str, Any], workers: int, *, gpu: bool) -> "Future[None]":
    """Run `train_alone(arguments)` in so many workers, each with a GPU or on one core.

    Returns:
        Its end, which may be an AdvrecError.
    """
    trainer = ray.train.torch.TorchTrainer(
        _work,
        train_loop_config=arguments,
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers, use_gpu=gpu, resources_per_worker={"CPU": 1}
        ),
        run_config=ray.train.RunConfig(
            name="train",
            storage_path=next(iter(arguments["storages"].values())),
            failure_config=ray.train.FailureConfig(max_failures=RESTARTS),
        ),
    )

    def fit() -> None:
        try:
            trainer.fit()
        except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
            raise AdvrecError(last_line(error)) from error

    return _in_thread(fit)


def _in_thread(call: Callable[[], None]) -> "Future[None]":
    """Ray Train takes Ctrl-C for itself in the main thread, for good, and ends the process as if
    all were well; not in another.
    """
    ended: Future[None] = Future()

    def work() -> None:
        try:
            call()
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    threading.Thread(target=work, daemon=True).start()
    return ended


def _work(arguments: dict[str, Any]) -> None:
    """Train in one worker."""
    device = None
    if torch.cuda.is_available():
        device = ray.train.torch.get_device()
        torch.cuda.set_device(device)  # where nccl sends objects from
    train_alone(arguments, device, first=ray.train.get_context().get_world_rank() == 0)
