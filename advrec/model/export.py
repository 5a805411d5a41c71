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
from advrec.model.libraries.base import Named, Plain
from advrec.model.own import Normalised
from advrec.model.preprocessing import Preprocessed
from advrec.run.files import write_atomically, write_text

ENDINGS = (".safetensors", ".pt", ".pth", ".bin")


class Exported(NamedTuple):
    """An encoder for its own library."""

    state: dict[str, Tensor]
    plain: Plain
    reads: str
    """Words about the images that it reads."""
    preparation: str = ""
    """Python that defines `prepared`: what the network reads, of images; nothing: all of them."""

    def program(self, path: Path) -> str:
        """Python that reads a file of the state dict, and defines `embed`, of images in [0, 1]."""
        plain = self.plain
        state = "state"
        if plain.prefix:
            state = f'{{name.removeprefix("{plain.prefix}"): state[name] for name in state}}'
        torch_first = "" if plain.loader.startswith("import torch\n") else "import torch\n"
        prepared = "    images = prepared(images)\n" if self.preparation else ""
        return (
            f"{torch_first}{plain.loader}\n\n{_reader(path)}network.load_state_dict({state})\n"
            f"network.eval()\n\n\n{self.preparation}def embed(images):\n"
            f'    """Embeddings (N, D) of images (N, 3, H, W), RGB in [0, 1]."""\n'
            f"{prepared}    return {plain.embedding}"
        )


def exported(network: Network) -> Exported:
    """The encoder's weights, without what advrec puts around them."""
    if isinstance(network, FashionNet):
        return _exported(_of_backbone(network), *_normalising(network.mean, network.std))
    module, architecture = network.module, network.architecture
    if isinstance(module, Preprocessed):
        named = architecture.named
        assert named is not None
        return _exported(registry.plain(named, module.network), *_preparing(module, named))
    if isinstance(module, Normalised):
        loader = backbones.loader(architecture.model, with_weights=architecture.with_weights)
        return _exported(Plain(module.network, loader), *_normalising(module.mean, module.std))
    package, _, function = architecture.model.partition(":")
    loader = f"from {package} import {function}\n\nnetwork = {function}()"
    return _exported(Plain(module, loader), "images of the catalog as they are")


def save(path: Path, made: Exported) -> None:
    """Write a state dict as its file's ending says, and beside it what its loader reads.

    Raises:
        ConfigError: the ending is none that says it, or other such files lie there.
    """
    check(path)
    for name, text in made.plain.beside:
        file = path.with_name(name)
        if file.exists() and file.read_bytes() != text.encode():
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
    return f'state = torch.load("{path.name}", weights_only=True)\n'


def _exported(plain: Plain, reads: str, preparation: str = "") -> Exported:
    # Cloned, for two names may share one tensor, which a file cannot.
    state = {
        plain.prefix + name: value.detach().cpu().contiguous().clone()
        for name, value in plain.module.state_dict().items()
    }
    return Exported(state, plain, reads, preparation)


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


def _normalising(mean: Tensor, std: Tensor, before: str = "") -> tuple[str, str]:
    """Words and Python about images, minus a mean, divided by a standard deviation; `before` is the
    Python that comes before.
    """
    numbers = [", ".join(str(value) for value in each.flatten().numpy()) for each in (mean, std)]
    lines = (
        f"MEAN = torch.tensor([{numbers[0]}]).view(3, 1, 1)",
        f"STD = torch.tensor([{numbers[1]}]).view(3, 1, 1)",
        "\n\ndef prepared(images):",
        '    """Images as the network reads them."""',
        f"{before}    return (images - MEAN) / STD\n\n\n",
    )
    words = f"images of the catalog, minus ({numbers[0]}), divided by ({numbers[1]})"
    return words, "\n".join(lines)


def _preparing(module: Preprocessed, named: Named) -> tuple[str, str]:
    """Words and Python about the preparation of an encoder of a library, as `Preprocessed` is."""
    size, resize = named.preprocessing.size, named.preprocessing.resize
    keys, clamp, lines_first = f'mode="{module.mode}"', "", ""
    if module.mode != "nearest-exact":
        keys += ", antialias=True"
        lines_first = ", antialiased, lines first, then columns"
    if module.mode == "bicubic":
        clamp, lines_first = ".clamp(0.0, 1.0)", f"{lines_first}, clamped after either"
    cuts = resize != size
    other = f"not in ({size}, {resize})" if cuts else f"!= {size}"
    before = (
        f"    if images.shape[-1] {other}:  # square images of another size\n"
        f"        for shape in ((images.shape[-2], {resize}), ({resize}, {resize})):\n"
        "            images = torch.nn.functional.interpolate(\n"
        f"                images, size=shape, {keys}\n"
        f"            ){clamp}\n"
    )
    if cuts:
        before += (
            f"    first = round((images.shape[-1] - {size}) / 2)\n"
            f"    images = images[:, :, first : first + {size}, first : first + {size}]\n"
        )
    words, preparation = _normalising(module.mean, module.std, before)
    scaled = (
        f"{words}. First, images of another size than {size} pixels a side are scaled to {resize} "
        f"({named.preprocessing.interpolation}{lines_first})"
    )
    cut = f", and the {size} in the middle are cut out" if cuts else ""
    return scaled + cut, preparation
