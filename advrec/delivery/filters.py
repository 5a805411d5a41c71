"""Filters that wash small changes out of an image: blur, median, fewer levels."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter
from scipy import ndimage

from advrec.delivery import scaling
from advrec.delivery.codecs import Pixels
from advrec.spec.deliveries import Step

FILTERS = ("blur", "median", "bits")


def filtered(pixels: Pixels, by: Step) -> Pixels:
    """An image (H, W, 3) uint8 after a filter; what lies outside it is as its edge is."""
    if by.kind == "blur":
        rows, columns = (blur(by.number, size) for size in pixels.shape[:2])
        return scaling.changed(pixels, rows, columns)
    if by.kind == "median":
        return np.asarray(Image.fromarray(pixels).filter(ImageFilter.MedianFilter(int(by.number))))
    return _in_levels(int(by.number))[pixels]


@lru_cache(maxsize=64)
def blur(deviation: float, size: int) -> npt.NDArray[np.float32]:
    """The matrix (size, size) float32 by which a Gaussian changes a line of `size` pixels.

    Args:
        deviation: its standard deviation in pixels; it is cut off at four of them.
    """
    line: npt.NDArray[np.float32] = ndimage.gaussian_filter1d(
        np.eye(size), deviation, axis=0, mode="nearest"
    ).astype(np.float32)
    return line


@lru_cache(maxsize=8)
def _in_levels(bits: int) -> Pixels:
    """The nearest of 2**bits even levels, of which 0 and 255 are two, of each value, (256,)."""
    step = 255.0 / (2**bits - 1)
    levels: Pixels = np.rint(np.rint(np.arange(256) / step) * step).astype(np.uint8)
    return levels
