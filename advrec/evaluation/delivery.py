"""Deliveries: a shop stores an image with 8 bits a value, usually as JPEG, before it embeds it."""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from advrec.model.encoder import to_images

RoundTrip = Callable[[Tensor], Tensor]


def round_trip(delivery: str) -> RoundTrip:
    """The function that gives images (N, 3, H, W) in [0, 1] back as a shop stores them.

    `png` is lossless with 8 bits; `jpeg-Q` is Pillow's encoder at quality Q, with its chroma
    subsampling. Rounding to 8 bits can leave a budget by up to 1/510; JPEG by more.
    """
    if delivery == "png":
        return lambda images: (images * 255.0).round_().div_(255.0)
    quality = int(delivery.removeprefix("jpeg-"))
    return lambda images: _jpeg(images, quality)


def _jpeg(images: Tensor, quality: int) -> Tensor:
    pixels = (images * 255.0).round_().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return to_images(np.stack([_through_jpeg(image, quality) for image in pixels]), images.device)


def _through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image)
