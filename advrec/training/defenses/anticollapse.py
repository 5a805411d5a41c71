"""A defense against the attack that advrec measures, after the anti-collapse triplet (Zhou et al.
2021; Zhou & Patel 2022).
"""

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from advrec.attacks.gradient import PGD
from advrec.attacks.objective import Objective
from advrec.model.fashionnet import FashionNet
from advrec.recommenders.losses import CosineDistance, cosine_distance
from advrec.training.data import Batch
from advrec.training.defenses import fare
from advrec.training.defenses.base import Defense, Forward, halves, problem_of
from advrec.training.drift import squared_drift
from advrec.training.judges import Embed
from advrec.training.schedule import Stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class AntiCollapseTriplet(Defense):
    """The network learns to keep an attacked image nearer to itself than to its target.

    PGD-k on the cosine distance moves each image towards the embedding of another article of its
    batch. The loss asks for a margin between both distances, beside the classes of clean and of
    moved images.

    In the papers positive and negative are both moved, towards each other, and the anchor is clean.
    Here, as in the attack, one image moves, and it is the anchor.
    """

    margin: float
    weight: float

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield images (N, 3, H, W), each moved towards the article before it in the batch."""
        with torch.inference_mode():
            targets = network.embed(batch.images).roll(1, 0)
        attack = PGD(steps=stage.steps, step_scale=self.recipe.step_scale)
        start = self.start(batch.images, stage.epsilon, generator)
        objective = CosineDistance(network.embed, targets.clone())
        yield attack(problem_of(objective, batch, stage.epsilon, start)).images

    def loss(self, forward: Forward, batch: Batch, images: Tensor) -> Tensor:
        """Return the mean loss () of clean and of moved images (N, 3, H, W) together."""
        outputs = forward(torch.cat([batch.images, images]))
        clean, moved = outputs.embeddings.chunk(2)
        # A tuple's articles are of two categories.
        others = batch.categories != batch.categories.roll(1, 0)
        triplets = collapsing(clean, moved, self.margin)
        collapse = (triplets * others).sum() / others.sum().clamp_min(1)
        classes = sum(self.recipe.loss(half, batch) for half in halves(outputs.logits)) / 2.0
        return classes + self.weight * collapse


@dataclasses.dataclass(frozen=True, kw_only=True)
class AntiCollapseFineTuning(fare.FineTuning):
    """The same for an encoder without classes: in the place of their loss stands the squared drift,
    as in FARE, of clean and of moved images.

    Without labels every other article may be the target.
    """

    margin: float
    weight: float

    def wish(
        self, embed: Embed, images: Tensor, originals: Tensor, others: Tensor | None
    ) -> Objective:
        """Return the distance of images (N, 3, H, W) to their other ones: of the article before,
        where none are given.
        """
        with torch.no_grad():
            targets = embed(images).roll(1, 0) if others is None else embed(others)
        return CosineDistance(embed, targets)

    def loss(self, forward: Forward, batch: Batch, images: Tensor) -> Tensor:
        """Return the mean loss () of clean and of moved images (N, 3, H, W) together."""
        assert batch.originals is not None
        clean, moved = forward(torch.cat([batch.images, images])).embeddings.chunk(2)
        drifts = squared_drift(clean, batch.originals) + squared_drift(moved, batch.originals)
        collapse = collapsing(clean, moved, self.margin).mean()
        return drifts.mean() / 2.0 + self.weight * collapse


def collapsing(clean: Tensor, moved: Tensor, margin: float) -> Tensor:
    """Return how far (N,) moved embeddings (N, D) miss the margin.

    By it they are to be nearer to their clean ones than to the clean ones before.
    """
    # In this order: it is that in which autograd adds up the gradients of `clean`.
    to_self = cosine_distance(moved, clean)
    to_target = cosine_distance(moved, clean.roll(1, 0))
    return functional.relu(to_self - to_target + margin)
