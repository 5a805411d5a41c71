"""Image processors of transformers, as their configurations describe them."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from advrec.errors import ConfigError, first_line
from advrec.model.preprocessing import Preprocessing, preprocessing
from advrec.spec.models import OwnModel

RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Interpolations at the places of Pillow's numbers."""
UNKNOWN = ("do_pad", "do_flip_channel_order", "rescale_offset", "include_top", "do_split_image")
"""Steps that no preparation here has."""
NEEDED = ("do_resize", "do_rescale")
"""Steps that every preparation here has."""
WHOLE = 384
"""Pixels from which on ConvNeXt's processor cuts nothing off."""

Size = int | tuple[int, ...] | dict[str, int | None]
Positive = Annotated[float, Field(gt=0)]


def _threefold(value: Any) -> Any:
    """One number for all channels becomes one for each."""
    return (value,) * 3 if isinstance(value, int | float) else value


class _Said(BaseModel):
    """A processor's configuration, as far as it is read here."""

    size: Size
    crop_size: Size | None = None
    crop_pct: Positive | None = None
    do_center_crop: bool = False
    do_normalize: bool = True
    rescale_factor: float = 1 / 255
    resample: Annotated[int, Field(ge=0, lt=len(RESAMPLING))]
    image_mean: Annotated[tuple[float, float, float] | None, BeforeValidator(_threefold)] = None
    image_std: Annotated[
        tuple[Positive, Positive, Positive] | None, BeforeValidator(_threefold)
    ] = None
    native: int | None = None


def read(path: Path) -> dict[str, Any]:
    """The keys of a preprocessor_config.json: raises ConfigError where it holds none."""
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read as JSON ({first_line(error)}); write it by save_pretrained"
        ) from None
    if not isinstance(said, dict):
        raise ConfigError(
            f"{path} holds a {type(said).__name__}, not the keys of an image processor; "
            "write it by save_pretrained"
        )
    return said


def preparation(spec: OwnModel, said: dict[str, Any]) -> Preprocessing:
    """The preparation of a processor's configuration.

    Args:
        said: preprocessor_config.json; `native`, where it is no file of the model's, is the size
            that the model was made for. What is null is as if it was absent.

    Raises:
        ConfigError: it takes a step that is not known here, or says one wrongly.
    """
    said = {key: value for key, value in said.items() if value is not None}
    keys = _checked(spec, said)
    edge = resize = _pixels(spec, keys.size)
    if keys.crop_pct is not None and edge < WHOLE:
        resize = int(edge / keys.crop_pct)
    elif keys.do_center_crop and keys.crop_size is not None:
        edge = _pixels(spec, keys.crop_size)
    size = spec.input_size or keys.native or edge
    mean, std = (0.0,) * 3, (1.0,) * 3
    if keys.do_normalize:
        if keys.image_mean is None or keys.image_std is None:
            lacking = "image_mean" if keys.image_mean is None else "image_std"
            raise ConfigError(
                f"the image processor of {spec.shown} has no {lacking}; write its three numbers, "
                "or do_normalize: false"
            )
        mean, std = keys.image_mean, keys.image_std
    return preprocessing(
        spec.shown,
        size=size,
        resize=resize * size // edge,
        interpolation=RESAMPLING[keys.resample],
        mean=mean,
        std=std,
    )


def _checked(spec: OwnModel, said: dict[str, Any]) -> _Said:
    """The keys that are read here: raises ConfigError where it is not known here."""
    try:
        keys = _Said(**said)
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        has = f"{key}: {said[key]}, which is not known here" if key in said else f"no {key}"
        raise ConfigError(
            f"the image processor of {spec.shown} has {has}; "
            "mend it, or write a module:function of your own"
        ) from None
    steps = [step for step in UNKNOWN if said.get(step)]
    steps += [step for step in NEEDED if not said.get(step, True)]
    if abs(keys.rescale_factor - 1 / 255) > 1e-6:
        steps.append("rescale_factor")
    if steps:
        raise ConfigError(
            f"{spec.shown} prepares images with {steps[0]}: {said[steps[0]]}, which is not "
            "known here; write a module:function of your own"
        )
    return keys


def _pixels(spec: OwnModel, size: Size) -> int:
    """Pixels of a side, of a size as transformers writes it."""
    sides = {size} if isinstance(size, int) else {*size}
    if isinstance(size, dict):
        sides = {size.get(key) for key in ("shortest_edge", "height", "width")} - {None}
    if not sides or min(sides) < 1:
        raise ConfigError(
            f"the image processor of {spec.shown} has the size {size}, which gives no side; "
            "write height and width, or shortest_edge, in pixels"
        )
    if len(sides) != 1:
        raise ConfigError(
            f"{spec.shown} reads images that are not square, {sorted(sides)}, and a catalog's are; "
            "write a module:function of your own"
        )
    return int(sides.pop())
