"""Friendly adversarial training (Zhang et al. 2020)."""

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from advrec.attacks.gradient import signed_step
from advrec.model.fashionnet import FashionNet
from advrec.training.data import Batch
from advrec.training.defenses.base import Defense, misclassification, problem_of
from advrec.training.schedule import Stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Friendly(Defense):
    """PGD that leaves an image `tau` steps after it is misclassified (algorithm 1).

    The authors let tau grow while they train; here it stays.
    """

    tau: int

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield images (N, 3, H, W), each attacked until it is misclassified."""
        start = self.start(batch.images, stage.epsilon, generator)
        objective = misclassification(network, batch)
        problem = problem_of(objective, batch, stage.epsilon, start)
        current = batch.images.clone() if start is None else problem.ball.project(start)
        left = torch.full((len(current),), self.tau, device=current.device)
        rows = torch.arange(len(current), device=current.device)
        for _ in range(stage.steps):
            images = current[rows].requires_grad_(True)
            logits = network(images)
            (gradient,) = torch.autograd.grad(objective.select(rows).of(logits).sum(), images)
            assert logits.category is not None, "the study wants a category head of it"
            wrong = logits.category.argmax(1) != batch.categories[rows]
            going = ~wrong | (left[rows] > 0)
            left[rows[wrong]] -= 1
            rows, gradient = rows[going], gradient[going]
            if not len(rows):
                break
            length = problem.epsilon[rows] * self.recipe.step_scale / stage.steps
            current[rows] = signed_step(problem.ball.select(rows), current[rows], gradient, length)
        yield current
