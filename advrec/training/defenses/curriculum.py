"""Curriculum adversarial training (Cai et al. 2018)."""

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from advrec.attacks.gradient import PGD, mixed_pgd
from advrec.attacks.problem import Problem
from advrec.model.fashionnet import FashionNet
from advrec.training.data import Batch
from advrec.training.defenses.base import Defense, misclassification, problem_of
from advrec.training.schedule import Curriculum, Stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurriculumTraining(Defense):
    """Attacks become stronger from stage to stage.

    With batch mixing, equal shares of the batch are attacked by PGD-0, PGD-1, ... PGD-k; what does
    not divide goes to the largest.
    """

    ks: tuple[int, ...]
    patience: int
    mixing: bool
    ramp: bool

    def schedule(self) -> Curriculum:
        """Make a new state machine for one training."""
        stages = len(self.ks)
        epsilons = tuple(
            self.epsilon * (number + 1) / stages if self.ramp else self.epsilon
            for number in range(stages)
        )
        return Curriculum(ks=self.ks, epsilons=epsilons, patience=self.patience, epochs=self.epochs)

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield images (N, 3, H, W), each attacked by PGD of its share's k."""
        count = len(batch.images)
        everyone = count * stage.world
        whole = shares(everyone, stage.steps) if self.mixing else [stage.steps] * everyone
        ks = whole[stage.rank :: stage.world][:count]
        start = self.start(batch.images, stage.epsilon, generator)
        problem = problem_of(misclassification(network, batch), batch, stage.epsilon, start)
        if self.recipe.attacks_in_training_mode:
            yield _share_by_share(problem, ks, self.recipe.step_scale)
        else:
            yield mixed_pgd(problem, ks, self.recipe.step_scale)


def shares(images: int, steps: int) -> list[int]:
    """Return the k of each image of a batch: equal shares of steps, steps - 1, ..., 0, falling."""
    share = images // (steps + 1)
    smaller = [k for k in range(steps - 1, -1, -1) for _ in range(share)]
    return [steps] * (images - len(smaller)) + smaller


def _share_by_share(problem: Problem, ks: list[int], step_scale: float) -> Tensor:
    """Attack each share of the batch alone, as the study did; images (N, 3, H, W).

    In training mode an image's gradient depends on the batch that it is in.

    Args:
        ks: falling.
    """
    images = problem.images
    parts = []
    for k in sorted(set(ks), reverse=True):
        places = [place for place, own in enumerate(ks) if own == k]
        rows = torch.tensor(places, device=images.device)
        # BatchNorm refuses a single image where its maps have one place; twice the same has its
        # statistics.
        doubled = rows.repeat(2) if len(rows) == 1 else rows
        attack = PGD(steps=k, step_scale=step_scale)
        parts.append(attack(problem.select(doubled)).images[: len(rows)] if k else images[rows])
    return torch.cat(parts)
