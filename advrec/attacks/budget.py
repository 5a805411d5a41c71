"""The threat model: an l-infinity ball around the clean image, inside the pixel box [0, 1]. Nothing
else knows about it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from advrec.spec.budgets import LEVELS, ROUNDING


class Ball(NamedTuple):
    """The images within a budget of the clean ones, as bounds of each pixel. In float32 the budget
    is kept to the last bit.
    """

    lower: Tensor
    upper: Tensor

    def project(self, images: Tensor) -> Tensor:
        """The nearest images inside the ball and the box, (N, C, H, W)."""
        return torch.clamp(images, self.lower, self.upper)

    def select(self, rows: Tensor | slice) -> "Ball":
        """The bounds of some of the images: those at `rows` (n,)."""
        return Ball(self.lower[rows], self.upper[rows])


def ball(clean: Tensor, epsilon: Tensor) -> Ball:
    """The ball of `epsilon` (N,), 0..1, float64, around the images `clean` (N, C, H, W), float32,
    [0, 1].
    """
    centre = clean.double()
    radius = epsilon.double().view(-1, 1, 1, 1)
    lower = (centre - radius).float()
    upper = (centre + radius).float()
    # Rounding to float32 can leave the ball by half a unit in the last place: step back inside.
    lower = torch.where(centre - lower.double() > radius, torch.nextafter(lower, clean), lower)
    upper = torch.where(upper.double() - centre > radius, torch.nextafter(upper, clean), upper)
    return Ball(lower.clamp_min(0.0), upper.clamp_max(1.0))


def in_levels(epsilon: Tensor) -> Tensor:
    """Budgets (N,) or (E, N), 0..1, cut to the whole levels that an image of 8 bits may change by;
    float64.
    """
    return torch.floor(epsilon.double() * LEVELS + ROUNDING) / LEVELS


def linf(clean: Tensor, images: Tensor) -> Tensor:
    """Largest change of a pixel of each image, (N,), float64."""
    return (images.double() - clean.double()).abs().flatten(1).amax(1)


def l2(clean: Tensor, images: Tensor) -> Tensor:
    """Euclidean length of each image's perturbation, (N,), float64."""
    return (images.double() - clean.double()).square().flatten(1).sum(1).sqrt()
