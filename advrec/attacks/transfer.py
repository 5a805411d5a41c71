"""Objectives of attacks that are made on one network to work on another: several networks at once,
diverse inputs, gradients that a shift of the image hardly changes.
"""

import dataclasses
from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from advrec.attacks.objective import Losses, Objective, score

SHRINK = 0.1
"""Share of its side by which `Diverse` shrinks an image at most."""
REACH = 3.0
"""Standard deviations from the middle of the kernel of `Smooth` to its edge."""


@dataclasses.dataclass(frozen=True)
class Together(Objective):
    """The mean loss of several networks. Their gradients are divided by their mean absolute values
    before they are added, so that none of them outweighs the others.

    Args:
        objectives: the same wish, of each network.
    """

    objectives: tuple[Objective, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Scores (N,) of images (N, C, H, W)."""
        return torch.stack([objective(images) for objective in self.objectives]).mean(0)

    def losses(self, images: Tensor) -> Losses:
        """Both losses (N,) of images (N, C, H, W)."""
        each = [objective.losses(seen(images, self._share)) for objective in self.objectives]
        return Losses(*(torch.stack(several).mean(0) for several in zip(*each, strict=True)))

    def _share(self, gradient: Tensor) -> Tensor:
        """The share (N, C, H, W) that a network's gradient has in the mean."""
        size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
        return gradient / (len(self.objectives) * size.clamp_min(torch.finfo(size.dtype).tiny))

    def surrogate(self) -> Self:
        """The surrogates of all."""
        return type(self)(tuple(objective.surrogate() for objective in self.objectives))

    def select(self, rows: Tensor) -> Self:
        """The loss of some of the images: those at `rows` (n,), int64."""
        return type(self)(tuple(objective.select(rows) for objective in self.objectives))


@dataclasses.dataclass(frozen=True)
class Diverse(Objective):
    """Gradients of images that were shrunk a little and moved, at random (input diversity, Xie et
    al. 2019). Scores are of the images themselves, by a forward pass of their own.

    Args:
        objective: the loss.
        probability: how likely an image is changed, 0..1.
        seeds: (N,) int64, one random stream an image.
        taken: (N,) int64, gradients so far of each image, counted in place: the next one draws
            anew, whoever else is in the batch.
    """

    objective: Objective
    probability: float
    seeds: Tensor
    taken: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Scores (N,) of images (N, C, H, W)."""
        return self.objective(images)

    def losses(self, images: Tensor) -> Losses:
        """Both losses (N,) of images (N, C, H, W)."""
        descended = self.objective.losses(self._changed(images)).descended
        return Losses(descended, score(self.objective, images.detach()))

    def surrogate(self) -> Self:
        """The surrogate of the changed images."""
        return dataclasses.replace(self, objective=self.objective.surrogate())

    def select(self, rows: Tensor) -> Self:
        """The loss of some of the images: those at `rows` (n,), int64."""
        here = rows.cpu()
        return type(self)(
            self.objective.select(rows), self.probability, self.seeds[here], self.taken[here]
        )

    def _changed(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) shrunk by up to SHRINK and put anywhere on black."""
        keys = zip(self.seeds.tolist(), self.taken.tolist(), strict=True)
        drawn = np.stack(
            [np.random.default_rng((seed, 0, taken)).random(4) for seed, taken in keys]
        )
        self.taken.add_(1)
        shrunk, across, down, chosen = torch.from_numpy(drawn).to(images).unbind(1)
        share = 1.0 - SHRINK * shrunk
        # Output coordinates -1..1 to input coordinates; the image keeps within the frame.
        theta = torch.zeros(len(images), 2, 3).to(images)
        theta[:, 0, 0] = theta[:, 1, 1] = 1.0 / share
        for axis, place in enumerate((across, down)):
            theta[:, axis, 2] = (1.0 - share) * (1.0 - 2.0 * place) / share
        grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
        changed = functional.grid_sample(images, grid, align_corners=False)
        return torch.where((chosen < self.probability).view(-1, 1, 1, 1), changed, images)


@dataclasses.dataclass(frozen=True)
class Smooth(Objective):
    """The same loss, whose gradients are convolved with a Gaussian: about those of the image
    shifted by a few pixels (translation-invariant attacks, Dong et al. 2019).

    Args:
        objective: the loss.
        side: of the kernel, in pixels, odd; REACH standard deviations to each side. 1: as it is.
    """

    objective: Objective
    side: int

    def __call__(self, images: Tensor) -> Tensor:
        """Scores (N,) of images (N, C, H, W)."""
        return self.objective(images)

    def losses(self, images: Tensor) -> Losses:
        """Both losses (N,) of images (N, C, H, W)."""
        return self.objective.losses(seen(images, self._smoothed))

    def surrogate(self) -> Self:
        """The surrogate, smoothed alike."""
        return dataclasses.replace(self, objective=self.objective.surrogate())

    def select(self, rows: Tensor) -> Self:
        """The loss of some of the images: those at `rows` (n,), int64."""
        return dataclasses.replace(self, objective=self.objective.select(rows))

    def _smoothed(self, gradient: Tensor) -> Tensor:
        """Gradients (N, C, H, W), each channel convolved."""
        channels, half = gradient.shape[1], self.side // 2
        place = torch.arange(-half, half + 1).to(gradient) * REACH / max(1, half)
        line = torch.exp(-0.5 * place.square())
        kernel = torch.outer(line, line) / line.sum().square()
        each = kernel.expand(channels, 1, -1, -1)
        return functional.conv2d(gradient, each, padding=half, groups=channels)


def seen(images: Tensor, changed: Callable[[Tensor], Tensor]) -> Tensor:
    """The same images (N, C, H, W), whose gradient is changed on its way back."""
    same = images.view_as(images)
    if same.requires_grad:
        same.register_hook(changed)  # type: ignore[no-untyped-call]
    return same
