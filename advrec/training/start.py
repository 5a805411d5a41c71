"""The network that a training starts from."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from advrec.catalog.dataset import Catalog
from advrec.errors import ConfigError
from advrec.model import checkpoint
from advrec.model.checkpoint import Network
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.run.directory import Run
from advrec.spec.defenses import TrainedModel
from advrec.spec.label_free import LabelFree
from advrec.spec.models import AnyTraining
from advrec.training.recipe import RECIPES

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def initial_network(
    run: Run,
    spec: AnyTraining,
    catalog: Catalog,
    seed: int,
    on_taken: Callable[[str], None] = lambda taken: None,
    start: Path | None = None,
) -> Network:
    """Build the network: random by seed, or with the weights that `init` or `weights` name. A
    defense without labels takes the whole network that `init` names.

    Args:
        on_taken: told what was taken of a file of weights and what was not.
        start: the weights of the model that `init` names, where they are not in their place yet.

    Raises:
        ConfigError: `init` names a model of another architecture.
        AdvrecError: weights cannot be had.
    """
    if isinstance(spec, LabelFree):
        return _encoder(start or run.weights(spec.init), spec)
    assert spec.width is not None, "study.load resolves it"
    architecture = Architecture(
        backbone=spec.backbone,
        width=spec.width,
        categories=catalog.categories,
        textures=catalog.textures,
    )
    torch.manual_seed(seed)
    network = FashionNet(architecture, imagenet=spec.weights == "imagenet")
    if not RECIPES[spec.recipe].normalise:
        network.mean.zero_()
        network.std.fill_(1.0)
    if spec.init != "none":
        trained = checkpoint.load_trained(start or run.weights(spec.init))
        if trained.architecture != architecture:
            raise other_architecture(spec)
        network.load_state_dict(trained.state_dict())
    elif spec.weights not in ("none", "imagenet"):
        taken = checkpoint.load_backbone(Path(spec.weights), network)
        if taken:
            on_taken(taken)
    return network


def _encoder(path: Path, spec: LabelFree) -> Network:
    """The network of a file, whose embeddings alone are trained.

    Raises:
        ConfigError: there is nothing in it to train.
    """
    network = checkpoint.load(path)
    encoder = network.backbone if isinstance(network, FashionNet) else network.module
    parts = blocks(encoder)
    if not parts:
        raise ConfigError(f"init: {spec.init} has no weights that could be trained")
    if spec.trainable != "all" and spec.trainable > len(parts):
        raise ConfigError(
            f"trainable is {spec.trainable}, and {spec.init} has {len(parts)} blocks; write at "
            "most as many, or all"
        )
    trained: list[nn.Module] = [encoder]
    if spec.trainable != "all":
        trained = [layer for block in parts[-spec.trainable :] for layer in block]
    network.requires_grad_(False)
    for layer in trained:
        for parameter in layer.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
    return network


def blocks(module: nn.Module) -> list[list[nn.Module]]:
    """An encoder's blocks that have weights, in its order: the members of its lists of layers, each
    with the normalisations after it.
    """
    found: list[list[nn.Module]] = []
    for layer in _unrolled(module):
        if not any(parameter.is_floating_point() for parameter in layer.parameters()):
            continue
        if found and isinstance(layer, NORMS):
            found[-1].append(layer)
        else:
            found.append([layer])
    return found


def _unrolled(module: nn.Module, *, whole: bool = True) -> Iterator[nn.Module]:
    """The members of an encoder's lists of layers, and its layers beside them.

    Args:
        whole: the module is the encoder; what is nothing but a hull around one part is taken off.
    """
    parts = [part for part in module.children() if any(True for _ in part.parameters())]
    hull = len(parts) == 1 and not any(True for _ in module.parameters(recurse=False))
    if not parts or not (whole or isinstance(module, nn.Sequential | nn.ModuleList)):
        yield module
        return
    for part in parts:
        yield from _unrolled(part, whole=whole and hull)


def other_architecture(spec: TrainedModel) -> ConfigError:
    """Say that a model cannot start from the one that it names."""
    return ConfigError(
        f"init: {spec.init} has another backbone or width; give both models the same"
    )
