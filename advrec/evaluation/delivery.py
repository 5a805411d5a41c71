"""Deliveries: a shop stores an image with 8 bits a value, often compressed, before it embeds it."""

from collections.abc import Callable

import torch
from torch import Tensor

from advrec.evaluation import codecs
from advrec.model.encoder import to_images

RoundTrip = Callable[[Tensor], Tensor]


def eight_bits(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) in [0, 1], each value at the nearest of 256 levels."""
    return (images * 255.0).round_().div_(255.0)


def round_trip(delivery: str) -> RoundTrip:
    """The function that gives images (N, 3, H, W) in [0, 1] back as a shop stores them.

    `png` is lossless with 8 bits. `jpeg-Q`, `webp-Q` and `avif-Q` are Pillow's encoders at quality
    Q, which store colours at half the resolution; `jpeg-Q-444` stores them at the full one.
    An image whose changes are whole levels at most stays within them in 8 bits; what a codec does
    then is the shop's change.

    Raises:
        ConfigError: this Pillow lacks the codec.
    """
    if delivery == "png":
        return eight_bits
    codec = codecs.codec(delivery)

    def stored(images: Tensor) -> Tensor:
        """Images (N, 3, H, W) as they come back."""
        pixels = (images * 255.0).round_().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return to_images(codecs.stored(pixels, codec), images.device)

    return stored
