"""The libraries of encoders by the names that a study has for them."""

from typing import cast

from torch import nn

from advrec.errors import AdvrecError, ConfigError, first_line
from advrec.model.libraries import lite, of_open_clip, of_timm, of_torchvision, of_transformers
from advrec.model.libraries.base import Library, Named, Plain, Taken, quiet
from advrec.model.state_dict import MisfitError
from advrec.spec.models import LITES, OwnModel

LIBRARIES: dict[str, Library] = {
    "timm": cast(Library, of_timm),
    "open_clip": cast(Library, of_open_clip),
    "hf": cast(Library, of_transformers),
    "torchvision": cast(Library, of_torchvision),
    **{name: cast(Library, lite) for name in LITES},
}


def check(spec: OwnModel) -> None:
    """Refuse an encoder that its library does not have, or whose library is not installed.

    Raises:
        ConfigError: it does not, or is not.
    """
    with quiet():
        _library(spec).check(spec)


def take(spec: OwnModel) -> Taken:
    """The encoder of a library with its weights; see `base.Library`."""
    library = _library(spec)
    try:
        with quiet():
            return library.take(spec)
    except (AdvrecError, MisfitError, MemoryError):
        raise
    except Exception as error:  # each library raises its own kinds
        size, mend = "", "mend the configuration that it is built from"
        if spec.input_size is not None:
            size, mend = f" for an input_size of {spec.input_size}", "choose another input_size"
        raise ConfigError(
            f"{spec.model} cannot be built{size} ({type(error).__name__}: {first_line(error)}); "
            f"{mend}"
        ) from error


def build(named: Named) -> nn.Module:
    """An encoder of a run, before its weights are loaded.

    Raises:
        ConfigError: its library is not installed, or builds it no more.
    """
    library = LIBRARIES[named.library]
    try:
        with quiet():
            return library.build(named)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{named.library} cannot build {named.name}, which its version {named.version} "
            f"described ({type(error).__name__}: {first_line(error)}); install that version"
        ) from error


def plain(named: Named, network: nn.Module) -> Plain:
    """The encoder of a run as its own library has it; `network` is what `build` gives."""
    with quiet():
        return LIBRARIES[named.library].plain(named, network)


def _library(spec: OwnModel) -> Library:
    assert spec.named is not None
    return LIBRARIES[spec.named.library]
