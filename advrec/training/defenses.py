"""How a defense makes the images that a model trains on. One class a defense; `of` picks it by the study's entry."""

import dataclasses
from typing import Protocol, assert_never

import torch
from torch import Tensor

from advrec.attacks.gradient import PGD, mixed_pgd
from advrec.attacks.objective import Misclassification
from advrec.attacks.problem import Problem
from advrec.config import AdversarialTraining, CurriculumAdversarialTraining, NoDefense, TrainedModel
from advrec.model.fashionnet import FashionNet
from advrec.training.curriculum import Curriculum, Fixed, Schedule
from advrec.training.data import Batch


class Defense(Protocol):
    @property
    def adversarial(self) -> bool:
        """Whether `craft` attacks, so that it needs a frozen copy of the network as it now is."""

    @property
    def epsilon(self) -> float:
        """The budget trained against."""

    def schedule(self) -> Schedule:
        """A new state machine for one training."""

    def craft(self, network: FashionNet, batch: Batch, steps: int, generator: torch.Generator) -> Tensor:
        """Images to train on, against a frozen copy of the network as it now is; `steps` is the schedule's k."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clean:
    epochs: int
    adversarial: bool = False
    epsilon: float = 0.0

    def schedule(self) -> Schedule:
        return Fixed(epochs=self.epochs, attack_steps=0)

    def craft(self, network: FashionNet, batch: Batch, steps: int, generator: torch.Generator) -> Tensor:
        return batch.images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adversarial:
    """Adversarial training (Madry et al. 2018): every image is attacked by PGD-k from a random start, steps of 2.5 epsilon / k."""

    epochs: int
    epsilon: float
    steps: int
    adversarial: bool = True

    def schedule(self) -> Schedule:
        return Fixed(epochs=self.epochs, attack_steps=self.steps)

    def craft(self, network: FashionNet, batch: Batch, steps: int, generator: torch.Generator) -> Tensor:
        noise = torch.rand(batch.images.shape, generator=generator).to(batch.images) * 2.0 - 1.0
        attack = PGD(steps=steps, step_scale=2.5)
        return attack(_problem(network, batch, self.epsilon, start=batch.images + self.epsilon * noise)).images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixed:
    """Batch mixing of curriculum adversarial training (Cai et al. 2018): equal shares of the batch are attacked by the study's
    PGD-0, PGD-1, ... PGD-k; what does not divide goes to the largest."""

    epochs: int
    epsilon: float
    max_steps: int
    patience: int
    adversarial: bool = True

    def schedule(self) -> Schedule:
        return Curriculum(max_steps=self.max_steps, patience=self.patience, epochs=self.epochs)

    def craft(self, network: FashionNet, batch: Batch, steps: int, generator: torch.Generator) -> Tensor:
        return mixed_pgd(_problem(network, batch, self.epsilon), shares(len(batch.images), steps))


def shares(images: int, steps: int) -> list[int]:
    """The k of each image of a batch: equal shares of steps, steps - 1, ..., 0, falling."""
    share = images // (steps + 1)
    smaller = [k for k in range(steps - 1, -1, -1) for _ in range(share)]
    return [steps] * (images - len(smaller)) + smaller


def of(spec: TrainedModel) -> Defense:
    match spec:
        case NoDefense():
            return Clean(epochs=spec.epochs)
        case AdversarialTraining():
            return Adversarial(epochs=spec.epochs, epsilon=spec.epsilon, steps=spec.steps)
        case CurriculumAdversarialTraining():
            return Mixed(epochs=spec.epochs, epsilon=spec.epsilon, max_steps=spec.max_steps, patience=spec.patience)
        case _:
            assert_never(spec)


def _problem(network: FashionNet, batch: Batch, epsilon: float, start: Tensor | None = None) -> Problem:
    budgets = torch.full((len(batch.images),), epsilon, dtype=torch.float64, device=batch.images.device)
    return Problem(Misclassification(network, batch.categories, batch.textures), batch.images, budgets, start)
