"""Codecs that a shop stores an image with, as Pillow runs them. Free of torch."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL
from PIL import Image, features

from advrec.catalog.pixels import Pixels
from advrec.errors import ConfigError


class Codec(NamedTuple):
    form: str
    """Pillow's name of the file format."""
    feature: str
    """Pillow's name of the library that it needs."""
    options: dict[str, Any]
    """Pillow's, beside the quality."""


_CODECS = {
    "jpeg": Codec("JPEG", "jpg", {"subsampling": "4:2:0"}),
    "jpeg-444": Codec("JPEG", "jpg", {"subsampling": "4:4:4"}),
    "webp": Codec("WEBP", "webp", {}),
    # With more threads the pixels of large images are others (Pillow 13.0.0, libavif 1.4.2).
    "avif": Codec("AVIF", "avif", {"max_threads": 1}),
}


def codec(delivery: str) -> Codec:
    """The codec of a delivery that names one, its quality among the options.

    Raises:
        ConfigError: this Pillow was built without it.
    """
    family, quality, *sampling = delivery.split("-")
    found = _CODECS["-".join([family, *sampling])]
    if not features.check(found.feature):
        raise ConfigError(
            f"delivery {delivery}: this Pillow ({PIL.__version__}) was built without "
            f"{found.form}; install one that has it, or leave the delivery out"
        )
    return found._replace(options=found.options | {"quality": int(quality)})


def check(deliveries: Sequence[str]) -> None:
    """Refuse deliveries whose codec this Pillow lacks: raises ConfigError."""
    for delivery in deliveries:
        if delivery not in ("float", "png"):
            codec(delivery)


def stored(pixels: Pixels, by: Codec) -> Pixels:
    """Images (N, H, W, 3) uint8 as they come back from a codec, each by itself."""
    return np.stack([_stored(image, by) for image in pixels])


def _stored(image: Pixels, by: Codec) -> Pixels:
    """One image (H, W, 3) uint8 as it comes back."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=by.form, **by.options)
    with Image.open(buffer, formats=[by.form]) as file:
        return np.asarray(file.convert("RGB"))
