"""The libraries of encoders by the names that a study has for them."""

from torch import nn

from advrec.errors import AdvrecError, ConfigError, first_line
from advrec.model.libraries import lite, of_open_clip, of_timm, of_torchvision, of_transformers
from advrec.model.libraries.base import Library, Named, Plain, Taken, quiet
from advrec.model.state_dict import MisfitError
from advrec.spec.models import LITES, OwnModel

LIBRARIES: dict[str, Library] = {
    "timm": of_timm,
    "open_clip": of_open_clip,
    "hf": of_transformers,
    "torchvision": of_torchvision,
    **dict.fromkeys(LITES, lite),
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
            taken = library.take(spec)
    except (AdvrecError, MisfitError, MemoryError):
        raise
    except Exception as error:  # each library raises its own kinds
        size, mend = "", "mend the configuration that it is built from"
        if spec.input_size is not None:
            size, mend = f" for an input_size of {spec.input_size}", "choose another input_size"
        raise ConfigError(
            f"{spec.shown} cannot be built{size} ({type(error).__name__}: {first_line(error)}); "
            f"{mend}"
        ) from error
    if spec.input_size is not None:
        _check_patches(spec, taken.network, spec.input_size)
    return taken


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


def _check_patches(spec: OwnModel, network: nn.Module, size: int) -> None:
    """Refuse an input that does not consist of whole patches, of which an encoder that cuts images
    into patches would not see the rest: raises ConfigError.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.in_channels == 3:
            patch = int(layer.kernel_size[0])
            rest = size % patch
            if layer.stride == layer.kernel_size and layer.padding in ((0, 0), "valid") and rest:
                near = " or ".join(str(each) for each in (size - rest, size - rest + patch) if each)
                raise ConfigError(
                    f"{spec.shown} cuts images into patches of {patch} pixels, and an input_size "
                    f"of {size} is no multiple of that; write {near}"
                )
            return  # of the first layer alone


def _library(spec: OwnModel) -> Library:
    assert spec.named is not None
    return LIBRARIES[spec.named.library]
