"""One image file to the prepared image: decoded, upright, RGB, padded to a square on white, resized; and its hashes."""

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from advrec.catalog.pixels import encode_png

MAX_PIXELS = 50_000_000
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses above twice this number


class Prepared(NamedTuple):
    png: bytes
    sha256: str
    """Of the prepared pixels."""
    phash: str
    """Perceptual hash of the decoded image before it was resized, 16 hexadecimal digits."""


class Unreadable(NamedTuple):
    reason: str


def prepare(path: Path, size: int) -> Prepared | Unreadable:
    """The prepared image of `size` x `size` pixels, or why there is none."""
    from advrec.catalog.duplicates import phash  # imagededup takes seconds to import: only where images are prepared

    try:
        decoded = decode(path.read_bytes())
        pixels = np.asarray(squared(decoded, size))
        return Prepared(encode_png(pixels), hashlib.sha256(pixels.tobytes()).hexdigest(), phash(np.asarray(decoded)))
    except Exception as error:  # Pillow's decoders raise nearly anything on a broken file; none may stop the catalog
        return Unreadable(f"{type(error).__name__}: {error}")


def decode(encoded: bytes) -> Image.Image:
    """RGB image, upright by its EXIF orientation, transparency on white."""
    with Image.open(io.BytesIO(encoded)) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data:
            rgba = upright.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        return upright.convert("RGB")


def squared(image: Image.Image, size: int) -> Image.Image:
    """Scaled to fit, centred on a white square: the whole article stays visible."""
    return ImageOps.pad(image, (size, size), method=Image.Resampling.BICUBIC, color="white")
