"""Recipes: all that a training does beside its defense. The study's, and ours."""

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from advrec.attacks.objective import classification_loss
from advrec.model.fashionnet import Logits
from advrec.spec.defenses import RecipeName, TrainedModel
from advrec.spec.models import AnyTraining
from advrec.training.data import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    augment: Callable[[Tensor, torch.Generator], Tensor]
    """Maps images (N, 3, H, W) in [0, 1] to the same."""
    texture_sum: bool
    """Sum the loss over textures; the study's mean leaves the category nearly all of the loss."""
    label_smoothing: float
    """Smoothing of the categories' labels (Szegedy et al. 2016, section 7)."""
    weight_decay: float
    warm_up: float | None
    """Share of the steps in which the learning rate rises, before it falls along half a cosine;
    None: it stays.
    """
    averaging: float | None
    """Decay a step of the exponential moving average of weights, which is what is validated and
    kept; None: the weights themselves.
    """
    step_scale: float
    """An attack's step is so many epsilon / k."""
    random_start: bool
    """Attacks begin at random in the ball."""
    attacks_in_training_mode: bool
    """Attacks see dropout and batch statistics, and move the running ones; otherwise a frozen copy
    of the network.
    """
    normalise: bool
    """The network begins with ImageNet's mean and deviation of pixels."""

    def loss(self, logits: Logits, batch: Batch) -> Tensor:
        """Return the mean loss () of the logits (N, C) of both heads against the labels."""
        weight, smoothing = self.texture_weight(batch), self.label_smoothing
        return classification_loss(
            *logits, batch.categories, batch.textures, weight, label_smoothing=smoothing
        ).mean()

    def texture_weight(self, batch: Batch) -> float:
        """Return the weight of the mean over textures against the category's loss."""
        return (
            float(batch.textures.shape[1])
            if self.texture_sum and batch.textures is not None
            else 1.0
        )

    def rate(self, step: int, steps: int | None) -> float:
        """Return the learning rate of a step as a share of the full one.

        Args:
            step: counted from 0.
            steps: in all; None: not known.
        """
        if self.warm_up is None or steps is None:
            return 1.0
        rising = max(self.warm_up * steps, 1.0)
        if step < rising:
            return (step + 1) / (rising + 1)
        return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(steps - rising, 1.0)))


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift images (N, 3, H, W) at random by up to a sixteenth of the side, and flip them.

    Shifts are whole pixels, for resampling would blur fine textures.
    """
    count, _, height, width = images.shape
    margin = max(width // 16, 1)
    padded = functional.pad(images, (margin,) * 4, mode="replicate")
    offsets = torch.randint(0, 2 * margin + 1, (count, 2), generator=generator).tolist()
    flips = torch.randint(0, 2, (count,), generator=generator).tolist()
    moved = [
        image[:, top : top + height, left : left + width]
        for image, (top, left) in zip(padded, offsets, strict=True)
    ]
    return torch.stack(
        [image.flip(2) if flip else image for image, flip in zip(moved, flips, strict=True)]
    )


def rotated(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate images (N, 3, H, W) by up to 15 degrees, crop and flip them, as the study did.

    A crop is 0.75 to 1.25 of the area, scaled back.
    """
    side = images.shape[3]
    transform = v2.Compose(
        [
            v2.RandomRotation(15),
            v2.RandomResizedCrop(side, scale=(0.75, 1.25)),
            v2.RandomHorizontalFlip(),
        ]
    )
    with torch.random.fork_rng():  # torchvision draws from the global stream
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        return torch.stack([transform(image) for image in images]).clamp_(0.0, 1.0)


ADVREC = Recipe(
    augment=shifted,
    texture_sum=True,
    label_smoothing=0.1,
    weight_decay=0.01,
    warm_up=0.15,
    averaging=0.99,
    step_scale=2.5,
    random_start=True,
    attacks_in_training_mode=False,
    normalise=True,
)
PUBLISHED = Recipe(
    augment=rotated,
    texture_sum=False,
    label_smoothing=0.0,
    weight_decay=0.0,
    warm_up=None,
    averaging=None,
    step_scale=1.0,
    random_start=False,
    attacks_in_training_mode=True,
    normalise=False,
)
RECIPES: dict[RecipeName, Recipe] = {"advrec": ADVREC, "published": PUBLISHED}
FINE_TUNING = dataclasses.replace(ADVREC, weight_decay=1e-4, warm_up=0.07, averaging=None)
"""That of encoders which are trained already: as in FARE, but for the shifts."""


def recipe_of(spec: AnyTraining) -> Recipe:
    """Return the recipe of an entry of the study."""
    return RECIPES[spec.recipe] if isinstance(spec, TrainedModel) else FINE_TUNING
