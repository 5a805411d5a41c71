"""The objective of an attack: one loss an image, to be minimised. An attack sees nothing of the
network behind it.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional

from advrec.delivery.chain import straight_through


class Losses(NamedTuple):
    """Two losses of each image from one forward pass, (N,) each; most objectives give the same
    twice.
    """

    descended: Tensor
    """Gradients are taken of this one."""
    score: Tensor
    """An image is judged by this one: the best iterate is the one of the lowest score."""


class Evaluated(NamedTuple):
    loss: Tensor
    """(N,), detached: what is descended"""
    score: Tensor
    """(N,), detached: what an image is judged by"""
    gradient: Tensor
    """(N, C, H, W), of each image's own loss"""


class Objective(Protocol):
    """One loss an image, to be minimised."""

    def __call__(self, images: Tensor) -> Tensor:
        """Scores (N,) of images (N, C, H, W) in [0, 1]."""

    def losses(self, images: Tensor) -> Losses:
        """Both losses (N,) of images (N, C, H, W), differentiable in the images."""

    def surrogate(self) -> Self:
        """The same goal, judged by the same score, by gradients of another loss.

        Raises:
            TypeError: there is none; an objective that has one overrides this.
        """
        raise TypeError("the squared distance is one of embeddings; this objective has none")

    def select(self, rows: Tensor) -> Self:
        """The objective of some of the images: those at `rows` (n,), int64."""


def evaluate(objective: Objective, images: Tensor) -> Evaluated:
    """Losses (N,) and gradient (N, C, H, W) with respect to the images alone: one forward and one
    backward pass, no weight gradients.
    """
    images = images.detach().requires_grad_(True)
    losses = objective.losses(images)
    # An image's loss depends on no other image, so the gradient of the sum is that of each.
    (gradient,) = torch.autograd.grad(losses.descended.sum(), images)
    return Evaluated(losses.descended.detach(), losses.score.detach(), gradient)


@torch.no_grad()
def score(objective: Objective, images: Tensor) -> Tensor:
    """Scores (N,) alone: one forward pass."""
    return objective(images)


def identity(images: Tensor) -> Tensor:
    """Images (N, C, H, W) as they are."""
    return images


@dataclasses.dataclass(frozen=True)
class Delivered(Objective):
    """The same loss of images as a shop stores them: the delivery itself forward, `slope` backward
    (straight-through, Bengio et al. 2013; BPDA, Athalye et al. 2018). An attack on it sees the
    delivery and knows nothing of it.

    Args:
        objective: of the images that arrive.
        deliver: images (N, C, H, W) in [0, 1] to what arrives, each by itself.
        slope: the same shapes, differentiable: what gradients see in its place.
    """

    objective: Objective
    deliver: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor] = identity

    def __call__(self, images: Tensor) -> Tensor:
        """Scores (N,) of images (N, C, H, W)."""
        return self.objective(self._arrived(images))

    def losses(self, images: Tensor) -> Losses:
        """Both losses (N,) of images (N, C, H, W)."""
        return self.objective.losses(self._arrived(images))

    def surrogate(self) -> Self:
        """The surrogate of the images that arrive."""
        return dataclasses.replace(self, objective=self.objective.surrogate())

    def select(self, rows: Tensor) -> Self:
        """The loss of some of the images: those at `rows` (n,), int64."""
        return dataclasses.replace(self, objective=self.objective.select(rows))

    def _arrived(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) as they arrive, with the gradient of the slope."""
        return straight_through(images, self.deliver, self.slope)


def classification_loss(
    category_logits: Tensor | None,
    texture_logits: Tensor | None,
    categories: Tensor,
    textures: Tensor | None,
    texture_weight: float = 1.0,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Loss (N,) of both heads against the correct labels: cross entropy of the category plus
    `texture_weight` times the mean over all textures of binary cross entropy. An image without
    texture labels (a row of zeros) has no texture loss.

    Args:
        category_logits: (N, K), or None without a category head.
        texture_logits: (N, M), or None without a texture head.
        categories: (N,) int64.
        textures: (N, M) float, 0 or 1.
        texture_weight: 1 in the study, where textures were about 3 % of the loss.
        label_smoothing: of the categories, 0..1.
    """
    loss = torch.zeros(len(categories), device=categories.device)
    if category_logits is not None:
        loss = functional.cross_entropy(
            category_logits, categories, reduction="none", label_smoothing=label_smoothing
        )
    if texture_logits is not None and textures is not None:
        binary = functional.binary_cross_entropy_with_logits(
            texture_logits, textures, reduction="none"
        ).mean(1)
        loss = loss + texture_weight * binary * (textures.sum(1) > 0)
    return loss


@dataclasses.dataclass(frozen=True)
class Misclassification(Objective):
    """The negative classification loss of both heads: what adversarial training defends against
    (Madry et al. 2018).

    Args:
        classify: images (N, C, H, W) to (category logits, texture logits), each None without such
            a head.
        categories: correct categories (N,).
        textures: correct textures (N, M), or None.
    """

    classify: Callable[[Tensor], tuple[Tensor | None, Tensor | None]]
    categories: Tensor
    textures: Tensor | None

    def __call__(self, images: Tensor) -> Tensor:
        return self.of(self.classify(images))

    def of(self, logits: tuple[Tensor | None, Tensor | None]) -> Tensor:
        """Scores (N,) of images whose logits are known."""
        return -classification_loss(*logits, self.categories, self.textures)

    def losses(self, images: Tensor) -> Losses:
        """The loss (N,) of images (N, C, H, W), which is the score too."""
        loss = self(images)
        return Losses(loss, loss)

    def select(self, rows: Tensor) -> Self:
        """The loss of some of the images: those at `rows` (n,), int64."""
        textures = None if self.textures is None else self.textures[rows]
        return dataclasses.replace(self, categories=self.categories[rows], textures=textures)
