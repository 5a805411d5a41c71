"""What an attack minimises: one loss an image. An attack sees nothing of the network behind it."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional


class Evaluated(NamedTuple):
    loss: Tensor
    """(N,), detached"""
    gradient: Tensor
    """(N, C, H, W), of each image's own loss"""


class Objective(Protocol):
    """One loss an image, to be minimised."""

    def __call__(self, images: Tensor) -> Tensor:
        """Losses (N,) of images (N, C, H, W) in [0, 1], differentiable in the images."""

    def select(self, rows: Tensor) -> Self:
        """The objective of some of the images: those at `rows` (n,), int64."""


def evaluate(objective: Callable[[Tensor], Tensor], images: Tensor) -> Evaluated:
    """Loss and gradient with respect to the images alone: one forward and one backward pass, no weight gradients."""
    images = images.detach().requires_grad_(True)
    loss = objective(images)
    # An image's loss depends on no other image, so the gradient of the sum is that of each.
    (gradient,) = torch.autograd.grad(loss.sum(), images)
    return Evaluated(loss.detach(), gradient)


@dataclasses.dataclass(frozen=True)
class CosineDistance:
    """1 - cos(F(x), F(T)): item-to-item, the distance that the recommender ranks by.

    Args:
        embed: images (N, C, H, W) to raw embeddings (N, D).
        targets: raw embeddings of the target articles, (N, D).
    """

    embed: Callable[[Tensor], Tensor]
    targets: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        return 1.0 - functional.cosine_similarity(self.embed(images), self.targets, dim=1)

    def select(self, rows: Tensor) -> Self:
        return dataclasses.replace(self, targets=self.targets[rows])


def classification_loss(
    category_logits: Tensor,
    texture_logits: Tensor | None,
    categories: Tensor,
    textures: Tensor | None,
    texture_weight: float = 1.0,
) -> Tensor:
    """Loss (N,) of both heads against the correct labels: cross entropy of the category plus `texture_weight` times the mean over
    all textures of binary cross entropy. An image without texture labels (a row of zeros) has no texture loss.

    Args:
        category_logits: (N, K).
        texture_logits: (N, M), or None without a texture head.
        categories: (N,) int64.
        textures: (N, M) float, 0 or 1.
        texture_weight: 1 in the study, where textures were about 3 % of the loss.
    """
    loss = functional.cross_entropy(category_logits, categories, reduction="none")
    if texture_logits is not None and textures is not None:
        binary = functional.binary_cross_entropy_with_logits(texture_logits, textures, reduction="none").mean(1)
        loss = loss + texture_weight * binary * (textures.sum(1) > 0)
    return loss


@dataclasses.dataclass(frozen=True)
class Misclassification:
    """The negative classification loss of both heads: what adversarial training defends against (Madry et al. 2018).

    Args:
        classify: images (N, C, H, W) to (category logits, texture logits or None).
        categories: correct categories (N,).
        textures: correct textures (N, M), or None.
    """

    classify: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    categories: Tensor
    textures: Tensor | None

    def __call__(self, images: Tensor) -> Tensor:
        return -classification_loss(*self.classify(images), self.categories, self.textures)

    def select(self, rows: Tensor) -> Self:
        textures = None if self.textures is None else self.textures[rows]
        return dataclasses.replace(self, categories=self.categories[rows], textures=textures)
