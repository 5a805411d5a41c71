"""Models that were trained elsewhere: a user's function, or a network of torchvision with a file of
weights.
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from advrec.errors import AdvrecError, ConfigError, first_line
from advrec.model import backbones, state_dict, weight_files
from advrec.model.fashionnet import IMAGENET_MEAN, IMAGENET_STD
from advrec.model.state_dict import Layout, Normaliser
from advrec.run import fingerprint
from advrec.spec.models import OwnModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnArchitecture:
    """Everything that is needed to build the network before its weights are loaded."""

    model: str
    """package.module:function, or a name of torchvision."""
    image_size: int
    dimension: int
    with_weights: bool = False
    """A network of torchvision is built as torchvision builds it with weights; runs of before 0.3
    have it bare.
    """
    normaliser: Normaliser | None = None
    """A network of torchvision behind another normalisation than ImageNet's."""


class Adopted(NamedTuple):
    """A model of the user's own."""

    network: "OwnNetwork"
    taken: str
    """Words about what was taken of its file of weights and what was not; empty where it is the
    model's alone.
    """


class OwnNetwork(nn.Module):
    """Images (N, 3, H, W), RGB in [0, 1], to embeddings (N, dimension), by whatever module the user
    gives.
    """

    def __init__(self, architecture: OwnArchitecture, module: nn.Module) -> None:
        super().__init__()
        self.architecture = architecture
        self.dimension = architecture.dimension
        self.module = module

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings (N, dimension), float32, of images (N, 3, H, W)."""
        embeddings: Tensor = self.module(images).float()
        return embeddings


class _Normalised(nn.Module):
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
        ConfigError: the function cannot be imported or called, or torchvision does not know the
            name.
    """
    if ":" in spec.model:
        _function(spec.model)
    else:
        backbones.check_name(spec.model, imagenet=spec.weights == "imagenet")


def adopt(spec: OwnModel, image_size: int) -> Adopted:
    """Build the model, load its weights and see that it is one: embeddings (N, D), finite, with
    gradients with respect to the image.

    Raises:
        ConfigError: it is not.
        AdvrecError: ImageNet weights cannot be had.
    """
    module, taken, normaliser = _with_weights(spec)
    module.eval()
    images = torch.rand(2, 3, image_size, image_size, requires_grad=True)
    with _blamed_on(spec.model):
        embeddings = module(images)
    if not isinstance(embeddings, Tensor) or embeddings.ndim != 2 or len(embeddings) != 2:
        shape = (
            tuple(embeddings.shape) if isinstance(embeddings, Tensor) else type(embeddings).__name__
        )
        raise ConfigError(
            f"{spec.model} gives {shape} for 2 images of {image_size} pixels; "
            "it must give embeddings (2, D)"
        )
    if not torch.isfinite(embeddings).all():
        raise ConfigError(
            f"{spec.model} gives embeddings that are not finite; "
            "look at its weights and at the range of its input, [0, 1]"
        )
    if (
        not embeddings.requires_grad
        or torch.autograd.grad(embeddings.sum(), images, allow_unused=True)[0] is None
    ):
        raise ConfigError(
            f"{spec.model} gives embeddings without a gradient with respect to the image; "
            "remove no_grad and detach from it"
        )
    architecture = OwnArchitecture(
        model=spec.model,
        image_size=image_size,
        dimension=embeddings.shape[1],
        with_weights=":" not in spec.model,
        normaliser=normaliser,
    )
    return Adopted(OwnNetwork(architecture, module).eval(), taken)


def build(architecture: OwnArchitecture) -> OwnNetwork:
    """The network before its weights are loaded; raises ConfigError where the user's function
    cannot be called.
    """
    model = architecture.model
    if ":" in model:
        return OwnNetwork(architecture, _users(model))
    network = backbones.headless(model, with_weights=architecture.with_weights).network
    return OwnNetwork(architecture, _Normalised(network, architecture.normaliser))


@torch.inference_mode()
def check_same(adopted: OwnNetwork, loaded: nn.Module, model: str) -> None:
    """Refuse a model that its state dict does not determine: every process that attacks builds it
    anew and loads only that.

    Raises:
        ConfigError: what was built anew embeds an image differently.
    """
    size = adopted.architecture.image_size
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    if not isinstance(loaded, OwnNetwork) or not torch.allclose(
        adopted.embed(images), loaded.embed(images), rtol=1e-4, atol=1e-6
    ):
        raise ConfigError(
            f"{model} called again and given the same state dict embeds differently; "
            "register everything that is drawn or read as a parameter or buffer, "
            "and remove randomness from the forward pass"
        )


def _with_weights(spec: OwnModel) -> tuple[nn.Module, str, Normaliser | None]:
    """The module with its weights, what was taken of their file, and the file's normaliser."""
    module, layout = _bare(spec)
    if spec.checkpoint is None:
        return module, "", None
    target = module.network if isinstance(module, _Normalised) else module
    try:
        taken, normaliser = state_dict.load(
            weight_files.read(Path(spec.checkpoint)), target, (layout,)
        )
    except state_dict.MisfitError as reason:
        raise ConfigError(f"{spec.checkpoint} does not fit the model: {reason}") from None
    if normaliser is None:
        return module, taken, None
    if not isinstance(module, _Normalised):
        raise ConfigError(
            f"{spec.checkpoint} holds a normaliser of mean {normaliser.mean} and deviation "
            f"{normaliser.std} besides, which {spec.model} has to apply itself; "
            "make it a part of the module, or remove it from the file"
        )
    normaliser.put_into(module)
    return module, taken, normaliser


def _bare(spec: OwnModel) -> tuple[nn.Module, Layout]:
    """The module before a file is loaded, and how a file may hold it."""
    if ":" in spec.model:
        return _users(spec.model), Layout()
    network, _, last = backbones.headless(
        spec.model, imagenet=spec.weights == "imagenet", with_weights=True
    )
    # The classifier's last layer is not part of the embedding: its weights, for whatever classes,
    # stay behind.
    left_out = (f"{last}.weight", f"{last}.bias", *backbones.AUXILIARY)
    return _Normalised(network, None), Layout(left_out=left_out)


def _users(model: str) -> nn.Module:
    """Whatever module a user's function returns."""
    function = _function(model)
    with _blamed_on(model):
        module = function()
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"{model} returns a {type(module).__name__}; it must return a torch.nn.Module"
        )
    return module


def _function(model: str) -> Callable[[], Any]:
    module_name, _, name = model.partition(":")
    with _blamed_on(model):
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


@contextlib.contextmanager
def _blamed_on(model: str) -> Iterator[None]:
    """Whatever a user's code raises becomes one sentence that names it."""
    try:
        yield
    except AdvrecError:
        raise
    except (Exception, SystemExit) as error:
        hint = (
            f"; run advrec where {model.partition('.')[0]} can be imported"
            if isinstance(error, ImportError)
            else ""
        )
        raise ConfigError(
            f"{model} raised {type(error).__name__}: {first_line(error)}{hint}"
        ) from error
