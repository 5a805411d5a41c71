"""The network that a training starts from."""

from collections.abc import Callable
from pathlib import Path

import torch

from advrec.catalog.dataset import Catalog
from advrec.errors import ConfigError
from advrec.model import checkpoint
from advrec.model.checkpoint import Network
from advrec.model.encoder import to_images
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.model.guarded import door_of
from advrec.run.directory import Run
from advrec.spec.defenses import TrainedModel
from advrec.spec.label_free import LabelFree
from advrec.spec.models import AnyTraining
from advrec.training import trainable
from advrec.training.recipe import RECIPES

IMAGES = 2
"""Images that show which weights an encoder uses."""


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
        encoder = _encoder(start or run.weights(spec.init), spec, catalog)
        encoder.behind(door_of(spec.ingest, seed))
        return encoder
    assert spec.width is not None, "study.load resolves it"
    architecture = Architecture(
        backbone=spec.backbone,
        width=spec.width,
        categories=catalog.categories if spec.on_categories else (),
        textures=catalog.textures if spec.on_textures else (),
        door=door_of(spec.ingest, seed),
    )
    torch.manual_seed(seed)
    network = FashionNet(architecture, imagenet=spec.weights == "imagenet")
    if not RECIPES[spec.recipe].normalise:
        network.mean.zero_()
        network.std.fill_(1.0)
    if spec.init != "none":
        trained = checkpoint.load_trained(start or run.weights(spec.init))
        trained.behind(architecture.door)
        if trained.architecture != architecture:
            raise other_architecture(spec)
        network.load_state_dict(trained.state_dict())
    elif spec.weights not in ("none", "imagenet"):
        taken = checkpoint.load_backbone(Path(spec.weights), network)
        if taken:
            on_taken(taken)
    return network


def _encoder(path: Path, spec: LabelFree, catalog: Catalog) -> Network:
    """The network of a file, of whose weights those alone ask for gradients that are trained.

    Raises:
        ConfigError: there is nothing in it to train.
    """
    images = to_images(catalog.pixels(catalog.ids_of("train")[:IMAGES]))
    trained = trainable.weights(checkpoint.load_single(path), spec, images)
    network = checkpoint.load_single(path)
    network.requires_grad_(False)
    for name, weight in network.named_parameters():
        weight.requires_grad_(name in trained)
    return network


def other_architecture(spec: TrainedModel) -> ConfigError:
    """Say that a model cannot start from the one that it names."""
    return ConfigError(
        f"init: {spec.init} has another backbone, width or heads; give both models the same"
    )
