"""Encoders as plain state dicts: the names of the library's own module, and how it takes them."""

from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from advrec.errors import ConfigError
from advrec.model import backbones
from advrec.model.checkpoint import Network
from advrec.model.fashionnet import FashionNet
from advrec.model.libraries import registry
from advrec.model.libraries.base import Plain
from advrec.model.own import Normalised
from advrec.model.preprocessing import Preprocessed
from advrec.run.files import write_atomically, write_text

ENDINGS = (".safetensors", ".pt", ".pth", ".bin")


class Exported(NamedTuple):
    """An encoder for its own library."""

    state: dict[str, Tensor]
    plain: Plain
    prepared: str
    """Words about the images that it reads."""

    def program(self, path: Path) -> str:
        """Python that reads a file of the state dict, and defines `embed`, of prepared images."""
        plain = self.plain
        state = "state"
        if plain.prefix:
            state = f'{{name.removeprefix("{plain.prefix}"): state[name] for name in state}}'
        return (
            f"{plain.loader}\n\n{_reader(path)}network.load_state_dict({state})\n"
            f"network.eval()\n\n\ndef embed(images):\n    return {plain.embedding}"
        )


def exported(network: Network) -> Exported:
    """The encoder's weights, without what advrec puts around them."""
    if isinstance(network, FashionNet):
        return _exported(_of_backbone(network), _normalised(network.mean, network.std))
    module, architecture = network.module, network.architecture
    if isinstance(module, Preprocessed):
        named = architecture.named
        assert named is not None
        images = _normalised(module.mean, module.std)
        size = f"{named.preprocessing.size} pixels a side"
        return _exported(registry.plain(named, module.network), f"{images}, {size}")
    if isinstance(module, Normalised):
        loader = backbones.loader(architecture.model, with_weights=architecture.with_weights)
        return _exported(Plain(module.network, loader), _normalised(module.mean, module.std))
    package, _, function = architecture.model.partition(":")
    loader = f"from {package} import {function}\n\nnetwork = {function}()"
    return _exported(Plain(module, loader), "RGB in [0, 1], as in the study")


def save(path: Path, made: Exported) -> None:
    """Write a state dict as its file's ending says, and beside it what its loader reads.

    Raises:
        ConfigError: the ending is none that says it, or other such files lie there.
    """
    check(path)
    for name, text in made.plain.beside:
        file = path.with_name(name)
        if file.exists() and file.read_text() != text:
            raise ConfigError(
                f"{file} is of another model, and the export writes its own there; "
                "export into a folder of its own"
            )
        write_text(file, text)
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


def _reader(path: Path) -> str:
    """Python that reads such a file."""
    if path.suffix == ".safetensors":
        return f'from safetensors.torch import load_file\n\nstate = load_file("{path.name}")\n'
    return f'import torch\n\nstate = torch.load("{path.name}", weights_only=True)\n'


def _exported(plain: Plain, prepared: str) -> Exported:
    # Cloned, for two names may share one tensor, which a file cannot.
    state = {
        plain.prefix + name: value.detach().cpu().contiguous().clone()
        for name, value in plain.module.state_dict().items()
    }
    return Exported(state, plain, prepared)


def _of_backbone(network: FashionNet) -> Plain:
    """A backbone that was trained here."""
    architecture = network.architecture
    if architecture.backbone != "mobilenet_v2":
        loader = backbones.loader(architecture.backbone, with_weights=False)
        return Plain(network.backbone, loader)
    width = f"width_mult={architecture.width:g}"
    return Plain(
        network.backbone,
        f"import torchvision\n\nnetwork = torchvision.models.mobilenet_v2({width}).features",
        embedding="network(images).mean((2, 3))",
    )


def _normalised(mean: Tensor, std: Tensor) -> str:
    shown = [", ".join(f"{value:.6g}" for value in each.flatten().tolist()) for each in (mean, std)]
    return f"RGB in [0, 1], minus ({shown[0]}), divided by ({shown[1]})"
