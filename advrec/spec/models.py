"""The entries of a study's models: trained here with a defense, or brought by the user."""

import functools
import operator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, StringConstraints, Tag, model_validator

from advrec.spec.base import Strict
from advrec.spec.defenses import DEFENSES, Entry, TrainedModel

WORDS = tuple(keys.word() for keys in DEFENSES)
"""The allowed words of `defense`."""
LABELS = {
    keys.word(): keys.label if keys.label == keys.word() else f"{keys.label} ({keys.word()})"
    for keys in DEFENSES
}
"""The name of each defense in a report."""

if TYPE_CHECKING:
    DefenseWord = str
else:
    DefenseWord = Literal[WORDS]


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
    defense: DefenseWord = "none"
    """The defense that it was trained with, for the report."""

    @model_validator(mode="after")
    def _weights(self) -> "OwnModel":
        if ":" in self.model and self.weights != "none":
            raise ValueError(
                "weights: imagenet is for networks of torchvision; the function loads its own, "
                "or name a checkpoint"
            )
        if ":" not in self.model and (self.checkpoint is None) == (self.weights == "none"):
            raise ValueError(
                f"{self.model} needs either a checkpoint, the file of its weights, "
                "or weights: imagenet"
            )
        return self

    def resolved(self, image_size: int, directory: Path) -> "OwnModel":
        """Make paths absolute."""
        return self.model_copy(
            update={"checkpoint": self.checkpoint and str(directory / self.checkpoint)}
        )


KINDS: dict[str, type[Strict]] = {keys.word(): keys for keys in DEFENSES} | {"own": OwnModel}
"""The class of an entry by its kind: its defense, or own."""


def _kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return "own" if "model" in value else value.get("defense")
    return "own" if isinstance(value, OwnModel) else getattr(value, "defense", None)


if TYPE_CHECKING:
    AnyModel = TrainedModel | OwnModel
else:
    AnyModel = Annotated[
        functools.reduce(
            operator.or_, (Annotated[keys, Tag(kind)] for kind, keys in KINDS.items())
        ),
        Discriminator(_kind),
    ]
