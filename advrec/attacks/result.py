"""The result of an attack: images, and what each cost."""

from typing import NamedTuple, Self

import torch
from torch import Tensor


class Attacked(NamedTuple):
    images: Tensor
    """(N, C, H, W) float32; what the attack claims, which the harness does not believe"""
    gradient_steps: Tensor
    """(N,) int32: forward + backward passes spent on each image"""
    forward_passes: Tensor
    """(N,) int32: all forward passes; a gradient step counts here too"""
    winners: tuple[str, ...] = ()
    """Which member of an ensemble made each image; empty where there is only one attack"""


class Smallest(NamedTuple):
    """The smallest budgets of N images."""

    images: Tensor
    """(N, C, H, W), within the smallest solved budget; the clean image where none was solved"""
    low: Tensor
    """(N,) float64, the largest budget below the smallest solved one that was tried in vain"""
    high: Tensor
    """(N,) float64, the smallest solved budget; infinite where none was"""


class Reached(NamedTuple):
    """The result of an attack on N images at all of E budgets at once."""

    images: Tensor
    """(E, N, C, H, W) float32, each within its budget"""
    gradient_steps: Tensor
    """(E, N) int32"""
    forward_passes: Tensor
    """(E, N) int32"""
    winners: tuple[tuple[str, ...], ...] | None = None
    """E times N names; None where there is only one attack"""
    inherited: Tensor | None = None
    """(E, N) bool, not attacked: a smaller budget had solved it; None: no image"""
    projected: Tensor | None = None
    """(E, N) bool, not attacked: hopeless at the larger budget; None: not known"""
    smallest: Smallest | None = None
    """None: the attack does not search them."""

    @classmethod
    def unchanged(cls, images: Tensor, budgets: int) -> Self:
        """The images (N, C, H, W) themselves at all budgets, for nothing."""
        steps, passes = torch.zeros(2, budgets, len(images), dtype=torch.int32)
        return cls(images.expand(budgets, *images.shape), steps, passes)


def spent(images: Tensor, *, gradient_steps: int, forward_passes: int | None = None) -> Attacked:
    """A result in which every image (N, C, H, W) cost the same."""
    forward = gradient_steps if forward_passes is None else forward_passes
    size = (len(images),)
    return Attacked(
        images.detach(),
        torch.full(size, gradient_steps, dtype=torch.int32),
        torch.full(size, forward, dtype=torch.int32),
    )
