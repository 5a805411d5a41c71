"""The libraries of encoders: the functions that each has here, and the record of an encoder."""

import contextlib
import dataclasses
import importlib
import importlib.metadata
import logging
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from advrec.errors import AdvrecError, ConfigError, first_line
from advrec.model.preprocessing import Preprocessing
from advrec.model.state_dict import Normaliser
from advrec.run.compat import light_torchvision
from advrec.spec.models import OwnModel

ANSWER_S = 5.0
"""Seconds within which a hub has to answer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Named:
    """All that an encoder is built from, without its library's hub and without a user's files."""

    library: str
    name: str
    version: str
    """The version of the library that described it."""
    config: dict[str, Any]
    """The library's own description, where its name does not say all."""
    preprocessing: Preprocessing
    weights: str = ""
    """The pretrained weights that were loaded, as the library calls them; empty for others, and in
    runs of before 0.4.
    """


class Taken(NamedTuple):
    """An encoder with its weights."""

    network: nn.Module
    """Prepared images (N, 3, size, size) to embeddings (N, D)."""
    named: Named
    taken: str = ""
    """Words about what was taken of a file and what was not."""
    normaliser: Normaliser | None = None
    """The file's, where it has one."""


class Plain(NamedTuple):
    """An encoder as its own library has it, without what advrec puts around it."""

    module: nn.Module
    loader: str
    """Python that makes `network`, a module as this one, without its weights."""
    prefix: str = ""
    """The beginning of its weights' names in the library's files."""
    embedding: str = "network(images)"
    """Python that embeds prepared images (N, 3, size, size) by `network`."""
    beside: tuple[tuple[str, str], ...] = ()
    """Files that the loader reads: their names and texts."""


class Library(Protocol):
    """A library of encoders; each is a module beside this one."""

    def check(self, spec: OwnModel) -> None:
        """Refuse a name that the library does not know: raises ConfigError."""

    def take(self, spec: OwnModel) -> Taken:
        """The encoder with its weights.

        Raises:
            ConfigError: the library does not have it.
            AdvrecError: its weights cannot be had.
            MisfitError: a checkpoint is another network's.
        """

    def build(self, named: Named) -> nn.Module:
        """The encoder before its weights are loaded."""

    def plain(self, named: Named, network: nn.Module) -> Plain:
        """The encoder for a user without advrec; `network` is what `build` gives."""


def require(package: str, extra: str) -> Any:
    """Import a library that is an optional extra.

    Raises:
        ConfigError: it is not installed.
    """
    light_torchvision()  # before a library imports the whole of it
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        raise ConfigError(
            f"{package} is not installed; install it by pip install 'advrec[{extra}]'"
        ) from None


def name_of(spec: OwnModel) -> str:
    """An encoder's name in its library."""
    assert spec.named is not None
    return spec.named.name


def version(distribution: str) -> str:
    """The installed version of a distribution."""
    return importlib.metadata.version(distribution)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep a library's warnings and logs from the user's screen."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def hub(
    spec: OwnModel,
    what: str = "pretrained weights",
    instead: str = "name a file of them in checkpoint, write weights: random to try the study",
) -> Iterator[None]:
    """Whatever a library raises while it asks its hub, or reads a folder in its place, becomes one
    sentence: raises AdvrecError.

    Where huggingface_hub's cannot be reached, its cache alone is asked. Why: it would ask the hub
    again and again, for 20 s and longer.

    Args:
        what: what is asked for.
        instead: what a user can do without the hub.
    """
    assert spec.named is not None
    constants = importlib.import_module("huggingface_hub").constants
    before = constants.HF_HUB_OFFLINE
    unreachable = "" if before or spec.named.is_folder else _unreachable()
    constants.HF_HUB_OFFLINE = bool(before or unreachable)
    try:
        with quiet():
            yield
    except (AdvrecError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:  # each library raises its own kinds
        if spec.named.is_folder:
            raise ConfigError(
                f"{spec.named.name} does not fit its config.json or is damaged "
                f"({type(error).__name__}: {first_line(error)}); "
                "write it anew by save_pretrained"
            ) from None
        raise AdvrecError(
            f"the {what} of {spec.shown} cannot be had ({unreachable or first_line(error)}); "
            f"{instead}, or run once where the hub can be reached"
        ) from None
    finally:
        constants.HF_HUB_OFFLINE = before


def _unreachable() -> str:
    """Words that huggingface_hub's hub cannot be reached; nothing where it answers."""
    package = importlib.import_module("huggingface_hub")
    try:
        with quiet():
            package.get_session().head(package.constants.ENDPOINT, timeout=ANSWER_S)
    except Exception:  # of the HTTP library that it is built on
        return f"{package.constants.ENDPOINT} cannot be reached"
    return ""


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """Draw random weights that are the same in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
