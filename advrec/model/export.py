"""Encoders as plain state dicts: the names of the library's own module, and how it takes them."""

from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from advrec.errors import ConfigError
from advrec.model import backbones
from advrec.model.checkpoint import Network
from advrec.model.fashionnet import FashionNet
from advrec.model.own import Normalised
from advrec.model.preprocessing import Preprocessed
from advrec.run.files import write_atomically

ENDINGS = (".safetensors", ".pt", ".pth", ".bin")


class Exported(NamedTuple):
    """An encoder for its own library."""

    state: dict[str, Tensor]
    loader: str
    """Python that makes `network`, the module that takes the state dict."""
    prepared: str
    """Words about the images that it reads."""


def exported(network: Network) -> Exported:
    """The encoder's weights, without what advrec puts around them."""
    if isinstance(network, FashionNet):
        return Exported(_state(network.backbone), *_of_backbone(network))
    module, architecture = network.module, network.architecture
    if isinstance(module, Preprocessed):
        size = module.cut or architecture.image_size
        images = _normalised(module.mean, module.std)
        named = architecture.named
        assert named is not None
        return Exported(
            _state(module.network),
            _of_library(named.library, named.name, size),
            f"{images}, {size} pixels a side",
        )
    if isinstance(module, Normalised):
        return Exported(
            _state(module.network), _torchvision(architecture.model), _normalised(*_of(module))
        )
    package, _, function = architecture.model.partition(":")
    return Exported(
        _state(module),
        f"from {package} import {function}\n\nnetwork = {function}()",
        "RGB in [0, 1], as in the study",
    )


def save(path: Path, made: Exported) -> None:
    """Write a state dict as its file's ending says.

    Raises:
        ConfigError: the ending is none that says it.
    """
    check(path)
    if path.suffix == ".safetensors":
        write_atomically(path, lambda temporary: safetensors.torch.save_file(made.state, temporary))
    else:
        write_atomically(path, lambda temporary: torch.save(made.state, temporary))


def check(path: Path) -> None:
    """Refuse a file whose ending does not say its format: raises ConfigError."""
    if path.suffix not in ENDINGS:
        raise ConfigError(
            f"{path}: its ending says no format; name a file that ends in {', '.join(ENDINGS)}"
        )


def reader(path: Path) -> str:
    """Python that reads such a file."""
    if path.suffix == ".safetensors":
        return f'from safetensors.torch import load_file\n\nstate = load_file("{path.name}")'
    return f'import torch\n\nstate = torch.load("{path.name}", weights_only=True)'


def _state(module: nn.Module) -> dict[str, Tensor]:
    # Cloned, for two names may share one tensor, which a file cannot.
    return {
        name: value.detach().cpu().contiguous().clone()
        for name, value in module.state_dict().items()
    }


def _of_library(library: str, name: str, size: int) -> str:
    if library == "timm":
        return f'import timm\n\nnetwork = timm.create_model("{name}", num_classes=0)'
    if library == "torchvision":
        return _torchvision(name)
    if library.startswith("efficientnet-lite"):
        return (
            "import torch\nfrom efficientnet_lite_pytorch import EfficientNet\n\n"
            f'network = EfficientNet.from_name("{name}", image_size={size})\n'
            "network._fc = torch.nn.Identity()"
        )
    return f"network = ...  # {name} as {library} builds it, without a classifier"


def _torchvision(name: str) -> str:
    last = backbones.headless(name, with_weights=True).last
    return (
        "import torch\nimport torchvision\n\n"
        f'network = torchvision.models.get_model("{name}", weights=None)\n'
        f'network.set_submodule("{last}", torch.nn.Identity())'
    )


def _of_backbone(network: FashionNet) -> tuple[str, str]:
    """Loader and images of a backbone that was trained here."""
    architecture = network.architecture
    images = _normalised(network.mean, network.std)
    if architecture.backbone != "mobilenet_v2":
        return _torchvision(architecture.backbone), images
    width = f"width_mult={architecture.width:g}"
    return (
        "import torchvision\n\n"
        f"network = torchvision.models.mobilenet_v2({width}).features  # then the mean over places",
        images,
    )


def _of(module: Normalised) -> tuple[Tensor, Tensor]:
    return module.mean, module.std


def _normalised(mean: Tensor, std: Tensor) -> str:
    shown = [", ".join(f"{value:.4g}" for value in each.flatten().tolist()) for each in (mean, std)]
    return f"RGB in [0, 1], minus ({shown[0]}), divided by ({shown[1]})"
