"""The defenses that a study can train with: the keys of each, and their registration at the end.

A defense's keys are a class here. It names its label and the class below advrec.training that
trains so; unions, allowed words, messages and the report's names follow from `DEFENSES`.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from advrec.spec.base import refuse_repeats
from advrec.spec.budgets import Epsilon
from advrec.spec.label_free import LABEL_FREE
from advrec.spec.training import Steps, Training, Triplets

Backbone = Literal[
    "mobilenet_v2", "mobilenet_v3_large", "resnet18", "resnet50", "efficientnet_b0", "convnext_tiny"
]
RecipeName = Literal["advrec", "published"]
Head = Literal["category", "texture"]
HEADS: tuple[Head, ...] = get_args(Head)
UNLIMITED = 1000
"""Epochs at one k: more than a patience of ten ever uses."""


class TrainedModel(Training):
    """The keys that all defenses of a classifier share."""

    published: ClassVar[bool] = False
    """The defense exists in the published recipe too."""

    backbone: Backbone = "mobilenet_v2"
    """A network of torchvision, without its last layer."""
    width: Annotated[float, Field(gt=0.0, le=2.0)] | None = None
    """Width multiplier of mobilenet_v2; by default 0.5 up to 96 pixels without weights to start
    from, else 1.0.
    """
    weights: str = "none"
    """Start of the backbone: none (random), imagenet (torchvision's), or a file (safetensors, or a
    state dict saved by torch).
    """
    heads: Annotated[tuple[Head, ...], Field(min_length=1)] | None = None
    """Labels that the network is trained on, each by a head of its own: category, texture, or both,
    the default. The study of 2018 has a network of each; `join` puts them side by side.
    """
    recipe: RecipeName = "advrec"
    """Augmentation, loss, optimizer, schedule and how attacks are made while training: advrec, or
    as the thesis did.
    """

    def resolved(self, image_size: int, directory: Path) -> Self:
        """Make defaults that depend on other keys explicit, and paths absolute."""
        narrow = self.backbone == "mobilenet_v2" and self.weights == "none" and image_size <= 96
        epochs, learning_rate = (24, 0.001) if self.recipe == "published" else (8, 0.002)
        is_file = self.weights not in ("none", "imagenet")
        return self.model_copy(
            update={
                "width": self.width or (0.5 if narrow else 1.0),
                "weights": str(directory / self.weights) if is_file else self.weights,
                "epochs": self.epochs or epochs,
                "learning_rate": self.learning_rate or learning_rate,
            }
        )

    @property
    def on_categories(self) -> bool:
        """Say whether the network has a head of categories."""
        return self.heads != ("texture",)

    @property
    def on_textures(self) -> bool:
        """Say whether the network has a head of textures, where the catalog has any."""
        return self.heads != ("category",)

    @field_validator("heads", mode="after")
    @classmethod
    def _both_are_the_default(cls, heads: tuple[Head, ...] | None) -> tuple[Head, ...] | None:
        refuse_repeats("heads", heads or ())
        return heads if heads is not None and len(heads) < len(HEADS) else None

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.init != "none" and self.weights != "none":
            raise ValueError(
                "init and weights both say where training starts; set one of them to none"
            )
        if self.backbone != "mobilenet_v2" and self.width not in (None, 1.0):
            raise ValueError(
                f"width {self.width} belongs to mobilenet_v2; {self.backbone} has one width, "
                "leave it out"
            )
        if self.weights == "imagenet" and self.width not in (None, 1.0):
            raise ValueError(
                f"ImageNet weights exist for mobilenet_v2 of width 1.0, not {self.width}; "
                "leave width out"
            )
        return self

    @model_validator(mode="after")
    def _has_been_published(self) -> Self:
        if self.recipe == "published" and not self.published:
            raise ValueError(
                "recipe: published is that of the thesis' defenses none, at and cat; leave it out"
            )
        return self


class NoDefense(TrainedModel):
    """Training on clean images."""

    label = "none"
    implementation = "advrec.training.defenses.clean:Clean"
    published = True

    defense: Literal["none"]


class SteppedModel(TrainedModel):
    """The keys of defenses that attack images in several steps within a budget."""

    epsilon: Epsilon = 0.03
    steps: Steps = 8


class AdversarialTraining(SteppedModel):
    """Adversarial training (Madry et al. 2018)."""

    label = "adversarial training"
    implementation = "advrec.training.defenses.adversarial:Adversarial"
    published = True

    defense: Literal["at"]
    ramp: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Share of the training in which the budget grows, step by step, up to epsilon; by default 0.7,
    of the published recipe 0.
    """

    def resolved(self, image_size: int, directory: Path) -> Self:
        default = 0.0 if self.recipe == "published" else 0.7
        ramp = default if self.ramp is None else self.ramp
        return super().resolved(image_size, directory).model_copy(update={"ramp": ramp})


class CurriculumAdversarialTraining(TrainedModel):
    """Curriculum adversarial training (Cai et al. 2018); `epochs` is the most that training spends
    on one k.
    """

    label = "curriculum adversarial training"
    implementation = "advrec.training.defenses.curriculum:CurriculumTraining"
    published = True

    defense: Literal["cat"]
    epsilon: Epsilon = 0.03
    max_steps: Annotated[int, Field(ge=0)] | None = None
    """The last k; by default 8."""
    ks: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """The k of each stage, rising, in place of 0, 1, ... max_steps."""
    patience: Annotated[int, Field(ge=1)] = 10
    """Epochs without a gain in validation accuracy before the next k."""
    mixing: bool = True
    """Equal shares of a batch are attacked with 0, 1, ... k steps; otherwise all of it with k."""
    ramp: bool = False
    """The budget grows from stage to stage, up to epsilon at the last; otherwise it is epsilon at
    every one.
    """

    @property
    def total_epochs(self) -> None:
        return None

    def resolved(self, image_size: int, directory: Path) -> Self:
        ks = self.ks or tuple(range((8 if self.max_steps is None else self.max_steps) + 1))
        update: dict[str, Any] = {"ks": ks, "max_steps": ks[-1]}
        if self.recipe == "published":
            update["epochs"] = self.epochs or UNLIMITED
        return super().resolved(image_size, directory).model_copy(update=update)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.ks is not None and list(self.ks) != sorted(set(self.ks)):
            raise ValueError(
                f"ks is {list(self.ks)}; list each k once, from the smallest to the largest"
            )
        if self.ks is not None and self.max_steps not in (None, self.ks[-1]):
            raise ValueError(
                f"max_steps is {self.max_steps}, but ks ends at {self.ks[-1]}; "
                "leave one of them out"
            )
        return self


class Trades(SteppedModel):
    """TRADES (Zhang et al. 2019)."""

    label = "TRADES"
    implementation = "advrec.training.defenses.trades:TradeOff"

    defense: Literal["trades"]
    beta: Annotated[float, Field(gt=0.0)] = 6.0
    """Weight of the agreement of clean and attacked predictions against their being right
    (1 / lambda in the paper).
    """


class NoisyFGSM(TrainedModel):
    """N-FGSM (de Jorge et al. 2022)."""

    label = "noisy FGSM"
    implementation = "advrec.training.defenses.noisy:NoisyStep"

    defense: Literal["n-fgsm"]
    epsilon: Epsilon = 0.03
    noise: Annotated[float, Field(ge=0.0)] = 2.0
    """Size of the noise before the one step, in epsilons."""


class FreeTraining(TrainedModel):
    """Free adversarial training (Shafahi et al. 2019); `epochs` counts passes over the data, each
    of which takes `replays` times as long.
    """

    label = "free adversarial training"
    implementation = "advrec.training.defenses.free:Free"

    defense: Literal["free"]
    epsilon: Epsilon = 0.03
    replays: Steps = 4
    """Steps on each batch; each moves weights and images by one backward pass."""

    @property
    def steps_a_batch(self) -> int:
        return self.replays


class FriendlyTraining(SteppedModel):
    """Friendly adversarial training (Zhang et al. 2020); an image takes `steps` at most."""

    label = "friendly adversarial training"
    implementation = "advrec.training.defenses.friendly:Friendly"

    defense: Literal["fat"]
    tau: Annotated[int, Field(ge=0)] = 1
    """Steps that an image still takes after it is misclassified."""

    @model_validator(mode="after")
    def _misclassifies(self) -> Self:
        if not self.on_categories:
            raise ValueError(
                "heads is [texture], and fat goes on until the category is wrong; "
                "leave heads out, or take at"
            )
        return self


class AntiCollapse(Triplets, SteppedModel):
    """Anti-collapse triplets, after Zhou et al. 2021."""

    label = "anti-collapse triplets"
    implementation = "advrec.training.defenses.anticollapse:AntiCollapseTriplet"

    defense: Literal["act"]


DEFENSES: tuple[type[Training], ...] = (
    NoDefense,
    AdversarialTraining,
    CurriculumAdversarialTraining,
    Trades,
    NoisyFGSM,
    FreeTraining,
    FriendlyTraining,
    AntiCollapse,
    *LABEL_FREE,
)
"""Every defense, in the order of messages."""
