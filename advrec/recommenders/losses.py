"""Losses of an adversary against a recommender: one value an image, the smaller the better for the
adversary.
"""

import dataclasses
from collections.abc import Callable
from typing import Self

from torch import Tensor
from torch.nn import functional

from advrec.attacks.objective import Losses, Objective


def cosine_distance(embeddings: Tensor, targets: Tensor) -> Tensor:
    """1 - cos of each pair of rows, (N, D) and (N, D) to (N,), 0..2."""
    return 1.0 - functional.cosine_similarity(embeddings, targets, dim=1)


def squared_distance(embeddings: Tensor, targets: Tensor) -> Tensor:
    """Squared Euclidean distance of each pair of rows as they are, (N, D) and (N, D) to (N,)."""
    return (embeddings - targets).square().sum(1)


@dataclasses.dataclass(frozen=True)
class CosineDistance(Objective):
    """1 - cos(F(x), F(T)): item-to-item, the distance that the recommender ranks by.

    Args:
        embed: images (N, C, H, W) to raw embeddings (N, D).
        targets: raw embeddings of the target articles, (N, D).
        descended: of embeddings and targets, what gradients are taken of; images are judged by the
            cosine distance all the same.
    """

    embed: Callable[[Tensor], Tensor]
    targets: Tensor
    descended: Callable[[Tensor, Tensor], Tensor] = cosine_distance

    def __call__(self, images: Tensor) -> Tensor:
        """Scores (N,) of images (N, C, H, W)."""
        return cosine_distance(self.embed(images), self.targets)

    def losses(self, images: Tensor) -> Losses:
        """Both losses (N,) of images (N, C, H, W)."""
        embeddings = self.embed(images)
        distance = cosine_distance(embeddings, self.targets)
        same = self.descended is cosine_distance
        return Losses(distance if same else self.descended(embeddings, self.targets), distance)

    def surrogate(self) -> Self:
        """The same goal by gradients of the squared distance of the raw embeddings. They act on an
        embedding's length too, to which the cosine is blind.
        """
        return dataclasses.replace(self, descended=squared_distance)

    def select(self, rows: Tensor) -> Self:
        """The loss of some of the images: those at `rows` (n,), int64."""
        return dataclasses.replace(self, targets=self.targets[rows])
