"""The defenses that need no labels: their keys. Each trains an encoder to stay near what it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from advrec.spec.budgets import Epsilon
from advrec.spec.catalog import absolute
from advrec.spec.training import Steps, Training, Triplets

TRAIN, EVERY = "train", "catalog"
"""Values of `images` that name no folder."""
FOLDER = "a folder"
"""Value of `images` in an identity, for any folder."""


class LabelFree(Training):
    """The keys that all defenses without labels share. What is trained has the architecture of the
    model that `init` names.
    """

    weights: ClassVar[str] = "none"

    init: str
    """Name of the model of the study that is defended: one of your own, or one trained above."""
    epsilon: Epsilon = 2 / 255
    steps: Steps = 3
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs: 2 unless given. The last one's weights stay."""
    batch: Annotated[int, Field(ge=2)] = 16
    learning_rate: Annotated[float, Field(gt=0.0)] | None = None
    """Full learning rate: 0.0003 unless given."""
    trainable: Literal["all"] | Annotated[int, Field(ge=1)] = "all"
    """all, or so many of the encoder's last blocks, such as a transformer's layers or a ResNet's
    bottlenecks, with all that comes after them. What is not trained, or not used, stays as it was.
    """
    images: Annotated[str, StringConstraints(min_length=1)] = TRAIN
    """Images to train on: train, the catalog's training split; catalog, all its splits, so that
    what is measured is of images that training saw; or a folder of images, relative to the study
    file, or a URL. They need no categories, and are prepared as the catalog's are.
    """
    batch_norm: Literal["kept", "updated"] = "kept"
    """kept: BatchNorm normalises as the model was trained, as it does in use, also while this
    trains; updated: by each batch, and its statistics move.
    """

    def resolved(self, image_size: int, directory: Path) -> Self:
        """Make the defaults explicit."""
        return self.model_copy(
            update={
                "epochs": self.epochs or 2,
                "learning_rate": self.learning_rate or 3e-4,
                "images": absolute(self.images, directory) if self.folder else self.images,
            }
        )

    @property
    def folder(self) -> str | None:
        """The folder or URL of the images; None: they are the catalog's."""
        return None if self.images in (TRAIN, EVERY) else self.images

    @field_validator("trainable", mode="before")
    @classmethod
    def _blocks(cls, value: object) -> object:
        if value != "all" and (type(value) is not int or value < 1):
            raise ValueError(f"{value} is no number of blocks; write all, or 1, 2, ...")
        return value

    @model_validator(mode="after")
    def _defends_a_model(self) -> Self:
        if self.init == "none":
            raise ValueError(
                f"{self.defense} defends a model that is there; name one of the study in init"
            )
        return self


class FineTuning(LabelFree):
    """Unsupervised adversarial fine-tuning (Schlarmann et al. 2024): attacked images keep the
    embeddings that the original gives the clean ones.
    """

    label = "adversarial fine-tuning without labels"
    implementation = "advrec.training.defenses.fare:FineTuning"

    defense: Literal["fare"]


class LagrangianFineTuning(LabelFree):
    """Lagrangian-optimised robust embeddings (Khodabandeh et al. 2025): the same, and clean images
    stay near their original embeddings.
    """

    label = "constrained fine-tuning without labels"
    implementation = "advrec.training.defenses.lore:LagrangianFineTuning"

    defense: Literal["lore"]
    rho: Annotated[float, Field(gt=0.0)] = 0.3
    """Most that a clean image's embedding may move, as a share of its length: small keeps the
    lists, large is safer.
    """


class AntiCollapseFineTuning(Triplets, LabelFree):
    """Anti-collapse triplets, after Zhou et al. 2021, without classes: the distance of fare stands
    in their place.
    """

    label = "anti-collapse triplets without labels"
    implementation = "advrec.training.defenses.anticollapse:AntiCollapseFineTuning"

    defense: Literal["act-fare"]


LABEL_FREE: tuple[type[LabelFree], ...] = (
    FineTuning,
    LagrangianFineTuning,
    AntiCollapseFineTuning,
)
FOR_ENCODERS = "; without classes, defense is " + " or ".join(keys.word() for keys in LABEL_FREE)
"""The end of a sentence about another defense of an encoder."""


def original(models: Mapping[str, Any], model: str) -> str:
    """Name of the model that a model is compared with: the one that its defenses without labels
    began with, be they one or several in a row. Of any other model it is the model itself.

    Args:
        models: entries of the study by name.
    """
    while isinstance(models[model], LabelFree):
        model = models[model].init
    return model
