"""JPEG as gradients see it: its arithmetic in floats, with a slope for the rounding.

The codec itself is Pillow's, in codecs.py; nothing here is a verdict.
"""

import io
import math
from functools import lru_cache

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from advrec.spec.deliveries import SUBSAMPLING, Step

YCC = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)
"""Red, green and blue to brightness and two colours, (3, 3), as JFIF has it."""
RGB = torch.linalg.inv(YCC)
DCT = torch.tensor(
    [
        [
            math.sqrt((1 if u == 0 else 2) / 8) * math.cos((2 * x + 1) * u * math.pi / 16)
            for x in range(8)
        ]
        for u in range(8)
    ]
)
"""The discrete cosine transform of 8 values, (8, 8), orthonormal."""


def seen(images: Tensor, step: Step) -> Tensor:
    """Images (N, 3, H, W) in [0, 1] after a JPEG, not cut to the box, and differentiable.

    Coefficients are rounded. The slope of rounding z is 3 (z - round(z))^2, that of
    round(z) + (z - round(z))^3 (Shin and Song 2017): none at what is rounded already, and most
    between two levels.
    """
    height, width = images.shape[2:]
    brightness, colour = (table.to(images) for table in tables(int(step.number)))
    across, down = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}[SUBSAMPLING[step.option]]
    even = (0, -width % across, 0, -height % down)
    padded = functional.pad(images * 255.0, even, mode="replicate")
    parts = torch.einsum("ij,njhw->nihw", YCC.to(images), padded)
    light = _quantised(parts[:, :1] - 128.0, brightness) + 128.0
    small = functional.avg_pool2d(parts[:, 1:], (down, across))
    colours = functional.interpolate(
        _quantised(small, colour), size=parts.shape[2:], mode="bilinear", align_corners=False
    )
    whole = torch.einsum("ij,njhw->nihw", RGB.to(images), torch.cat([light, colours], 1))
    return whole[:, :, :height, :width] / 255.0


@lru_cache(maxsize=128)
def tables(quality: int) -> tuple[Tensor, Tensor]:
    """Divisors (8, 8) of the coefficients of brightness and of colours, as Pillow writes them."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer, formats=["JPEG"]) as file:
        written = file.quantization  # type: ignore[attr-defined]
    brightness, colours = (torch.tensor(written[place]).float().view(8, 8) for place in (0, 1))
    return brightness, colours


def _quantised(parts: Tensor, divisors: Tensor) -> Tensor:
    """Parts (N, C, H, W) of images, centred, from coefficients that are rounded."""
    count, channels, height, width = parts.shape
    whole = functional.pad(parts, (0, -width % 8, 0, -height % 8), mode="replicate")
    high, wide = whole.shape[2] // 8, whole.shape[3] // 8
    blocks = whole.view(count, channels, high, 8, wide, 8).transpose(3, 4)
    dct = DCT.to(parts)
    exact = dct @ blocks @ dct.T / divisors
    rounded = exact.detach().round()
    slope = 3.0 * (exact.detach() - rounded).square()
    coefficients = (rounded + slope * (exact - exact.detach())) * divisors
    back = (dct.T @ coefficients @ dct).transpose(3, 4).reshape(whole.shape)
    return back[:, :, :height, :width]
