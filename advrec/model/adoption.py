"""Adoption of models that were trained elsewhere: built, given their weights, and rehearsed once as
they will be attacked.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from advrec.errors import ConfigError, first_line
from advrec.model import backbones, own, rehearsal, state_dict, weight_files
from advrec.model.encoder import AGREE, FORMS, in_form
from advrec.model.fused import Encoder
from advrec.model.libraries import registry
from advrec.model.libraries.base import Named
from advrec.model.own import Normalised, OwnArchitecture, OwnNetwork
from advrec.model.preprocessing import Preprocessed
from advrec.model.rehearsal import SAME, Chosen, Played, UnfitError, Way
from advrec.model.state_dict import Layout, Normaliser
from advrec.spec.models import OwnModel


class Adopted(NamedTuple):
    """A model of the user's own."""

    network: OwnNetwork
    taken: str
    """Words about what was taken of its file of weights and what was not; empty where it is the
    model's alone.
    """
    slower: dict[str, str]
    """The reason against each faster form than its own, by their names."""


def adopt(spec: OwnModel, image_size: int) -> Adopted:
    """Build the model, load its weights, and rehearse an attack on it.

    Raises:
        ConfigError: it cannot be attacked, or its state dict does not determine it.
        AdvrecError: ImageNet weights cannot be had.
    """
    try:
        module, taken, normaliser, named = _with_weights(spec, image_size)
    except state_dict.MisfitError as reason:
        file = spec.checkpoint or f"the weights file of {spec.shown}"
        raise ConfigError(f"{file} does not fit the model: {reason}") from None
    module.eval()
    for parameter in module.parameters():
        if not is_lazy(parameter):  # whose shape the first forward pass decides
            parameter.requires_grad_(False)
    registered = set(module.state_dict())
    images = rehearsal.images(image_size, image_size)
    try:
        plain = rehearsal.play(module, images, module)
    except UnfitError as reason:
        raise ConfigError(f"{spec.shown} {reason}") from None
    architecture = OwnArchitecture(
        model=spec.model,
        image_size=image_size,
        dimension=plain.embeddings.shape[1],
        with_weights=":" not in spec.model,
        normaliser=normaliser,
        named=named,
    )
    network = OwnNetwork(architecture, module)
    _check_state(spec.shown, module, registered)
    chosen = _chosen(network, images, plain)
    network.architecture = dataclasses.replace(architecture, form=chosen.name)
    return Adopted(network, taken, chosen.failed)


def _chosen(network: OwnNetwork, images: Tensor, plain: Played) -> Chosen:
    """The fastest form of a model that gives the same for images (N, 3, H, W).

    Each is tried on the model built anew, for so does every process that attacks.

    Raises:
        ConfigError: the state dict does not determine the model.
    """

    def again() -> OwnNetwork:
        built = own.build(network.architecture).eval()
        built.load_state_dict(network.state_dict())
        return built

    def way(name: str) -> Way:
        form = FORMS[name]

        def make() -> Encoder:
            ready = in_form(again(), form)
            if ready.fused is not None:
                ready.fused.build(*images.shape[2:])
            return ready.embed

        return Way(name, make, AGREE if form.folded else SAME)

    try:
        same = rehearsal.embed_in_batches(again().embed, images)
        if rehearsal.differ(same, plain.embeddings, AGREE):
            raise UnfitError("embeds differently")
        return rehearsal.choose(map(way, FORMS), images, plain)
    except (UnfitError, RuntimeError) as reason:
        raise ConfigError(
            f"{network.architecture.model} called again and given the same state dict "
            f"{first_line(reason)}; register everything that is drawn or read as a parameter or "
            "buffer, and remove randomness from the forward pass"
        ) from None


def _check_state(model: str, module: nn.Module, registered: set[str]) -> None:
    """Refuse what a model built anew could not be given: raises ConfigError.

    Args:
        registered: names in the state dict before the first forward pass.
    """
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise ConfigError(
                f"{model} keeps {name}, a {type(value).__name__}, in its state dict, "
                "which can hold tensors alone"
            )
        if name not in registered:
            raise ConfigError(
                f"{model} makes {name} in its first forward pass only, so that no process that "
                "builds it anew can be given it; register it in __init__"
            )


class _Loaded(NamedTuple):
    """A module with its weights."""

    module: nn.Module
    taken: str = ""
    """Words about what was taken of the file of weights."""
    normaliser: Normaliser | None = None
    """The file's, for a network of torchvision."""
    named: Named | None = None
    """All that an encoder of a library is built from."""


def _with_weights(spec: OwnModel, image_size: int) -> _Loaded:
    """The module with its weights; raises MisfitError where the file is another's."""
    if spec.named is not None:
        network, named, taken, normaliser = registry.take(spec)
        preparation = named.preprocessing.normalising(normaliser)
        named = dataclasses.replace(named, preprocessing=preparation)
        return _Loaded(Preprocessed(network, preparation, image_size), taken, named=named)
    module, layout = _bare(spec)
    if spec.checkpoint is None:
        return _Loaded(module)
    target = module.network if isinstance(module, Normalised) else module
    file = weight_files.read(Path(spec.checkpoint))
    taken, normaliser = state_dict.load(file, target, (layout,))
    if normaliser is None:
        return _Loaded(module, taken)
    if not isinstance(module, Normalised):
        raise ConfigError(
            f"{spec.checkpoint} holds a normaliser of mean {normaliser.mean} and deviation "
            f"{normaliser.std} besides, which {spec.shown} has to apply itself; "
            "make it a part of the module, or remove it from the file"
        )
    normaliser.put_into(module)
    return _Loaded(module, taken, normaliser)


def _bare(spec: OwnModel) -> tuple[nn.Module, Layout]:
    """The module before a file is loaded, and how a file may hold it."""
    if ":" in spec.model:
        return own.users(spec.model), Layout()
    network, _, last = backbones.headless(
        spec.model,
        weights=backbones.IMAGENET if spec.weights == "imagenet" else None,
        with_weights=True,
    )
    # The classifier's last layer is not part of the embedding: its weights, for whatever classes,
    # stay behind.
    left_out = (f"{last}.weight", f"{last}.bias", *backbones.AUXILIARY)
    return Normalised(network, None), Layout(left_out=left_out)
