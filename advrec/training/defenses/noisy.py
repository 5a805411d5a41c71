"""N-FGSM (de Jorge et al. 2022)."""

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from advrec.attacks.objective import evaluate
from advrec.model.fashionnet import FashionNet
from advrec.training.data import Batch
from advrec.training.defenses.base import VALIDATED, Defense, misclassification, uniform_noise
from advrec.training.schedule import Stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisyStep(Defense):
    """Noise larger than the budget, then one step of the budget's size, not projected
    (algorithm 1).
    """

    noise: float
    """Size of the noise, in epsilons."""
    steps: int = VALIDATED

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield images (N, 3, H, W) after noise and one step."""
        size = self.noise * stage.epsilon
        noisy = (batch.images + size * uniform_noise(batch.images, generator)).clamp_(0.0, 1.0)
        gradient = evaluate(misclassification(network, batch), noisy).gradient
        yield torch.add(noisy, gradient.sign_(), alpha=-stage.epsilon).clamp_(0.0, 1.0)
