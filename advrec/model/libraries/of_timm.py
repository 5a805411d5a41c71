"""Encoders of timm: pooled features, before the classifier."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from torch import nn

from advrec.errors import ConfigError
from advrec.model import state_dict, weight_files
from advrec.model.libraries import base
from advrec.model.libraries.base import Named, Plain, Taken
from advrec.model.preprocessing import preprocessing
from advrec.model.state_dict import Layout
from advrec.spec.messages import suggest
from advrec.spec.models import OwnModel


def check(spec: OwnModel) -> None:
    """Refuse a name that timm does not know: raises ConfigError."""
    _config(spec)


def take(spec: OwnModel) -> Taken:
    """The encoder with its weights; see `base.Library`."""
    timm, config = _timm(), _config(spec)
    name = base.name_of(spec)
    named = _named(spec, config)
    if spec.weights == "pretrained":
        with base.hub(spec):
            network = timm.create_model(name, pretrained=True, num_classes=0)
        named = dataclasses.replace(named, weights=_called(network.pretrained_cfg))
        return Taken(_sized(network, named), named)
    with base.seeded():
        network = timm.create_model(name, pretrained=False, num_classes=0)
    if spec.checkpoint is None:
        return Taken(_sized(network, named), named)
    file = weight_files.read(Path(spec.checkpoint))
    taken, normaliser = state_dict.load(file, network, (Layout(left_out=_classifier(config)),))
    return Taken(_sized(network, named), named, taken, normaliser)


def build(named: Named) -> nn.Module:
    """The encoder before its weights are loaded."""
    network: nn.Module = _timm().create_model(named.name, pretrained=False, num_classes=0)
    return _sized(network, named)


def plain(named: Named, network: nn.Module) -> Plain:
    """The encoder for a user without advrec; see `base.Library`."""
    loader = f'import timm\n\nnetwork = timm.create_model("{named.name}", num_classes=0)'
    if _is_resized(network, named):
        size = named.preprocessing.size
        loader += f"\nnetwork.set_input_size(img_size=({size}, {size}))"
    return Plain(network, loader)


def _timm() -> Any:
    return base.require("timm", "timm")


def _config(spec: OwnModel) -> dict[str, Any]:
    """The library's description of an encoder and of how its weights were trained."""
    timm, name = _timm(), base.name_of(spec)
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ConfigError(
            f"{name} is not a model of timm {base.version('timm')}"
            f"{suggest(architecture, timm.list_models())}"
        )
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise ConfigError(
            f"timm has no weights {tag} of {architecture}{suggest(tag, tags)} "
            f"(there are {', '.join(tags) or 'none'})"
        )
    config = timm.get_pretrained_cfg(name)
    return {} if config is None else dict(config.to_dict())


def _named(spec: OwnModel, config: dict[str, Any]) -> Named:
    timm = _timm()
    data = timm.data.resolve_data_config(pretrained_cfg=config)
    _, height, width = data["input_size"]
    if height != width or len(data["mean"]) != 3:
        raise ConfigError(
            f"{spec.model} reads images of {width} x {height} pixels and {len(data['mean'])} "
            "channels, and a catalog's are square and of three; write a module:function of your own"
        )
    size = spec.input_size or height
    return Named(
        library="timm",
        name=base.name_of(spec),
        version=base.version("timm"),
        config={"input_size": height},
        preprocessing=preprocessing(
            spec.model,
            size=size,
            resize=math.floor(size / data["crop_pct"]),
            interpolation=data["interpolation"],
            mean=data["mean"],
            std=data["std"],
        ),
    )


def _called(config: dict[str, Any]) -> str:
    """The name of the weights that timm loads by default where none is asked for."""
    return ".".join(filter(None, (config.get("architecture"), config.get("tag"))))


def _sized(network: nn.Module, named: Named) -> nn.Module:
    """The network for inputs of another size than its own; its position embedding is scaled."""
    size = named.preprocessing.size
    if _is_resized(network, named):
        rescale: Any = network.set_input_size
        rescale(img_size=(size, size))
    return network


def _is_resized(network: nn.Module, named: Named) -> bool:
    """Say that the network has to be told of another input size than its own."""
    other = named.preprocessing.size != named.config["input_size"]
    return other and hasattr(network, "set_input_size")


def _classifier(config: dict[str, Any]) -> tuple[str, ...]:
    """Names of the weights of a classifier's last layers, the first of them whole."""
    layers = config.get("classifier") or ()
    layers = (layers,) if isinstance(layers, str) else tuple(layers)
    names = [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    return (*names, *(f"{layer}." for layer in layers))
