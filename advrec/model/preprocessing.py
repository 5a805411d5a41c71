"""An encoder's own preparation of images, as a part of the network: an attack passes through it,
and perturbs the catalog's image.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from advrec.errors import ConfigError
from advrec.model.state_dict import Normaliser

MODES = {"bilinear": "bilinear", "bicubic": "bicubic", "nearest": "nearest-exact"}
"""Interpolations as libraries call them, and as torch does."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Whatever an encoder's library does with an image before the encoder sees it."""

    size: int
    """Height and width of the encoder's input."""
    resize: int
    """Pixels that a square image is scaled to before its centre is cut out."""
    interpolation: str
    """One of `MODES`."""
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def scaled(self, image_size: int) -> int | None:
        """Pixels that images of this size are scaled to; None: they stay as they are, and whole
        where they have the encoder's size.
        """
        return None if image_size in (self.size, self.resize) else self.resize

    def normalising(self, normaliser: Normaliser | None) -> "Preprocessing":
        """The same with the normaliser of a file of weights, where it has one."""
        return self if normaliser is None else dataclasses.replace(self, **normaliser._asdict())


def preprocessing(
    model: str,
    *,
    size: int,
    resize: int,
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> Preprocessing:
    """The preparation that a library describes.

    Raises:
        ConfigError: torch has no such interpolation.
    """
    if interpolation not in MODES:
        raise ConfigError(
            f"{model} scales images by {interpolation}, which is none of {', '.join(MODES)}; "
            "write a module:function of your own"
        )
    return Preprocessing(
        size=size,
        resize=max(size, resize),
        interpolation=interpolation,
        mean=tuple(map(float, mean)),
        std=tuple(map(float, std)),
    )


class Preprocessed(nn.Module):
    """An encoder behind the preparation that it was trained with."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, preparation: Preprocessing, image_size: int) -> None:
        super().__init__()
        self.network = network
        self.scaled = preparation.scaled(image_size)
        self.cut = None if image_size == preparation.size else preparation.size
        self.mode = MODES[preparation.interpolation]
        mean, std = (
            torch.tensor(each).view(1, 3, 1, 1) for each in (preparation.mean, preparation.std)
        )
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (N, D) of images (N, 3, H, W) in [0, 1], of the catalog's size."""
        embeddings: Tensor = self.network((self.prepared(images) - self.mean) / self.std)
        return embeddings

    def prepared(self, images: Tensor) -> Tensor:
        """Images (N, 3, size, size) in [0, 1] of images (N, 3, H, W)."""
        if self.scaled is not None:
            images = self._resampled(images, self.scaled)
        if self.cut is None:
            return images
        first = round(((self.scaled or images.shape[2]) - self.cut) / 2)  # as CenterCrop does
        last = first + self.cut
        return images[:, :, first:last, first:last]

    def _resampled(self, images: Tensor, size: int) -> Tensor:
        """Images (N, 3, size, size), as Pillow scales them, but for the rounding to 8 bits."""
        if self.mode == "nearest-exact":
            return functional.interpolate(images, size=(size, size), mode=self.mode)
        # Pillow scales lines first, then columns, and clamps what overshoots after either.
        for shape in ((images.shape[2], size), (size, size)):
            images = functional.interpolate(images, size=shape, mode=self.mode, antialias=True)
            if self.mode == "bicubic":
                images = _clamped(images)
        return images


def _clamped(images: Tensor) -> Tensor:
    """Images (N, 3, H, W), clamped to [0, 1]; the gradient passes.

    Why: rounding alone decides on which side of 1 a white background comes to lie.
    """
    return images + (images.clamp(0.0, 1.0) - images).detach()
