"""Adversarial training (Madry et al. 2018)."""

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from advrec.attacks.gradient import PGD
from advrec.model.fashionnet import FashionNet
from advrec.training.data import Batch
from advrec.training.defenses.base import Defense, misclassification, problem_of
from advrec.training.schedule import Stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adversarial(Defense):
    """Every image is attacked by PGD-k, within a budget that grows in the first part of the
    training.
    """

    ramp: float
    """Share of the training in which the budget grows."""

    def share_of_budget(self, step: int, steps: int | None) -> float:
        """Return the share of the budget, 0..1, which grows in equal parts from step to step."""
        if not self.ramp:
            return 1.0
        assert steps is not None, "only a curriculum's are not known"
        return min((step + 1) / (self.ramp * steps), 1.0)

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield images (N, 3, H, W) attacked by PGD-k."""
        attack = PGD(steps=stage.steps, step_scale=self.recipe.step_scale)
        start = self.start(batch.images, stage.epsilon, generator)
        objective = misclassification(network, batch)
        yield attack(problem_of(objective, batch, stage.epsilon, start)).images
