"""The result of an attack: images, and what each cost."""

from typing import NamedTuple

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


def spent(images: Tensor, *, gradient_steps: int, forward_passes: int | None = None) -> Attacked:
    """A result in which every image (N, C, H, W) cost the same."""
    forward = gradient_steps if forward_passes is None else forward_passes
    size = (len(images),)
    return Attacked(
        images.detach(),
        torch.full(size, gradient_steps, dtype=torch.int32),
        torch.full(size, forward, dtype=torch.int32),
    )
