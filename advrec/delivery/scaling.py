"""Scaling of images with a named filter, and the matrix that each filter is."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from advrec.delivery.codecs import Pixels

PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
}
"""Filters of Pillow, which average over as many pixels as one of the result stands for."""


def scaled(pixels: Pixels, height: int, width: int, filter: str) -> Pixels:
    """An image (H, W, 3) uint8 at another size (height, width, 3) uint8."""
    if pixels.shape[:2] == (height, width):
        return pixels
    if filter in PILLOW:
        return np.asarray(Image.fromarray(pixels).resize((width, height), PILLOW[filter]))
    rows, columns = (
        matrix(filter, size, to) for size, to in zip(pixels.shape, (height, width), strict=False)
    )
    return changed(pixels, rows, columns)


def changed(
    pixels: Pixels, rows: npt.NDArray[np.float32], columns: npt.NDArray[np.float32]
) -> Pixels:
    """An image (H, W, 3) uint8 whose rows and columns are changed by matrices (h, H) and (w, W),
    rounded: (h, w, 3) uint8.
    """
    exact = np.einsum("ih,hwc,jw->ijc", rows, pixels.astype(np.float32), columns, optimize=True)
    result: Pixels = np.rint(exact).clip(0, 255).astype(np.uint8)
    return result


def seen(images: Tensor, height: int, width: int, filter: str) -> Tensor:
    """Images (N, C, H, W) at another size, (N, C, height, width), unrounded, differentiable."""
    rows, columns = images.shape[2:]
    if (rows, columns) == (height, width):
        return images
    return by_matrices(images, matrix(filter, rows, height), matrix(filter, columns, width))


def by_matrices(
    images: Tensor, rows: npt.NDArray[np.float32], columns: npt.NDArray[np.float32]
) -> Tensor:
    """Images (N, C, H, W) whose rows and columns are changed by matrices (h, H) and (w, W)."""
    down, across = (torch.from_numpy(each.copy()).to(images) for each in (rows, columns))
    return torch.einsum("ih,nchw,jw->ncij", down, images, across)


@lru_cache(maxsize=64)
def matrix(filter: str, size: int, to: int) -> npt.NDArray[np.float32]:
    """The matrix (to, size) float32 by which a filter scales a line of `size` pixels to `to`
    pixels, not rounded yet.

    An image is scaled by one for its rows and one for its columns. Those of Pillow come from Pillow
    itself, which scales floats.
    """
    if size == to:
        return np.eye(size, dtype=np.float32)
    if filter in PILLOW:
        lines = Image.fromarray(np.eye(size, dtype=np.float32))
        return np.asarray(lines.resize((size, to), PILLOW[filter]))
    # The middle of each pixel of the result, between the middles of two of the image.
    middle = ((np.arange(to) + 0.5) * size / to - 0.5).clip(0, size - 1)
    left = np.floor(middle).astype(int).clip(0, max(0, size - 2))
    weights = np.zeros((to, size), dtype=np.float32)
    weights[np.arange(to), left] = 1.0 - (middle - left)
    weights[np.arange(to), np.minimum(left + 1, size - 1)] += middle - left
    return weights
