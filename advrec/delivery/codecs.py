"""Codecs that a shop stores an image with, as Pillow runs them. Free of torch."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, features

from advrec.errors import ConfigError
from advrec.spec.deliveries import SUBSAMPLING, Step, steps

Pixels = npt.NDArray[np.uint8]
"""(H, W, 3)"""


class Codec(NamedTuple):
    form: str
    """Pillow's name of the file format."""
    feature: str
    """Pillow's name of the library that it needs."""
    options: dict[str, Any]
    """Pillow's, beside quality and subsampling."""


CODECS = {
    "jpeg": Codec("JPEG", "jpg", {}),
    "webp": Codec("WEBP", "webp", {}),
    # With more threads the pixels of large images are others (Pillow 13.0.0, libavif 1.4.2).
    "avif": Codec("AVIF", "avif", {"max_threads": 1}),
}


def check(deliveries: Sequence[str]) -> None:
    """Refuse deliveries with a codec that this Pillow lacks: raises ConfigError."""
    for delivery in deliveries:
        for step in steps(delivery):
            codec = CODECS.get(step.kind)
            if codec and not features.check(codec.feature):
                raise ConfigError(
                    f"delivery {delivery}: this Pillow ({PIL.__version__}) was built without "
                    f"{codec.form}; install one that has it, or leave the delivery out"
                )


def stored(pixels: Pixels, by: Step) -> Pixels:
    """An image (H, W, 3) uint8 as it comes back from a codec."""
    codec = CODECS[by.kind]
    options = codec.options | {"quality": int(by.number)}
    if by.kind == "jpeg":
        options["subsampling"] = SUBSAMPLING[by.option]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=codec.form, **options)
    with Image.open(buffer, formats=[codec.form]) as file:
        return np.asarray(file.convert("RGB"))
