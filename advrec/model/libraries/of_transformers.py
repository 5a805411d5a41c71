"""Encoders of transformers: vision models by their pooled output, CLIP by its image embedding."""

import contextlib
import dataclasses
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advrec.errors import ConfigError, first_line
from advrec.model import state_dict, weight_files
from advrec.model.libraries import base
from advrec.model.libraries.base import Named, Plain, Taken
from advrec.model.libraries.processors import preparation, read
from advrec.model.state_dict import Layout, Loaded, MisfitError
from advrec.model.weight_files import WeightsFile, listed
from advrec.run.fingerprint import CONFIG, PROCESSOR
from advrec.spec.models import OwnModel

BESIDE = (
    *("classifier.", "cls_classifier.", "distillation_classifier.", "decoder."),
    *("text_model.", "text_projection.", "logit_scale", "logit_bias"),
)
"""Beginnings of names of weights that are no part of an image's embedding."""

OFFLINE = (
    "write hf/FOLDER, a folder that save_pretrained wrote, or try the study by hf/KIND, such as "
    "hf/vit, with weights: random"
)
"""Words on what a user can do without the hub."""
Found = Callable[[], tuple[nn.Module, str]]


class Pooled(nn.Module):
    """A model of transformers, from prepared images to embeddings."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        asked = inspect.signature(model.forward).parameters
        # Images of another size than the model's own; of its own it changes nothing.
        self.flags = {name: True for name in ("interpolate_pos_encoding",) if name in asked}

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (N, D) of prepared images (N, 3, size, size)."""
        made = self.model(pixel_values=images, **self.flags)
        pooled = getattr(made, "image_embeds", None)
        pooled = getattr(made, "pooler_output", None) if pooled is None else pooled
        # Without a pooler the class token is what a classifier reads.
        embeddings: Tensor = made.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)
        return embeddings

    def expression(self, size: int) -> str:
        """Python that embeds `images` (N, 3, size, size) by `network`, the model itself."""
        with torch.no_grad():
            made = self.model(pixel_values=torch.zeros(1, 3, size, size), **self.flags)
        flags = "".join(f", {name}={value}" for name, value in self.flags.items())
        call = f"network(pixel_values=images{flags})"
        if getattr(made, "image_embeds", None) is not None:
            return f"{call}.image_embeds"
        if getattr(made, "pooler_output", None) is not None:
            return f"{call}.pooler_output.flatten(1)"
        return f"{call}.last_hidden_state[:, 0]"


def check(spec: OwnModel) -> None:
    """Refuse what cannot be, without asking the hub: raises ConfigError."""
    _transformers()
    name = base.name_of(spec)
    if spec.weights == "pretrained" and name in _kinds():
        raise ConfigError(
            f"hf/{name} is a kind of model, without weights; write hf/OWNER/NAME, "
            "name a checkpoint, or write weights: random"
        )
    if _folder(spec) is None and spec.named is not None and spec.named.is_folder:
        raise ConfigError(f"{name} holds no {CONFIG}; name a folder that save_pretrained wrote")


def take(spec: OwnModel) -> Taken:
    """The encoder with its weights; see `base.Library`."""
    check(spec)
    _transformers().utils.logging.disable_progress_bar()
    config = _vision(_config(spec))
    named = _named(spec, config)
    if spec.weights == "random":
        with base.seeded():
            return Taken(build(named), named)
    if spec.checkpoint is not None:
        file = weight_files.read(Path(spec.checkpoint))
        try:
            model, taken, normaliser = _from_file(config, file)
        except MisfitError as reason:
            if _folder(spec) is not None:
                raise
            raise MisfitError(f"{reason}; lay its {CONFIG} beside it") from None
    else:
        with base.hub(spec, instead=OFFLINE):
            source = str(_folder(spec) or base.name_of(spec))
            found = _from(config, source)
        (model, _), taken, normaliser = found(), "", None
        if _folder(spec) is None:
            commit = getattr(config, "_commit_hash", None)
            revision = f"{source} at {commit}" if commit else source
            named = dataclasses.replace(named, weights=revision)
    pooler = getattr(model, "pooler", True) is not None
    named.config["pooler"] = pooler
    return Taken(Pooled(model), named, taken, normaliser)


def build(named: Named) -> nn.Module:
    """The encoder before its weights are loaded."""
    described = named.config["model"]
    config = _transformers().CONFIG_MAPPING[described["model_type"]].from_dict(described)
    return Pooled(_made(config, pooler=named.config["pooler"]))


def plain(named: Named, network: nn.Module) -> Plain:
    """The encoder for a user without advrec; see `base.Library`."""
    assert isinstance(network, Pooled)
    config: Any = network.model.config
    keys = "" if named.config["pooler"] else ", add_pooling_layer=False"
    return Plain(
        network.model,
        "import transformers\n\n"
        f'config = transformers.{type(config).__name__}.from_json_file("{CONFIG}")\n'
        f"network = transformers.{type(network.model).__name__}(config{keys})",
        embedding=network.expression(named.preprocessing.size),
        beside=((CONFIG, config.to_json_string()),),
    )


def _transformers() -> Any:
    return base.require("transformers", "hf")


def _kinds() -> Any:
    """Kinds of models, each with a default configuration."""
    return _transformers().CONFIG_MAPPING


def _folder(spec: OwnModel) -> Path | None:
    """The folder that holds the configuration: the one named, or that of the checkpoint."""
    assert spec.named is not None
    if spec.named.is_folder:
        folder = Path(spec.named.name)
    elif spec.checkpoint is not None:
        folder = Path(spec.checkpoint).parent
    else:
        return None
    return folder if (folder / CONFIG).is_file() else None


def _config(spec: OwnModel) -> Any:
    """The configuration: of a folder, a kind's default, or the hub's.

    Raises:
        AdvrecError: the hub cannot be reached.
    """
    transformers, name, folder = _transformers(), base.name_of(spec), _folder(spec)
    if folder is None and name in _kinds():
        return transformers.CONFIG_MAPPING[name]()
    if folder is not None:
        try:
            return transformers.AutoConfig.from_pretrained(str(folder))
        except Exception as error:  # of many kinds
            raise ConfigError(
                f"{folder / CONFIG} is no configuration that transformers knows "
                f"({first_line(error)}); write it by save_pretrained"
            ) from None
    instead = OFFLINE if spec.checkpoint is None else f"lay its {CONFIG} beside the checkpoint"
    with base.hub(spec, "configuration", instead):
        return transformers.AutoConfig.from_pretrained(name)


def _vision(config: Any) -> Any:
    """The configuration of the image tower, of a model of images and texts."""
    tower = getattr(config, "vision_config", None)
    if tower is None:
        return config
    if config.model_type == "clip":
        tower.projection_dim = config.projection_dim
    return tower


def _class(config: Any) -> Any:
    transformers = _transformers()
    if config.model_type == "clip_vision_model":
        return transformers.CLIPVisionModelWithProjection
    try:
        return transformers.MODEL_MAPPING[type(config)]
    except KeyError:
        raise ConfigError(
            f"transformers has no model of images of the kind {config.model_type}; "
            "write a module:function of your own"
        ) from None


def _made(config: Any, *, pooler: bool) -> nn.Module:
    """The model with random weights; without its pooler where `pooler` is false."""
    kind = _class(config)
    model: nn.Module = kind(config) if pooler else kind(config, add_pooling_layer=False)
    return model.eval()


def _named(spec: OwnModel, config: Any) -> Named:
    transformers, folder, name = _transformers(), _folder(spec), base.name_of(spec)
    native = getattr(config, "image_size", None)
    if folder is not None and (folder / PROCESSOR).is_file():
        said = read(folder / PROCESSOR)
    elif folder is not None or name in _kinds() or spec.checkpoint is not None:
        said = _default_processor(config.model_type) | {"native": native}
    else:
        with base.hub(spec, "image processor", OFFLINE):
            said = transformers.AutoImageProcessor.from_pretrained(name).to_dict()
    return Named(
        library="hf",
        name=name,
        version=base.version("transformers"),
        config={"model": json.loads(config.to_json_string(use_diff=False)), "pooler": True},
        preprocessing=preparation(spec, said),
    )


def _default_processor(kind: str) -> dict[str, Any]:
    """The preparation that transformers has for a kind of model by default."""
    transformers = _transformers()
    mapping = transformers.models.auto.image_processing_auto.IMAGE_PROCESSOR_MAPPING_NAMES
    names = mapping.get(kind) or mapping.get(kind.removesuffix("_vision_model"))
    if names is None:
        raise ConfigError(
            f"transformers has no image processor for {kind}; put {PROCESSOR} beside the checkpoint"
        )
    described: dict[str, Any] = getattr(transformers, names["torchvision"])().to_dict()
    return described


def _from(config: Any, source: str | None, **keys: Any) -> Found:
    """Read weights by transformers' own loader, which knows the names of older versions.

    Returns:
        A function that gives the model, and words about what is left out of the file; it raises
        MisfitError where weights are missing, or more are there than a known head.
    """
    kind, flags = _class(config), dict[str, Any]()
    for _ in range(2):
        model, info = kind.from_pretrained(
            source,
            config=config,
            output_loading_info=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are named below
            **flags,
            **keys,
        )
        missing = {str(name) for name in info["missing_keys"]}
        if not missing or not all(name.startswith("pooler.") for name in missing):
            break
        flags["add_pooling_layer"] = False  # a classifier's file has none

    def found() -> tuple[nn.Module, str]:
        beside = sorted(map(str, info["unexpected_keys"]))
        surplus = [name for name in beside if not name.startswith(BESIDE)]
        shapes = [
            f"{name} is {tuple(has)} where the model has {tuple(wants)}"
            for name, has, wants in sorted(info["mismatched_keys"])
        ]
        if shapes:
            raise MisfitError(listed(shapes, 1))
        wrong = sorted(missing)
        if wrong or surplus:
            lacks = f"it lacks {listed(wrong, 3)}" if wrong else f"it holds {listed(surplus, 3)}"
            raise MisfitError(lacks + ("" if wrong else " besides"))
        return model.eval(), f"left out: {listed(beside, 4)}" if beside else ""

    return found


def _from_file(config: Any, file: WeightsFile) -> tuple[nn.Module, str, Any]:
    """The model of a file of weights, what was taken of it, and its normaliser."""
    for pooler in (True, False):
        if not pooler and "add_pooling_layer" not in inspect.signature(_class(config)).parameters:
            continue
        model = _made(config, pooler=pooler)
        try:
            loaded: Loaded = state_dict.load(file, model, (Layout(left_out=BESIDE),))
        except MisfitError as misfit:
            reason = misfit
        else:
            return model, *loaded
    if len(file.parts) == 1:  # names of an older version of transformers
        (state,) = file.parts.values()
        with contextlib.suppress(RuntimeError):  # of other shapes
            return *_from(config, None, state_dict=dict(state))(), None
    raise reason
