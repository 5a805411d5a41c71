"""The base of all defenses: one makes the images that a model trains on, and says what it asks of
the model on them.
"""

import dataclasses
import importlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from advrec.attacks.objective import Misclassification, Objective
from advrec.attacks.problem import Problem
from advrec.catalog.dataset import Catalog
from advrec.model.checkpoint import Network
from advrec.model.fashionnet import FashionNet, Logits
from advrec.spec.models import AnyTraining
from advrec.training.data import Batch
from advrec.training.judges import Accuracies, Judge
from advrec.training.recipe import Recipe
from advrec.training.schedule import Fixed, Schedule, Stage
from advrec.training.workers import Workers

VALIDATED = 8
"""Steps of the attack that selects the epoch of a defense with a single step: under its own, an
overfitted one would look best.
"""


class Outputs(NamedTuple):
    """The outputs of the network in training, from one forward pass."""

    classes: Logits | None
    """None: the network is an encoder alone."""
    embeddings: Tensor
    """(N, D), raw"""
    beside: Any = None
    """Output of the part beside the network; see `Defense.beside`."""

    @property
    def logits(self) -> Logits:
        """Those of a classifier."""
        assert self.classes is not None, "the study lets no such defense start from an encoder"
        return self.classes


Forward = Callable[..., Outputs]
"""Images (N, 3, H, W), and original embeddings (M, D) where the loss asks for what is beside."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Defense:
    """A defense with a fixed schedule and the recipe's loss, as most are.

    A field gets its value from the key of the same name in the study's entry.
    """

    recipe: Recipe
    epochs: int
    epsilon: float = 0.0
    steps: int = 0
    attacks: ClassVar[bool] = True
    """`craft` attacks the network that it gets, which must be the one in training as it now is."""
    keeps_original: ClassVar[bool] = False
    """Batches have the embeddings of the network as it was before the training."""
    rate_beside: ClassVar[float] = 0.0
    """Full learning rate of what is beside the network."""

    @classmethod
    def from_spec(cls, spec: AnyTraining, recipe: Recipe) -> Self:
        """Make the defense of a resolved entry of the study."""
        names = {field.name for field in dataclasses.fields(cls)} - {"recipe"}
        keys = {name: getattr(spec, name) for name in names & type(spec).model_fields.keys()}
        return cls(recipe=recipe, **keys)

    def schedule(self) -> Schedule:
        """Make a new state machine for one training."""
        return Fixed(epochs=self.epochs, attack_steps=self.steps, epsilon=self.epsilon)

    def judge(self, catalog: Catalog, workers: Workers, original: Network | None) -> Judge:
        """Return who says how good an epoch is."""
        return Accuracies(catalog, workers)

    def set_mode(self, network: Network) -> None:
        """Bring the network into the mode that it trains in."""
        network.train()

    def beside(self, dimension: int) -> nn.Module:
        """Return what is trained beside the network and not kept: nothing, for most.

        Args:
            dimension: of the embeddings.
        """
        return nn.Identity()

    def share_of_budget(self, step: int, steps: int | None) -> float:
        """Return the share of the budget that a step trains with; epochs are compared under all of
        it.

        Args:
            step: of the optimizer, counted from 0.
            steps: in the whole training; None: not known.
        """
        return 1.0

    def craft(
        self, network: Any, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield images (N, 3, H, W) in [0, 1] for each optimizer step on a batch.

        Yielded images may ask for their gradient. They have it when the generator goes on, for the
        optimizer has then taken its step.

        Args:
            network: the one to attack: a FashionNet, or whatever the defense may start from.
            batch: N images, augmented.
            generator: the source of all random draws.
        """
        raise NotImplementedError

    def loss(self, forward: Forward, batch: Batch, images: Tensor) -> Tensor:
        """Return the mean loss, a scalar (), of crafted images (N, 3, H, W).

        It calls `forward` once, as DistributedDataParallel wants it.
        """
        return self.recipe.loss(forward(images).logits, batch)

    def start(self, images: Tensor, epsilon: float, generator: torch.Generator) -> Tensor | None:
        """Return where an attack on images (N, 3, H, W) begins, of the same shape; None: there."""
        if not self.recipe.random_start:
            return None
        return images + epsilon * uniform_noise(images, generator)


def build(spec: AnyTraining, recipe: Recipe) -> Defense:
    """Build the defense that a resolved entry of the study names."""
    module, _, name = spec.implementation.partition(":")
    implementation: type[Defense] = getattr(importlib.import_module(module), name)
    return implementation.from_spec(spec, recipe)


def misclassification(network: FashionNet, batch: Batch) -> Misclassification:
    """Return the objective of making a batch (N, 3, H, W) misclassified."""
    return Misclassification(network, batch.categories, batch.textures)


def problem_of(objective: Objective, batch: Batch, epsilon: float, start: Tensor | None) -> Problem:
    """State the problem of attacking a batch from `start` (N, 3, H, W), all at one budget."""
    return Problem(objective, batch.images, budgets(batch.images, epsilon), start)


def budgets(images: Tensor, epsilon: float) -> Tensor:
    """Return the budget (N,) float64 of each image (N, 3, H, W)."""
    return torch.full((len(images),), epsilon, dtype=torch.float64, device=images.device)


def uniform_noise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Draw noise (N, 3, H, W), uniform in [-1, 1), for images of that shape."""
    return torch.rand(images.shape, generator=generator).to(images) * 2.0 - 1.0


def halves(logits: Logits) -> tuple[Logits, Logits]:
    """Split the logits (2 N, C) of N clean images and of the same, attacked, into two of (N, C)."""
    both = [(None, None) if each is None else each.chunk(2) for each in logits]
    (category, other_category), (texture, other_texture) = both
    return Logits(category, texture), Logits(other_category, other_texture)
