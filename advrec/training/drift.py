"""Drift as a loss: the way of embeddings from those of the network as it was, without labels."""

import dataclasses
from collections.abc import Callable
from typing import Self

from torch import Tensor

from advrec.attacks.objective import Losses, Objective
from advrec.recommenders.losses import squared_distance

SHORTEST = 0.01
"""Square length of an original embedding, as a share of the batch's mean, below which a loss counts
it as so long.
"""


def squared_drift(embeddings: Tensor, originals: Tensor) -> Tensor:
    """The square of the drift (N,) of embeddings (N, D) from the original ones, as a loss: nearly
    nothing does not count as a length.
    """
    lengths = originals.square().sum(1)
    return squared_distance(embeddings, originals) / lengths.clamp_min(SHORTEST * lengths.mean())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaving(Objective):
    """Minus the squared distance from the original embeddings: an objective to descend. At an image
    itself its gradient is zero while the network is what it was.

    Args:
        embed: images (N, 3, H, W) to raw embeddings (N, D).
        originals: (N, D).
    """

    embed: Callable[[Tensor], Tensor]
    originals: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Return the loss (N,) of images (N, 3, H, W)."""
        return -squared_distance(self.embed(images), self.originals)

    def losses(self, images: Tensor) -> Losses:
        """Return both losses (N,) of images (N, 3, H, W), which are one."""
        loss = self(images)
        return Losses(loss, loss)

    def select(self, rows: Tensor) -> Self:
        """Narrow the objective to the images of `rows` (n,)."""
        return dataclasses.replace(self, originals=self.originals[rows])
