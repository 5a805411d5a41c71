"""Networks of torchvision by name, without their last layer: a module from normalised images to
features, and how many.
"""

import pickle
from typing import Any, NamedTuple

import torch
from torch import nn

from advrec.errors import AdvrecError, ConfigError, first_line
from advrec.model import state_dict
from advrec.model.state_dict import Layout, MisfitError
from advrec.model.weight_files import WeightsFile
from advrec.run.compat import light_torchvision
from advrec.spec.messages import suggest

torchvision = light_torchvision()


# Flags that torchvision gives its constructors when it builds them with weights; without, the input
# is another one. Auxiliary classifiers are no part of an embedding.
WITH_WEIGHTS: dict[str, dict[str, bool]] = {
    name: {"transform_input": True, "aux_logits": False, "init_weights": False}
    for name in ("inception_v3", "googlenet")
}
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
"""Names of their weights begin so."""
IMAGENET = "IMAGENET1K_V1"


class Headless(NamedTuple):
    """A classifier without its last linear layer."""

    network: nn.Module
    features: int
    """Number of values that the layer would read."""
    last: str
    """The layer's name."""


def build(name: str, *, width: float, imagenet: bool = False) -> tuple[nn.Module, int]:
    """The backbone of a model that is trained here.

    Args:
        width: multiplier of mobilenet_v2's channels; 1280 come out up to width 1.0. The others have
            no width.

    Returns:
        A module to feature maps (N, D, h, w) or embeddings (N, D), and D.

    Raises:
        AdvrecError: ImageNet weights are asked for and cannot be had.
    """
    weights = IMAGENET if imagenet else None
    if name != "mobilenet_v2":
        network, features, _ = headless(name, weights=weights)
        return network, features
    network = (
        _load(name, weights) if imagenet else torchvision.models.mobilenet_v2(width_mult=width)
    )
    return network.features, int(network.last_channel)


def headless(name: str, *, weights: str | None = None, with_weights: bool = False) -> Headless:
    """A classifier of torchvision whose last linear layer is left out.

    Args:
        weights: the name of torchvision's own that are loaded, as IMAGENET1K_V1.
        with_weights: it is built as torchvision builds it with weights.

    Raises:
        ConfigError: torchvision has no classifier of this name, or it does not end in a linear
            layer.
        AdvrecError: ImageNet weights are asked for and cannot be had.
    """
    check_name(name, imagenet=weights == IMAGENET)
    network = _load(name, weights, with_weights=with_weights)
    last = last_linear(network)
    if last is None:
        raise ConfigError(
            f"{name} does not end in a linear layer, so its embedding is not defined; "
            "write a module:function of your own"
        )
    features = int(network.get_submodule(last).in_features)
    network.set_submodule(last, nn.Identity())
    return Headless(network, features, last)


def loader(name: str, *, with_weights: bool) -> str:
    """Python that makes `network`, torchvision's own module of what `headless` gives."""
    flags = WITH_WEIGHTS.get(name, {}) if with_weights else {}
    keys = "".join(f", {key}={value}" for key, value in flags.items())
    with torch.device("meta"):
        last = last_linear(_bare(name, with_weights=with_weights))
    return (
        "import torch\nimport torchvision\n\n"
        f'network = torchvision.models.get_model("{name}", weights=None{keys})\n'
        f'network.set_submodule("{last}", torch.nn.Identity())'
    )


def check_name(name: str, *, imagenet: bool = False) -> None:
    """Refuse a name that is no classifier of torchvision, before anything is built.

    Args:
        imagenet: refuse one without the ImageNet weights that are loaded here, too.

    Raises:
        ConfigError: it is none, or there are no such weights.
    """
    names = torchvision.models.list_models(module=torchvision.models)
    if "." in name:
        raise ConfigError(
            f"{name} is not a classifier of torchvision; "
            "a function is written package.module:function, with a colon"
        )
    if name not in names:
        raise ConfigError(
            f"{name} is not a classifier of torchvision{suggest(name, names)}; "
            "for your own write package.module:function"
        )
    there = [weights.name for weights in torchvision.models.get_model_weights(name)]
    if imagenet and IMAGENET not in there:
        raise ConfigError(
            f"weights: imagenet is torchvision's {IMAGENET}, and {name} has {', '.join(there)} "
            "alone; download the file of one of them and name it in checkpoint"
        )


def last_linear(network: nn.Module) -> str | None:
    """Name of the layer that a classifier ends in."""
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    return names[-1] if names else None


def classifier(name: str) -> tuple[str, ...]:
    """Names of the weights of a classifier's last layer; nothing is allocated."""
    with torch.device("meta"):
        last = last_linear(_bare(name, with_weights=True))
    return (f"{last}.weight", f"{last}.bias")


def _bare(name: str, *, with_weights: bool) -> Any:
    flags = WITH_WEIGHTS.get(name, {}) if with_weights else {}
    return torchvision.models.get_model(name, weights=None, **flags)


def _load(name: str, named: str | None, *, with_weights: bool = False) -> Any:
    network = _bare(name, with_weights=with_weights or named is not None)
    if named is None:
        return network
    weights = torchvision.models.get_model_weights(name)[named]
    try:
        # Unlike get_model, this runs no pickle that somebody put into the cache.
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        file = WeightsFile({"": dict(state)}, tuple(state))
        state_dict.load(file, network, (Layout(left_out=AUXILIARY),))
        return network
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, MisfitError) as error:
        # An OSError (URLError is one): torch.hub could not download; the rest: it is not the file.
        name_of_file = weights.url.rpartition("/")[2]
        raise AdvrecError(
            f"the ImageNet weights of {name} cannot be loaded ({first_line(error)}); "
            f"put torchvision's {name_of_file} into {torch.hub.get_dir()}/checkpoints, "
            "or name such a file in weights (of a model of your own in checkpoint), "
            "or set weights: none (of torchvision/NAME: random), which are drawn"
        ) from None
