"""Backbones by name: a module from normalised images to feature maps, and the number of its channels."""

from collections.abc import Callable

import torch
from torch import nn
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from advrec.errors import AdvrecError


def _mobilenet_v2(width: float, imagenet: bool) -> tuple[nn.Module, int]:
    if imagenet and width != 1.0:
        raise AdvrecError(f"ImageNet weights exist for mobilenet_v2 of width 1.0, not {width}; set width: 1.0 or weights: none")
    network = mobilenet_v2(weights=MobileNet_V2_Weights.IMAGENET1K_V1 if imagenet else None, width_mult=width)
    return network.features, network.last_channel


BACKBONES: dict[str, Callable[[float, bool], tuple[nn.Module, int]]] = {"mobilenet_v2": _mobilenet_v2}


def build(name: str, *, width: float, imagenet: bool = False) -> tuple[nn.Module, int]:
    """The backbone and its number of output channels (1280 for mobilenet_v2 up to width 1.0).

    Raises:
        AdvrecError: ImageNet weights are asked for and cannot be had.
    """
    try:
        return BACKBONES[name](width, imagenet)
    except OSError as error:  # URLError is one: torch.hub could not download
        raise AdvrecError(
            f"the ImageNet weights of {name} cannot be downloaded here ({error}); put them into {torch.hub.get_dir()}/checkpoints, "
            f"or name a safetensors file in weights, or set weights: none"
        ) from None
