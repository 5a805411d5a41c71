"""TRADES (Zhang et al. 2019)."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from advrec.attacks.gradient import PGD
from advrec.attacks.objective import Losses, Objective
from advrec.model.fashionnet import FashionNet, Logits
from advrec.training.data import Batch
from advrec.training.defenses.base import Defense, Forward, halves, problem_of
from advrec.training.schedule import Stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class TradeOff(Defense):
    """The loss of clean images, and beta times the divergence of the predictions for images that
    are attacked to make it large (equation 5).

    The attack begins at normal noise of deviation 0.001, as the authors' does. Both halves take one
    forward pass together, and share its batch statistics, where the authors take two.
    """

    beta: float

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield images (N, 3, H, W) whose predictions differ much from the clean ones."""
        with torch.inference_mode():
            clean = network(batch.images)
        normal = torch.randn(batch.images.shape, generator=generator).to(batch.images)
        attack = PGD(steps=stage.steps, step_scale=self.recipe.step_scale)
        # Cloned, for no gradient passes what was made in inference mode.
        cloned = Logits(*(None if each is None else each.clone() for each in clean))
        objective = Divergence(classify=network, clean=cloned)
        start = batch.images + 0.001 * normal
        yield attack(problem_of(objective, batch, stage.epsilon, start)).images

    def loss(self, forward: Forward, batch: Batch, images: Tensor) -> Tensor:
        """Return the mean loss () of clean and of crafted images (N, 3, H, W) together."""
        clean, attacked = halves(forward(torch.cat([batch.images, images])).logits)
        disagreement = divergence(clean, attacked, self.recipe.texture_weight(batch)).mean()
        return self.recipe.loss(clean, batch) + self.beta * disagreement


@dataclasses.dataclass(frozen=True, kw_only=True)
class Divergence(Objective):
    """Minus the divergence of attacked from clean predictions: an objective to descend."""

    classify: Callable[[Tensor], Logits]
    clean: Logits

    def __call__(self, images: Tensor) -> Tensor:
        """Return the loss (N,) of images (N, 3, H, W)."""
        return -divergence(self.clean, self.classify(images))

    def losses(self, images: Tensor) -> Losses:
        """Return both losses (N,) of images (N, 3, H, W), which are one."""
        loss = self(images)
        return Losses(loss, loss)

    def select(self, rows: Tensor) -> Self:
        """Narrow the objective to the images of `rows` (n,)."""
        clean = Logits(*(None if each is None else each[rows] for each in self.clean))
        return dataclasses.replace(self, clean=clean)


def divergence(clean: Logits, attacked: Logits, texture_weight: float = 1.0) -> Tensor:
    """Return the Kullback-Leibler divergence (N,) of attacked from clean predictions: of the
    category, and `texture_weight` times the mean over textures, of the heads that there are.
    """
    total: Tensor | None = None
    if clean.category is not None and attacked.category is not None:
        clean_log, attacked_log = clean.category.log_softmax(1), attacked.category.log_softmax(1)
        each = functional.kl_div(attacked_log, clean_log, reduction="none", log_target=True)
        total = each.sum(1)
    if clean.texture is None or attacked.texture is None:
        assert total is not None, "a network has a head"
        return total
    entropy = functional.binary_cross_entropy_with_logits
    probabilities = clean.texture.sigmoid()
    cross = entropy(attacked.texture, probabilities, reduction="none")
    own = entropy(clean.texture, probabilities, reduction="none")
    textures = texture_weight * (cross - own).mean(1)
    return textures if total is None else total + textures
