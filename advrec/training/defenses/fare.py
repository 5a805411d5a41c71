"""Unsupervised adversarial fine-tuning, FARE (Schlarmann et al. 2024, arXiv 2402.12336)."""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from advrec.attacks.gradient import PGD
from advrec.attacks.objective import Objective
from advrec.attacks.problem import Problem
from advrec.catalog.dataset import Catalog
from advrec.model.checkpoint import Network
from advrec.training.data import Batch
from advrec.training.defenses.base import Defense, Forward, budgets, uniform_noise
from advrec.training.drift import Leaving, squared_drift
from advrec.training.judges import Drifts, Embed
from advrec.training.schedule import Stage
from advrec.training.workers import Workers


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuning(Defense):
    """Attacked images keep the embeddings that the frozen original gives the clean ones
    (equation 3).

    PGD-k from a random start moves each image so that its embedding leaves the original one. The
    loss is their squared distance. Here it is a share of the original's square length, so that a
    learning rate means the same for every encoder.
    """

    batch_norm: Literal["kept", "updated"]
    trainable: int | Literal["all"]
    keeps_original: ClassVar[bool] = True

    def judge(self, catalog: Catalog, workers: Workers, original: Network | None) -> Drifts:
        """Return the judge of drifts."""
        assert original is not None
        return Drifts(catalog, workers, original, self.attacked)

    def set_mode(self, network: Network) -> None:
        """Bring the network into evaluation mode, all but BatchNorm where that is updated: of
        trained blocks alone, where not all are.
        """
        network.eval()
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                trained = any(weight.requires_grad for weight in module.parameters())
                moves = trained or self.trainable == "all"
                module.train(moves and self.batch_norm == "updated")

    def craft(
        self, network: Network, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield images (N, 3, H, W) as `attacked` makes them, from a random start."""
        assert batch.originals is not None
        noise = uniform_noise(batch.images, generator)
        yield self.attacked(network.embed, batch.images, batch.originals, stage, noise)

    def attacked(
        self,
        embed: Embed,
        images: Tensor,
        originals: Tensor,
        stage: Stage,
        noise: Tensor,
        others: Tensor | None = None,
    ) -> Tensor:
        """Return images (N, 3, H, W), attacked: of FARE so that their embeddings leave the
        original ones (N, D).

        Args:
            noise: (N, 3, H, W) in [-1, 1), in budgets: where the attack begins.
            others: (N, 3, H, W), of another article each, for an attack towards articles.
        """
        objective = self.wish(embed, images, originals, others)
        start = images + stage.epsilon * noise
        problem = Problem(objective, images, budgets(images, stage.epsilon), start)
        return self.pgd(stage)(problem).images

    def wish(
        self, embed: Embed, images: Tensor, originals: Tensor, others: Tensor | None
    ) -> Objective:
        """Return what the attack on images (N, 3, H, W) makes small; see `attacked`."""
        return Leaving(embed=embed, originals=originals)

    def pgd(self, stage: Stage) -> PGD:
        """Return the attack of a stage."""
        return PGD(steps=stage.steps, step_scale=self.recipe.step_scale)

    def loss(self, forward: Forward, batch: Batch, images: Tensor) -> Tensor:
        """Return the mean squared drift () of attacked images (N, 3, H, W)."""
        assert batch.originals is not None
        return squared_drift(forward(images).embeddings, batch.originals).mean()
