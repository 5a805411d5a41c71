"""What a defense is: it makes the images that a model trains on, and says what it asks of the model
on them.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from advrec.attacks.objective import Misclassification, Objective
from advrec.attacks.problem import Problem
from advrec.model.fashionnet import FashionNet, Logits
from advrec.training.curriculum import Schedule
from advrec.training.data import Batch


class Stage(NamedTuple):
    """What training defends against at the moment."""

    steps: int
    """k"""
    epsilon: float
    rank: int = 0
    """Of this worker, whose batch is every world-th image of the whole one."""
    world: int = 1


class Outputs(NamedTuple):
    """Of the network in training, from one forward pass."""

    logits: Logits
    embeddings: Tensor
    """(N, D), raw"""


Forward = Callable[[Tensor], Outputs]


class Defense(Protocol):
    @property
    def attacks(self) -> bool:
        """Whether `craft` needs a network to attack, as it now is."""

    @property
    def steps_a_batch(self) -> int:
        """Optimizer's steps, and as many images that `craft` yields."""

    def schedule(self) -> Schedule:
        """A new state machine for one training."""

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Images (N, 3, H, W) to train on, against the network as it now is. What is yielded may
        ask for its gradient, and has it when the generator goes on: the optimizer has then taken
        its step.
        """

    def loss(self, forward: Forward, batch: Batch, images: Tensor) -> Tensor:
        """Mean loss of the crafted images. Calls `forward` once, as DistributedDataParallel wants
        it.
        """


def misclassification(network: FashionNet, batch: Batch) -> Misclassification:
    return Misclassification(network, batch.categories, batch.textures)


def problem_of(objective: Objective, batch: Batch, epsilon: float, start: Tensor | None) -> Problem:
    return Problem(objective, batch.images, budgets(batch.images, epsilon), start)


def budgets(images: Tensor, epsilon: float) -> Tensor:
    return torch.full((len(images),), epsilon, dtype=torch.float64, device=images.device)


def noise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform in [-1, 1)."""
    return torch.rand(images.shape, generator=generator).to(images) * 2.0 - 1.0
