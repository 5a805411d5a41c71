"""Image processors of transformers, as their configurations describe them."""

from typing import Any

from advrec.errors import ConfigError
from advrec.model.preprocessing import Preprocessing, preprocessing
from advrec.spec.models import OwnModel

RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers."""
UNKNOWN = ("do_pad", "do_flip_channel_order", "rescale_offset", "include_top", "do_split_image")
"""Steps that no preparation here has."""
WHOLE = 384
"""Pixels from which on ConvNeXt's processor cuts nothing off."""


def preparation(spec: OwnModel, said: dict[str, Any]) -> Preprocessing:
    """The preparation of a processor's configuration.

    Args:
        said: preprocessor_config.json; `native`, where it is no file of the model's, is the size
            that the model was made for.

    Raises:
        ConfigError: it takes a step that is not known here.
    """
    steps = [step for step in UNKNOWN if said.get(step)]
    if abs(said.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-6:
        steps.append("rescale_factor")
    if not said.get("do_resize", True):
        steps.append("do_resize")
    if steps:
        raise ConfigError(
            f"{spec.model} prepares images with {steps[0]}: {said.get(steps[0])}, which is not "
            "known here; write a module:function of your own"
        )
    edge = resize = _pixels(spec, said.get("size", 224))
    if "crop_pct" in said and edge < WHOLE:
        resize = int(edge / said["crop_pct"])
    elif said.get("do_center_crop") and said.get("crop_size") is not None:
        edge = _pixels(spec, said["crop_size"])
    size = spec.input_size or said.get("native") or edge
    normalises = said.get("do_normalize", True)
    return preprocessing(
        spec.model,
        size=size,
        resize=resize * size // edge,
        interpolation=RESAMPLING[int(said.get("resample", 2))],
        mean=said["image_mean"] if normalises else (0.0, 0.0, 0.0),
        std=said["image_std"] if normalises else (1.0, 1.0, 1.0),
    )


def _pixels(spec: OwnModel, size: Any) -> int:
    """Pixels of a side, of a size as transformers writes it."""
    if isinstance(size, dict):
        size = [size[key] for key in ("shortest_edge", "height", "width") if key in size]
    sides = {size} if isinstance(size, int) else {*size}
    if len(sides) != 1:
        raise ConfigError(
            f"{spec.model} reads images that are not square, {sorted(sides)}, and a catalog's are; "
            "write a module:function of your own"
        )
    return int(sides.pop())
