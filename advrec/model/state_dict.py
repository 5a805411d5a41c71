"""Files of weights: state dicts, read without running code of theirs, and loaded whole."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from advrec.errors import ConfigError, first_line

SHOWN = 160  # characters of torch's reason


class MisfitError(Exception):
    """A state dict of another network; the message is torch's reason, on one line."""


def read(path: Path) -> dict[str, Tensor]:
    """The state dict of a file, of safetensors or saved by torch: weights by name, such as
    (D, C, h, w) of a convolution.

    Raises:
        ConfigError: the file holds none.
    """
    try:
        if path.suffix == ".safetensors":
            state: Any = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds
        reason = type(error).__name__
        if not isinstance(error, pickle.UnpicklingError | KeyError):
            reason = f"{reason}: {first_line(error)}"
        raise ConfigError(
            f"{path} cannot be read as weights ({reason}); it must be a state dict, "
            "as torch.save(model.state_dict(), ...) or safetensors write it"
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise ConfigError(f"{path} holds a {type(state).__name__}, not a state dict")
    return {name.removeprefix("module."): value for name, value in state.items()}


def load(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict, whole: weights by name, such as (D, C, h, w) of a convolution.

    Raises:
        MisfitError: it is of another network.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        # The first line says only that there is an error.
        lines = str(error).splitlines()
        reason = lines[1].strip() if len(lines) > 1 else str(error)
        raise MisfitError(reason if len(reason) < SHOWN else f"{reason[:SHOWN]}...") from None
