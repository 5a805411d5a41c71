"""Networks on disk: safetensors with the architecture in the header. Nothing here runs code from a
file.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from advrec.delivery.door import Door
from advrec.errors import AdvrecError, ConfigError
from advrec.model import backbones, own, state_dict, weight_files
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.model.joined import JoinedArchitecture, JoinedNetwork
from advrec.model.libraries.base import Named
from advrec.model.own import OwnArchitecture, OwnNetwork
from advrec.model.preprocessing import Preprocessing
from advrec.model.state_dict import Layout, Normaliser
from advrec.run.files import write_atomically

Network = FashionNet | OwnNetwork
"""One network, which may be trained."""
AnyNetwork = Network | JoinedNetwork
AnyArchitecture = Architecture | OwnArchitecture | JoinedArchitecture


def build(architecture: AnyArchitecture) -> AnyNetwork:
    """The network without its weights."""
    if isinstance(architecture, JoinedArchitecture):
        return JoinedNetwork(architecture, [build(part) for part in architecture.parts])
    return (
        FashionNet(architecture)
        if isinstance(architecture, Architecture)
        else own.build(architecture)
    )


def save(path: Path, network: AnyNetwork) -> None:
    """Write architecture and weights as safetensors."""
    said = dataclasses.asdict(network.architecture, dict_factory=_without_no_door)
    header = {"architecture": json.dumps(said)}
    # Cloned, for two names may share one tensor, which a file cannot.
    tensors = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in network.state_dict().items()
    }
    write_atomically(
        path, lambda temporary: safetensors.torch.save_file(tensors, temporary, metadata=header)
    )


def load(path: Path) -> AnyNetwork:
    """The network of a file that `save` wrote, on the CPU, in evaluation mode.

    Raises:
        AdvrecError: the file is not such a file.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as handle:
            stored = json.loads((handle.metadata() or {})["architecture"])
        network = build(_architecture(stored))
        network.load_state_dict(safetensors.torch.load_file(path))
    except (
        OSError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        safetensors.SafetensorError,
    ) as error:
        raise AdvrecError(
            f"{path}: is not a checkpoint of advrec ({error}); train the model again"
        ) from None
    return network.eval()


def load_single(path: Path) -> Network:
    """The same network, which is not a joined one."""
    network = load(path)
    assert not isinstance(network, JoinedNetwork), "the study lets no training start from one"
    return network


def load_trained(path: Path) -> FashionNet:
    """The network of a model that was trained here.

    Raises:
        AdvrecError: the file is none that `save` wrote, or of a model of the user's own.
    """
    network = load(path)
    if not isinstance(network, FashionNet):
        raise AdvrecError(f"{path}: was not trained by advrec")
    return network


def _without_no_door(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """Fields of an architecture as earlier versions know them."""
    return {name: value for name, value in fields if (name, value) != ("door", None)}


def _architecture(stored: dict[str, Any]) -> AnyArchitecture:
    door = stored.pop("door", None)
    stored["door"] = None if door is None else Door(**door)
    if "parts" in stored:
        parts = tuple(_architecture(part) for part in stored["parts"])
        weights = tuple(stored["weights"])
        return JoinedArchitecture(parts=parts, weights=weights, door=stored["door"])
    if "model" in stored:
        if stored.get("normaliser") is not None:
            stored["normaliser"] = Normaliser(*map(tuple, stored["normaliser"]))
        if stored.get("named") is not None:
            stored["named"] = _named(**stored["named"])
        return OwnArchitecture(**stored)
    return Architecture(
        **stored
        | {"categories": tuple(stored["categories"]), "textures": tuple(stored["textures"])}
    )


def _named(*, preprocessing: dict[str, Any], **stored: Any) -> Named:
    lists = {key: tuple(value) for key, value in preprocessing.items() if isinstance(value, list)}
    return Named(**stored, preprocessing=Preprocessing(**preprocessing | lists))


def load_backbone(path: Path, network: FashionNet) -> str:
    """Start `network`'s backbone from a file of weights: one of ours, or torchvision's own, as
    people have them.

    Returns:
        What was taken of the file and what was not; empty where it is the backbone alone.

    Raises:
        ConfigError: the file does not hold this backbone.
    """
    architecture = network.architecture
    file = weight_files.read(path)
    # torchvision's mobilenet_v2 calls features what is all of our backbone.
    theirs = "features." if architecture.backbone == "mobilenet_v2" else ""
    layouts = (
        Layout("backbone.", ("category_head.", "texture_head."), own_normaliser=True),
        Layout(theirs, backbones.classifier(architecture.backbone)),
    )
    try:
        taken, normaliser = state_dict.load(file, network.backbone, layouts)
    except state_dict.MisfitError as reason:
        raise ConfigError(
            f"{path}: does not fit {architecture.backbone} of width {architecture.width} "
            f"({reason}); set backbone and width to those of the file"
        ) from None
    if normaliser is not None:
        normaliser.put_into(network)
    return taken
