"""Encoders of torchvision: what the last linear layer reads, of images that are prepared as for
torchvision's own weights.
"""

import dataclasses
from pathlib import Path
from typing import Any

from torch import nn

from advrec.errors import ConfigError
from advrec.model import backbones, state_dict, weight_files
from advrec.model.libraries import base
from advrec.model.libraries.base import Named, Plain, Taken
from advrec.model.preprocessing import preprocessing
from advrec.model.state_dict import Layout
from advrec.spec.models import OwnModel


def check(spec: OwnModel) -> None:
    """Refuse a name that is no classifier of torchvision: raises ConfigError."""
    backbones.check_name(base.name_of(spec), imagenet=spec.weights == "imagenet")


def take(spec: OwnModel) -> Taken:
    """The encoder with its weights; see `base.Library`."""
    check(spec)
    weights = _weights(spec)
    named = _named(spec, weights)
    own = spec.weights in ("imagenet", "pretrained")
    if own:
        named = dataclasses.replace(named, weights=weights.name)
    with base.seeded():
        network, _, last = backbones.headless(
            base.name_of(spec),
            weights=weights.name if own else None,
            with_weights=True,
        )
    if spec.checkpoint is None:
        return Taken(network, named)
    file = weight_files.read(Path(spec.checkpoint))
    layout = Layout(left_out=(f"{last}.weight", f"{last}.bias", *backbones.AUXILIARY))
    taken, normaliser = state_dict.load(file, network, (layout,))
    return Taken(network, named, taken, normaliser)


def build(named: Named) -> nn.Module:
    """The encoder before its weights are loaded."""
    return backbones.headless(named.name, with_weights=True).network


def plain(named: Named, network: nn.Module) -> Plain:
    """The encoder for a user without advrec; see `base.Library`."""
    return Plain(network, backbones.loader(named.name, with_weights=True))


def _weights(spec: OwnModel) -> Any:
    """The weights whose preparation the encoder has: the newest, or those of IMAGENET1K_V1.

    A file of a user's own is taken to be prepared as the latter.
    """
    there = backbones.torchvision.models.get_model_weights(base.name_of(spec))
    if spec.weights != "pretrained" and backbones.IMAGENET in there.__members__:
        return there[backbones.IMAGENET]
    return there.DEFAULT


def _named(spec: OwnModel, weights: Any) -> Named:
    prepared = weights.transforms()
    try:
        native, resize = prepared.crop_size[0], prepared.resize_size[0]
    except AttributeError:
        raise ConfigError(
            f"{spec.model} prepares images in a way of its own; write a module:function"
        ) from None
    size = spec.input_size or native
    return Named(
        library="torchvision",
        name=base.name_of(spec),
        version=base.version("torchvision"),
        config={},
        preprocessing=preprocessing(
            spec.model,
            size=size,
            resize=resize * size // native,
            interpolation=prepared.interpolation.value,
            mean=prepared.mean,
            std=prepared.std,
        ),
    )
