"""The state of a training, all that it needs to go on after an epoch, as one file: safetensors,
and numbers as JSON in its header.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from advrec.errors import AdvrecError
from advrec.run.files import write_atomically

Tensors = dict[str, Tensor]


class Epoch(NamedTuple):
    """One row of history.parquet."""

    epoch: int
    attack_steps: int
    train_loss: float
    learning_rate: float
    seconds: float
    validation_clean_accuracy: float | None = None
    validation_adversarial_accuracy: float | None = None
    validation_drift: float | None = None
    validation_attacked_drift: float | None = None
    validation_texture_precision: float | None = None
    validation_adversarial_texture_precision: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """A training after an epoch.

    Random streams begin anew with every epoch, from (seed, epoch, rank), so none is kept.
    """

    network: Tensors
    average: Tensors
    """The moving average of the weights; empty without one."""
    best: Tensors
    optimizer: dict[int, Tensors]
    """The optimizer's memory by the place of a parameter."""
    schedule: dict[str, Any]
    """Fields of the state machine."""
    history: list[Epoch]
    averaged: int = 0
    """Steps that the moving average has seen."""
    beside: Tensors = dataclasses.field(default_factory=dict)
    """State of the part that is trained beside the network; see `Defense.beside`."""


def save(path: Path, state: State) -> None:
    """Write a state, whole or not at all."""
    parts = {name: getattr(state, name) for name in ("network", "average", "best", "beside")}
    parts |= {f"optimizer.{place}": values for place, values in state.optimizer.items()}
    # Cloned, for a file cannot hold a tensor twice, and these may share memory.
    tensors = {
        f"{part}/{name}": value.detach().cpu().contiguous().clone()
        for part, values in parts.items()
        for name, value in values.items()
    }
    header = {
        "schedule": state.schedule,
        "history": [epoch._asdict() for epoch in state.history],
        "averaged": state.averaged,
    }
    metadata = {name: json.dumps(value) for name, value in header.items()}
    write_atomically(
        path, lambda temporary: safetensors.torch.save_file(tensors, temporary, metadata=metadata)
    )


def load(path: Path) -> State:
    """Read a state.

    Raises:
        AdvrecError: the file holds something else.
    """
    try:
        header = _header(path)
        parts: dict[str, Tensors] = {}
        for key, value in safetensors.torch.load_file(path).items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = value
        optimizer = {
            int(part.removeprefix("optimizer.")): values
            for part, values in parts.items()
            if part.startswith("optimizer.")
        }
        return State(
            network=parts["network"],
            average=parts.get("average", {}),
            best=parts.get("best", {}),
            optimizer=optimizer,
            schedule=header["schedule"],
            history=[Epoch(**epoch) for epoch in header["history"]],
            averaged=header["averaged"],
            beside=parts.get("beside", {}),
        )
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise _no_state(path, error) from None


def read_history(path: Path) -> list[Epoch]:
    """Read the epochs alone, in a moment; none where there is no file yet."""
    return [Epoch(**epoch) for epoch in _header(path)["history"]] if path.exists() else []


def _header(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as handle:
            header = {name: json.loads(value) for name, value in (handle.metadata() or {}).items()}
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise _no_state(path, error) from None
    if "history" not in header:
        raise _no_state(path, "it has no history")
    return header


def _no_state(path: Path, reason: object) -> AdvrecError:
    return AdvrecError(
        f"{path}: is not the state of a training ({reason}); remove it, and training begins anew"
    )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[int, Tensors]:
    """Return an optimizer's memory of each parameter, by the parameter's place."""
    return {place: dict(values) for place, values in optimizer.state_dict()["state"].items()}
