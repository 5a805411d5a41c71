"""Lagrangian-optimised robust embeddings, LORE (Khodabandeh et al. 2025, arXiv 2505.18884)."""

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from advrec.catalog.dataset import Catalog
from advrec.model.checkpoint import Network
from advrec.training.data import Batch
from advrec.training.defenses import fare
from advrec.training.defenses.base import Forward
from advrec.training.drift import squared_drift
from advrec.training.judges import Drifts
from advrec.training.workers import Workers

FIRST = 0.3
"""The multiplier of every image before the first step."""


class Multipliers(nn.Module):
    """A multiplier of each image, softplus of a linear function of its original embedding: images
    that are alike learn theirs together (section 4.2).
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dimension, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, float(torch.tensor(FIRST).expm1().log()))

    def forward(self, originals: Tensor) -> Tensor:
        """Return the multipliers (N,), 0 or more, for original embeddings (N, D)."""
        directions = functional.normalize(originals.float(), dim=1)
        # Adam moves all weights at once: so much that together they count as one.
        scores = self.linear(directions / originals.shape[1] ** 0.5)
        return functional.softplus(scores[:, 0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class LagrangianFineTuning(fare.FineTuning):
    """Fine-tuning under the constraint that no clean image drifts by more than rho.

    The Lagrangian adds to the loss each image's multiplier times how far its squared drift exceeds
    rho squared, in shares of it. The weights descend it and the multipliers ascend it, both at
    every step.
    """

    rho: float
    rate_beside: ClassVar[float] = 0.05

    def judge(self, catalog: Catalog, workers: Workers, original: Network | None) -> Drifts:
        """Return the judge of drifts, which says how many images exceed rho."""
        assert original is not None
        return Drifts(catalog, workers, original, self.attacked, self.rho)

    def beside(self, dimension: int) -> nn.Module:
        """Return the multipliers."""
        return Multipliers(dimension)

    def loss(self, forward: Forward, batch: Batch, images: Tensor) -> Tensor:
        """Return the Lagrangian () of clean and of attacked images (N, 3, H, W) together.

        Its last part has the value 0, and the gradient by which the multipliers ascend.
        """
        assert batch.originals is not None
        outputs = forward(torch.cat([batch.images, images]), batch.originals)
        clean, attacked = outputs.embeddings.chunk(2)
        excess = squared_drift(clean, batch.originals) / self.rho**2 - 1.0
        multipliers: Tensor = outputs.beside
        ascent = (multipliers.detach() - multipliers) * excess.detach()
        each = squared_drift(attacked, batch.originals) + multipliers.detach() * excess + ascent
        return each.mean()
