"""Data URIs of images and files, so that the page needs nothing beside itself."""

import base64
import io
from typing import Any

import numpy.typing as npt
from PIL import Image

from advrec.catalog.pixels import Pixels
from advrec.reports.pictures.images import scaled, to_pixels

LOSSLESS_UP_TO = 128
"""Side in pixels above which the page shows examples as JPEG; examples/ keeps lossless images."""
THUMB = 96
"""Side in pixels of an image among many, at most."""


def thumbnail(image: npt.NDArray[Any]) -> str:
    """URI of an image (H, W, 3), uint8 or floats in [0, 1], as JPEG of at most THUMB pixels."""
    pixels = to_pixels(image)
    large = max(pixels.shape[:2]) > THUMB
    return jpeg(scaled(pixels, THUMB) if large else Image.fromarray(pixels))


def jpeg(image: Image.Image) -> str:
    """URI of an image as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return uri(buffer.getvalue(), "image/jpeg")


def example(pixels: Pixels) -> str:
    """URI of an image (H, W, 3) uint8: PNG, or JPEG where it is larger than LOSSLESS_UP_TO."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    form, kind = ("PNG", "png") if max(image.size) <= LOSSLESS_UP_TO else ("JPEG", "jpeg")
    image.save(buffer, format=form, quality=92)
    return uri(buffer.getvalue(), f"image/{kind}")


def csv(text: str) -> str:
    """URI of a table as CSV."""
    return uri(text.encode(), "text/csv")


def uri(content: bytes, kind: str) -> str:
    """A data URI of some bytes; `kind` is their MIME type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
