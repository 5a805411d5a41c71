"""Networks of torchvision by name, without their last layer: a module from normalised images to
features, and how many.
"""

import pickle
from typing import Any

import torch
from torch import nn

from advrec.errors import AdvrecError, ConfigError, first_line
from advrec.run.compat import light_torchvision
from advrec.spec.messages import suggest

torchvision = light_torchvision()


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
    if name != "mobilenet_v2":
        return headless(name, imagenet=imagenet)
    network = (
        _load(name, imagenet) if imagenet else torchvision.models.mobilenet_v2(width_mult=width)
    )
    features: nn.Module = network.features
    return features, int(network.last_channel)


def headless(name: str, *, imagenet: bool = False) -> tuple[nn.Module, int]:
    """A classifier of torchvision whose last linear layer is left out, and the number of features
    that it would read.

    Raises:
        ConfigError: torchvision has no classifier of this name, or it does not end in a linear
            layer.
        AdvrecError: ImageNet weights are asked for and cannot be had.
    """
    check_name(name)
    network = _load(name, imagenet)
    last = last_linear(network)
    if last is None:
        raise ConfigError(
            f"{name} does not end in a linear layer, so its embedding is not defined; "
            "write a module:function of your own"
        )
    features = int(network.get_submodule(last).in_features)
    network.set_submodule(last, nn.Identity())
    return network, features


def check_name(name: str) -> None:
    """Refuse a name that is no classifier of torchvision: raises ConfigError."""
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


def last_linear(network: nn.Module) -> str | None:
    """Name of the layer that a classifier ends in."""
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    return names[-1] if names else None


def _load(name: str, imagenet: bool) -> Any:
    network = torchvision.models.get_model(name, weights=None)
    if not imagenet:
        return network
    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        # Unlike get_model, this runs no pickle that somebody put into the cache.
        network.load_state_dict(
            weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        )
        return network
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        # An OSError (URLError is one): torch.hub could not download; the rest: it is not the file.
        file = weights.url.rpartition("/")[2]
        raise AdvrecError(
            f"the ImageNet weights of {name} cannot be loaded ({first_line(error)}); "
            f"put torchvision's {file} into {torch.hub.get_dir()}/checkpoints, "
            "or name such a file in weights, or set weights: none"
        ) from None
