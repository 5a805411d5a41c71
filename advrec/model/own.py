"""Models that were trained elsewhere: a user's function, an encoder of a library, or a network of
torchvision with a file of weights.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from advrec.delivery.door import Door
from advrec.errors import ConfigError
from advrec.model import backbones
from advrec.model.fashionnet import IMAGENET_MEAN, IMAGENET_STD
from advrec.model.fused import Fused
from advrec.model.guarded import Guarded
from advrec.model.libraries import registry
from advrec.model.libraries.base import Named
from advrec.model.preprocessing import Preprocessed
from advrec.model.state_dict import Normaliser
from advrec.run import fingerprint
from advrec.run.fingerprint import blamed_on
from advrec.spec.models import OwnModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnArchitecture:
    """Everything that is needed to build the network before its weights are loaded."""

    model: str
    """package.module:function, an encoder of a library, or a name of torchvision."""
    image_size: int
    dimension: int
    with_weights: bool = False
    """A network of torchvision is built as torchvision builds it with weights; runs of before 0.3
    have it bare.
    """
    normaliser: Normaliser | None = None
    """A network of torchvision behind another normalisation than ImageNet's."""
    form: str | None = None
    """The name of its form in model/encoder.py, as its adoption found it; None: before 0.3."""
    named: Named | None = None
    """All that an encoder of a library is built from, without the library's hub."""
    door: Door | None = None
    """Steps that every image passes first."""


class OwnNetwork(Guarded):
    """Images (N, 3, H, W), RGB in [0, 1], to embeddings (N, dimension), by whatever module the user
    gives.
    """

    contiguous = False
    """The module asks for images that are contiguous in memory."""
    fused: Fused | None = None
    """The faster way to the embeddings, of a frozen copy."""

    def __init__(self, architecture: OwnArchitecture, module: nn.Module) -> None:
        super().__init__()
        self.architecture = architecture
        self.dimension = architecture.dimension
        self.module = module

    def bare(self, images: Tensor) -> Tensor:
        """Embeddings (N, dimension), float32, of images (N, 3, H, W)."""
        return self.plain(images) if self.fused is None else self.fused(images)

    def plain(self, images: Tensor) -> Tensor:
        """The same, (N, dimension), layer by layer, as autograd does it."""
        embeddings: Tensor = self.module(images.contiguous() if self.contiguous else images)
        return embeddings.float()


class Normalised(nn.Module):
    """A network of torchvision behind the normalisation that it was trained with."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, normaliser: Normaliser | None) -> None:
        super().__init__()
        mean, std = normaliser or (IMAGENET_MEAN, IMAGENET_STD)
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, D) of images (N, 3, H, W) in [0, 1]."""
        features: Tensor = self.network((images - self.mean) / self.std)
        return features


def check(spec: OwnModel) -> None:
    """Refuse a model that is not there, without building it; a user's module is imported.

    Raises:
        ConfigError: the function cannot be imported or called, or the library does not know the
            name or is not installed.
    """
    if spec.named is not None:
        registry.check(spec)
    elif ":" in spec.model:
        _function(spec.model)
    else:
        backbones.check_name(spec.model, imagenet=spec.weights == "imagenet")


def build(architecture: OwnArchitecture) -> OwnNetwork:
    """The network before its weights are loaded; raises ConfigError where the user's function
    cannot be called.
    """
    model, named = architecture.model, architecture.named
    if named is not None:
        encoder = registry.build(named)
        prepared = Preprocessed(encoder, named.preprocessing, architecture.image_size)
        return OwnNetwork(architecture, prepared)
    if ":" in model:
        return OwnNetwork(architecture, users(model))
    network = backbones.headless(model, with_weights=architecture.with_weights).network
    return OwnNetwork(architecture, Normalised(network, architecture.normaliser))


def users(model: str) -> nn.Module:
    """Whatever module a user's function returns."""
    function = _function(model)
    with blamed_on(model):
        module = function()
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"{model} returns a {type(module).__name__}; it must return a torch.nn.Module"
        )
    return module


def _function(model: str) -> Callable[[], Any]:
    module_name, _, name = model.partition(":")
    with blamed_on(model):
        named = getattr(fingerprint.import_module(model), name, None)
    if not callable(named):
        raise ConfigError(f"{model}: {module_name} has no function {name}")
    try:
        inspect.signature(named).bind()
    except TypeError as error:
        raise ConfigError(f"{model} is called without arguments, and cannot be: {error}") from None
    except ValueError:  # built in: it has no signature
        pass
    function: Callable[[], Any] = named
    return function
