"""Encoders of open_clip: the image tower alone, as encode_image embeds."""

import copy
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn

from advrec.errors import ConfigError
from advrec.model import state_dict, weight_files
from advrec.model.libraries import base
from advrec.model.libraries.base import Named, Plain, Taken
from advrec.model.preprocessing import preprocessing
from advrec.model.state_dict import Layout
from advrec.model.weight_files import State
from advrec.spec.messages import suggest
from advrec.spec.models import OwnModel

TOWER = "visual."
OF_TEXTS = (
    *("logit_scale", "logit_bias", "positional_embedding", "text_projection", "attn_mask"),
    *("token_embedding.", "transformer.", "ln_final.", "text.", "text_decoder."),
    *("input_resolution", "context_length", "vocab_size"),
)
"""Names beside the image tower in a file of weights."""


def check(spec: OwnModel) -> None:
    """Refuse a name or a tag that open_clip does not know: raises ConfigError."""
    _named(spec)


def take(spec: OwnModel) -> Taken:
    """The encoder with its weights; see `base.Library`."""
    open_clip, (name, tag) = _open_clip(), _name_and_tag(spec)
    named = _named(spec)
    if spec.weights == "pretrained":
        with base.hub(spec):
            tower = open_clip.create_model(name, pretrained=tag).visual
        named = dataclasses.replace(named, weights=f"{name}/{tag}")
        return Taken(_sized(tower, named), named)
    with base.seeded():
        tower = _tower(named, _native(named))
    if spec.checkpoint is None:
        return Taken(_sized(tower, named), named)
    file = weight_files.read(Path(spec.checkpoint))
    layouts = (Layout(TOWER, left_out=OF_TEXTS), Layout())
    taken, normaliser = state_dict.load(file, tower, layouts)
    return Taken(_sized(tower, named), named, taken, normaliser)


def build(named: Named) -> nn.Module:
    """The encoder before its weights are loaded."""
    return _tower(named, named.preprocessing.size)


def plain(named: Named, network: nn.Module) -> Plain:
    """The encoder for a user without advrec; see `base.Library`."""
    size = named.preprocessing.size
    sized = "" if size == _native(named) else f", force_image_size={size}"
    loader = (
        "import open_clip\n\n"
        f'model = open_clip.create_model("{named.name}", pretrained_text=False{sized})\n'
        "network = model.visual"
    )
    if named.config["vision_cfg"].get("output_tokens"):
        loader += "\nnetwork.output_tokens = False"
    return Plain(network, loader, prefix=TOWER)


def _open_clip() -> Any:
    return base.require("open_clip", "open_clip")


def _name_and_tag(spec: OwnModel) -> tuple[str, str | None]:
    assert spec.named is not None
    name, _, tag = spec.named.name.partition("/")
    return name, tag or None


def _named(spec: OwnModel) -> Named:
    """The description of an encoder: that of its name, and of its weights' tag.

    Raises:
        ConfigError: open_clip does not know them.
    """
    open_clip, (name, tag) = _open_clip(), _name_and_tag(spec)
    config = open_clip.get_model_config(name)
    if config is None:
        raise ConfigError(
            f"{name} is not a model of open_clip {base.version('open_clip_torch')}"
            f"{suggest(name, open_clip.list_models())}"
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag is not None and tag not in tags:
        raise ConfigError(
            f"open_clip has no weights {tag} of {name}{suggest(tag, tags)} "
            f"(there are {', '.join(tags) or 'none'})"
        )
    if tag is None and spec.weights == "pretrained":
        raise ConfigError(
            f"{spec.model} names no weights of open_clip; write open_clip/{name}/TAG, "
            f"with one of {', '.join(tags) or 'none'} for TAG, or name a checkpoint"
        )
    of_tag = open_clip.get_pretrained_cfg(name, tag) if tag else {}
    quick = bool(config.get("quick_gelu", False))
    if tag and bool(of_tag.get("quick_gelu", False)) != quick:
        kind = "with" if of_tag.get("quick_gelu") else "without"
        raise ConfigError(
            f"the weights {tag} of {name} were trained {kind} QuickGELU, and {name} is built "
            f"{'with' if quick else 'without'}; write open_clip/{_other(name)}/{tag}"
        )
    vision = config["vision_cfg"] | {"timm_model_pretrained": False}
    native = int(vision.get("image_size", 224))
    size = spec.input_size or native
    overlay = {key: of_tag.get(key) for key in ("mean", "std", "interpolation", "resize_mode")}
    prepared = open_clip.transform.merge_preprocess_dict(
        open_clip.transform.PreprocessCfg(), overlay
    )
    return Named(
        library="open_clip",
        name=name,
        version=base.version("open_clip_torch"),
        config={"embed_dim": config["embed_dim"], "quick_gelu": quick, "vision_cfg": vision},
        # A square image is scaled to the whole input, whatever the resize_mode.
        preprocessing=preprocessing(
            spec.model,
            size=size,
            resize=size,
            interpolation=prepared["interpolation"],
            mean=prepared["mean"],
            std=prepared["std"],
        ),
    )


def _other(name: str) -> str:
    quick = "-quickgelu"
    return name.removesuffix(quick) if name.endswith(quick) else name + quick


def _native(named: Named) -> int:
    return int(named.config["vision_cfg"].get("image_size", 224))


def _tower(named: Named, size: int) -> nn.Module:
    """The image tower for images of this size."""
    config = copy.deepcopy(named.config)
    config["vision_cfg"]["image_size"] = size
    # Not create_model: it makes the tower of texts too, whose configuration may lie on a hub.
    tower: nn.Module = _open_clip().model._build_vision_tower(**config)
    return _pooled(tower)


def _pooled(tower: nn.Module) -> nn.Module:
    """The tower, which gives the embedding alone; some give the tokens beside it."""
    if getattr(tower, "output_tokens", False):
        tower.output_tokens = False  # type: ignore[assignment]
    return tower


def _sized(tower: nn.Module, named: Named) -> nn.Module:
    """The tower for inputs of another size than its own; its position embedding is scaled.

    Raises:
        ConfigError: it cannot be scaled.
    """
    native, size = _native(named), named.preprocessing.size
    if size == native:
        return _pooled(tower)
    sized = _tower(named, size)
    state: State = {TOWER + name: value for name, value in tower.state_dict().items()}
    _open_clip().model.resize_pos_embed(state, SimpleNamespace(visual=sized))
    try:
        sized.load_state_dict({name.removeprefix(TOWER): value for name, value in state.items()})
    except RuntimeError:
        raise ConfigError(
            f"open_clip/{named.name} reads images of {native} pixels alone; leave input_size out"
        ) from None
    return sized
