"""Files of weights as people have them, read without running code of theirs: state dicts alone, or
training checkpoints that hold one or more.
"""

import argparse
import datetime
import pathlib
import pickle
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from advrec.errors import ConfigError, first_line

State = dict[str, Tensor]
DEEPEST = 3  # containers around a state dict

# Beside the weights of a training checkpoint; making one runs no code of the file's. A path of
# another system becomes one that only names.
_PATHS: dict[str, type] = {
    "PosixPath": pathlib.PurePosixPath,
    "PurePosixPath": pathlib.PurePosixPath,
    "WindowsPath": pathlib.PureWindowsPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
}


def _a_dict(*_: object) -> dict[Any, Any]:
    """A plain dictionary: torch fills no defaultdict."""
    return {}


def _a_list(*_: object) -> list[Any]:
    """A plain list: torch fills no deque."""
    return []


_NUMBERS = [type(np.dtype(kind)) for kind in ("?", *np.typecodes["AllInteger"], *"efdgFDGSUMm")]
_ARRAYS: dict[str, Any] = {
    "scalar": np.float64(0.0).__reduce__()[0],
    "_reconstruct": np.empty(0).__reduce__()[0],
}
HARMLESS: list[Any] = [
    *(argparse.Namespace, types.SimpleNamespace, frozenset, slice, list, dict, int, float),
    *((_a_dict, "collections.defaultdict"), (_a_list, "collections.deque")),
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
    *(np.dtype, np.ndarray, *_NUMBERS),
    *(
        (made, f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for name, made in _PATHS.items()
    ),
    *(
        (made, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name, made in _ARRAYS.items()
    ),
]
"""Types that a file may hold besides tensors, as torch.serialization.safe_globals takes them."""


class WeightsFile(NamedTuple):
    """The state dicts of a file."""

    parts: dict[str, State]
    """Each by the keys that lead to it, joined by dots; "" where the file itself is one."""
    keys: tuple[str, ...]
    """The outermost keys of the file."""


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first of some names, for a message."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def read(path: Path) -> WeightsFile:
    """The state dicts of a file, of safetensors or saved by torch: weights by name, such as
    (D, C, h, w) of a convolution.

    Raises:
        ConfigError: the file holds none.
    """
    content = _content(path)
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path} holds a {type(content).__name__}, not a state dict")
    keys = tuple(map(str, content))
    parts = dict(_parts(content, ()))
    if not parts:
        raise ConfigError(f"{path} holds no state dict; its keys are {listed(keys)}")
    return WeightsFile(parts, keys)


def _content(path: Path) -> Any:
    """Whatever a file holds."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds
        reason = type(error).__name__
        if not isinstance(error, pickle.UnpicklingError | KeyError):
            reason = f"{reason}: {first_line(error)}"
        elif unknown := _not_allowed(path):
            raise ConfigError(
                f"{path} cannot be read as weights: it holds objects of {listed(unknown, 3)}, "
                "which could run code of the file's; save torch.save(model.state_dict(), ...) alone"
            ) from None
        raise ConfigError(
            f"{path} cannot be read as weights ({reason}); it must be a state dict, "
            "as torch.save(model.state_dict(), ...) or safetensors write it"
        ) from None


def _not_allowed(path: Path) -> list[str]:
    """Classes and functions that a file of torch's names and that are not allowed."""
    try:
        with torch.serialization.safe_globals(HARMLESS):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # no file of torch's
        return []
    return sorted(names, key=lambda name: (name.startswith("torch."), name))


def _parts(content: Mapping[Any, Any], place: tuple[str, ...]) -> Iterator[tuple[str, State]]:
    """The state dicts in a container, the innermost ones."""
    found = False
    for key, value in content.items():
        # The state of an optimizer has numbers for keys, or lies beside its param_groups.
        inner = isinstance(key, str) and isinstance(value, Mapping) and "param_groups" not in value
        if inner and len(place) < DEEPEST:
            for part in _parts(value, (*place, key)):
                found = True
                yield part
    tensors = {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if tensors and not found:
        yield ".".join(place), tensors
