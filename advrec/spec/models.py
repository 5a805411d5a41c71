"""The entries of a study's models: how each is trained, or where it comes from."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from advrec.spec.base import Epsilon, Strict

Backbone = Literal[
    "mobilenet_v2", "mobilenet_v3_large", "resnet18", "resnet50", "efficientnet_b0", "convnext_tiny"
]
RecipeName = Literal["advrec", "published"]
Steps = Annotated[int, Field(ge=1)]


class Entry(Strict):
    """The keys of every model, trained here or elsewhere."""

    compared: bool = True
    """False: the model is trained or taken for what others make of it (init, from), but not
    attacked, examined or shown beside the others.
    """


class ModelSpec(Entry):
    """What all defenses share."""

    trained_here: ClassVar[bool] = True
    backbone: Backbone = "mobilenet_v2"
    """A network of torchvision, without its last layer."""
    width: Annotated[float, Field(gt=0.0, le=2.0)] | None = None
    """Width multiplier of mobilenet_v2; by default 0.5 up to 96 pixels without weights to start
    from, else 1.0.
    """
    weights: str = "none"
    """Where the backbone starts: none (random), imagenet (torchvision's), or a file (safetensors,
    or a state dict saved by torch).
    """
    init: str = "none"
    """Name of another model of the study whose trained weights this one starts from."""
    recipe: RecipeName = "advrec"
    """Augmentation, loss, optimizer, schedule and how attacks are made while training: advrec, or
    as the study did.
    """
    epochs: Annotated[int, Field(ge=1)] | None = None
    """By default 8; of the published recipe 24, and of its curriculum as many as it takes."""
    batch: Annotated[int, Field(ge=2)] = 32
    """Images a training step, over all workers."""
    learning_rate: Annotated[float, Field(gt=0.0)] | None = None
    """By default 0.002; of the published recipe 0.001."""

    def steps_an_epoch(self, articles: int) -> int:
        """Count the optimizer steps of an epoch; a last, incomplete batch is left out unless it is
        the only one.

        Args:
            articles: of the training split.
        """
        return (max(articles - self.batch, 0) // self.batch + 1) * self.steps_a_batch

    @property
    def steps_a_batch(self) -> int:
        """Optimizer steps that training takes on each batch."""
        return 1

    @model_validator(mode="after")
    def _one_start(self) -> "ModelSpec":
        if self.init != "none" and self.weights != "none":
            raise ValueError(
                "init and weights both say where training starts; set one of them to none"
            )
        if self.backbone != "mobilenet_v2" and self.width not in (None, 1.0):
            raise ValueError(
                f"width {self.width} belongs to mobilenet_v2; {self.backbone} has one width, leave it out"
            )
        if self.weights == "imagenet" and self.width not in (None, 1.0):
            raise ValueError(
                f"ImageNet weights exist for mobilenet_v2 of width 1.0, not {self.width}; leave width out"
            )
        return self

    @model_validator(mode="after")
    def _has_been_published(self) -> "ModelSpec":
        if self.recipe == "published" and not isinstance(
            self, NoDefense | AdversarialTraining | CurriculumAdversarialTraining
        ):
            raise ValueError(
                "recipe: published is that of the study's defenses none, at and cat; leave it out"
            )
        return self

    def resolved(self, image_size: int, directory: Path) -> "ModelSpec":
        """With defaults that depend on other keys, and absolute paths."""
        narrow = self.backbone == "mobilenet_v2" and self.weights == "none" and image_size <= 96
        epochs, learning_rate = (24, 0.001) if self.recipe == "published" else (8, 0.002)
        if self.recipe == "published" and isinstance(self, CurriculumAdversarialTraining):
            epochs = UNLIMITED
        return self.model_copy(
            update={
                "width": self.width or (0.5 if narrow else 1.0),
                "weights": self.weights
                if self.weights in ("none", "imagenet")
                else str(directory / self.weights),
                "epochs": self.epochs or epochs,
                "learning_rate": self.learning_rate or learning_rate,
            }
        )


UNLIMITED = 1000
"""Epochs at one k that a patience of ten never leaves in use."""


class NoDefense(ModelSpec):
    defense: Literal["none"]


class SteppedSpec(ModelSpec):
    """Images are attacked in so many steps within a budget."""

    epsilon: Epsilon = 0.03
    steps: Steps = 8


class AdversarialTraining(SteppedSpec):
    defense: Literal["at"]
    ramp: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Share of the training in which the budget grows, step by step, up to epsilon; by default 0.7,
    of the published recipe 0.
    """

    def resolved(self, image_size: int, directory: Path) -> "AdversarialTraining":
        ramp = self.ramp if self.ramp is not None else 0.0 if self.recipe == "published" else 0.7
        resolved = super().resolved(image_size, directory)
        assert isinstance(resolved, AdversarialTraining)
        return resolved.model_copy(update={"ramp": ramp})


class CurriculumAdversarialTraining(ModelSpec):
    """`epochs` is the most that training spends on one k."""

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

    @model_validator(mode="after")
    def _rising(self) -> "CurriculumAdversarialTraining":
        if self.ks is not None and list(self.ks) != sorted(set(self.ks)):
            raise ValueError(
                f"ks is {list(self.ks)}; list each k once, from the smallest to the largest"
            )
        if self.ks is not None and self.max_steps not in (None, self.ks[-1]):
            raise ValueError(
                f"max_steps is {self.max_steps}, but ks ends at {self.ks[-1]}; leave one of them out"
            )
        return self

    def resolved(self, image_size: int, directory: Path) -> "CurriculumAdversarialTraining":
        ks = self.ks or tuple(range((8 if self.max_steps is None else self.max_steps) + 1))
        resolved = super().resolved(image_size, directory)
        assert isinstance(resolved, CurriculumAdversarialTraining)
        return resolved.model_copy(update={"ks": ks, "max_steps": ks[-1]})


class Trades(SteppedSpec):
    defense: Literal["trades"]
    beta: Annotated[float, Field(gt=0.0)] = 6.0
    """What agreement of clean and attacked predictions weighs against their being right (1 / lambda
    in the paper).
    """


class NoisyFGSM(ModelSpec):
    defense: Literal["n-fgsm"]
    epsilon: Epsilon = 0.03
    noise: Annotated[float, Field(ge=0.0)] = 2.0
    """Size of the noise before the one step, in epsilons."""


class FreeTraining(ModelSpec):
    """`epochs` counts passes over the data; each takes `replays` times as long."""

    defense: Literal["free"]
    epsilon: Epsilon = 0.03
    replays: Steps = 4
    """Steps on each batch; each moves weights and images by one backward pass."""

    @property
    def steps_a_batch(self) -> int:
        return self.replays


class FriendlyTraining(SteppedSpec):
    """`steps` at most."""

    defense: Literal["fat"]
    tau: Annotated[int, Field(ge=0)] = 1
    """Steps that an image still takes after it is misclassified."""


class AntiCollapse(SteppedSpec):
    defense: Literal["act"]
    margin: Annotated[float, Field(gt=0.0, le=2.0)] = 0.2
    """By how much cosine distance an attacked image is to stay nearer to itself than to the article
    it was moved towards.
    """
    weight: Annotated[float, Field(gt=0.0)] = 4.0
    """Of the embeddings' loss against that of the classes."""


class OwnModel(Entry):
    """A model that was trained elsewhere: evaluated, not trained."""

    trained_here: ClassVar[bool] = False
    init: ClassVar[str] = "none"
    model: Annotated[str, StringConstraints(min_length=1)]
    """package.module:function, which returns a torch module from images (N, 3, H, W) in [0, 1] to
    embeddings (N, D), importable from where the command runs; or a network of torchvision, which is
    used without its last layer.
    """
    checkpoint: str | None = None
    """Its weights: safetensors, or a state dict saved by torch; relative to the study file. A
    function may load its own.
    """
    weights: Literal["none", "imagenet"] = "none"
    """imagenet: torchvision's own weights, for one of its networks."""
    defense: Literal["none", "at", "cat", "trades", "n-fgsm", "free", "fat", "act"] = "none"
    """How it was trained, for the report."""

    @model_validator(mode="after")
    def _weights(self) -> "OwnModel":
        if ":" in self.model and self.weights != "none":
            raise ValueError(
                "weights: imagenet is for networks of torchvision; the function loads its own, or name a checkpoint"
            )
        if ":" not in self.model and (self.checkpoint is None) == (self.weights == "none"):
            raise ValueError(
                f"{self.model} needs either a checkpoint, the file of its weights, or weights: imagenet"
            )
        return self

    def resolved(self, image_size: int, directory: Path) -> "OwnModel":
        return self.model_copy(
            update={"checkpoint": self.checkpoint and str(directory / self.checkpoint)}
        )


TrainedModel = (
    NoDefense
    | AdversarialTraining
    | CurriculumAdversarialTraining
    | Trades
    | NoisyFGSM
    | FreeTraining
    | FriendlyTraining
    | AntiCollapse
)


def _kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return "own" if "model" in value else value.get("defense")
    return "own" if isinstance(value, OwnModel) else getattr(value, "defense", None)


AnyModel = Annotated[
    Annotated[NoDefense, Tag("none")]
    | Annotated[AdversarialTraining, Tag("at")]
    | Annotated[CurriculumAdversarialTraining, Tag("cat")]
    | Annotated[Trades, Tag("trades")]
    | Annotated[NoisyFGSM, Tag("n-fgsm")]
    | Annotated[FreeTraining, Tag("free")]
    | Annotated[FriendlyTraining, Tag("fat")]
    | Annotated[AntiCollapse, Tag("act")]
    | Annotated[OwnModel, Tag("own")],
    Discriminator(_kind),
]

KINDS: dict[str, type[Strict]] = {
    get_args(kind.model_fields["defense"].annotation)[0]: kind for kind in get_args(TrainedModel)
}
KINDS["own"] = OwnModel
"""By what an entry says in `defense`, for messages."""
