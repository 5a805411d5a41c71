"""Pixels in memory and as lossless bytes."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def encode_png(pixels: Pixels) -> bytes:
    """Lossless bytes of an RGB image (H, W, 3) uint8."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def decode_png(png: bytes) -> Pixels:
    """(H, W, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(png)))
