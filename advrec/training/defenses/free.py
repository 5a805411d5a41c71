"""Free adversarial training (Shafahi et al. 2019)."""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from advrec.attacks import budget
from advrec.attacks.gradient import signed_step
from advrec.model.fashionnet import FashionNet
from advrec.training.data import Batch
from advrec.training.defenses.base import VALIDATED, Defense, budgets
from advrec.training.schedule import Stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Free(Defense):
    """Each batch is trained on several times, and one backward pass gives the gradient of the
    weights and of the images both (algorithm 1).

    The perturbation goes on from batch to batch there; here it begins afresh.
    """

    replays: int
    steps: int = VALIDATED
    attacks: ClassVar[bool] = False

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield images (N, 3, H, W) that ask for their gradient, once for each replay."""
        length = budgets(batch.images, stage.epsilon)
        ball = budget.ball(batch.images, length)
        current = batch.images
        for number in range(self.replays):
            current = current.detach().clone().requires_grad_(True)
            yield current
            if number == self.replays - 1:
                return
            assert current.grad is not None
            with torch.no_grad():
                # The loss is to grow, and signed_step goes down.
                current = signed_step(ball, current, -current.grad, length)
