"""The entries of a study's models: encoders, trained here with a defense, brought by the user or
joined; and hybrid recommenders over one of them.
"""

import difflib
import functools
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from advrec.spec.base import Name, Strict
from advrec.spec.defenses import DEFENSES, TrainedModel
from advrec.spec.hybrids import HYBRID_WORDS, RECOMMENDERS, Amr, Bpr, Vbpr
from advrec.spec.label_free import EVERY, FOLDER, TRAIN, LabelFree
from advrec.spec.training import Embedding

AnyTraining = TrainedModel | LabelFree
"""An entry that is trained here."""
WORDS = tuple(keys.word() for keys in DEFENSES)
"""The allowed words of `defense`."""
LABELS = {
    keys.word(): keys.label if keys.label == keys.word() else f"{keys.label} ({keys.word()})"
    for keys in DEFENSES
}
"""The name of each defense in a report."""

HUBS = ("timm", "open_clip", "hf", "torchvision")
"""Libraries of encoders: what a model's name begins with, before a /."""
LITES = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
"""Encoders whose weights come from the package index; each is a library of its own."""


USUAL_INPUT = 224
"""Pixels that most of them scale images to; memory is reckoned by it before one is built."""


class EncoderName(NamedTuple):
    """An encoder by its library's name for it."""

    library: str
    name: str

    @property
    def is_folder(self) -> bool:
        """Say whether it is a folder that the library wrote."""
        return self.name.startswith((".", "/"))


def encoder_name(model: str) -> EncoderName | None:
    """The encoder of a library that an entry's `model` names; None: it names none."""
    library, _, name = model.partition("/")
    if model in LITES:
        return EncoderName(model, model)
    return EncoderName(library, name) if library in HUBS and name else None


def without_paths(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a model's entry that name files, by words: what is in the files determines the
    model, as hashes beside these keys say it, and not where they lie.
    """
    found = {}
    if entry.get("images") not in (None, TRAIN, EVERY):
        found["images"] = FOLDER
    if entry.get("checkpoint") is not None:
        found["checkpoint"] = "a file"
    named = encoder_name(str(entry.get("model")))
    if named is not None and named.is_folder:
        found["model"] = f"{named.library}/{FOLDER}"
    return found


if TYPE_CHECKING:
    DefenseWord = str
else:
    DefenseWord = Literal[WORDS]


class OwnModel(Embedding):
    """A model that was trained elsewhere: evaluated, not trained."""

    trained_here: ClassVar[bool] = False
    init: ClassVar[str] = "none"
    model: Annotated[str, StringConstraints(min_length=1)]
    """package.module:function, which returns a torch module from images (N, 3, H, W) in [0, 1] to
    embeddings (N, D), importable from where the command runs; an encoder of a library (timm/NAME,
    open_clip/NAME/TAG, hf/NAME, torchvision/NAME, efficientnet-lite0 to 2), which prepares images
    itself; or a bare name of torchvision, used without its last layer on images as they are.
    """
    checkpoint: str | None = None
    """Its weights: safetensors, or a state dict saved by torch; relative to the study file. A
    function may load its own.
    """
    weights: Literal["none", "imagenet", "pretrained", "random"] = "none"
    """imagenet: torchvision's IMAGENET1K_V1. Of an encoder of a library, pretrained: the library's
    own weights, which it is used with unless a checkpoint is named; random: none, to try a study.
    """
    input_size: Annotated[int, Field(ge=8)] | None = None
    """Height and width, in pixels, that an encoder of a library scales images to; by default the
    library's. A catalog of this size is not scaled.
    """
    defense: DefenseWord = "none"
    """The defense that it was trained with, for the report."""

    @property
    def named(self) -> EncoderName | None:
        """The library and the name there; None: a function, or a bare name of torchvision."""
        return encoder_name(self.model)

    @property
    def shown(self) -> str:
        """The model for a sentence: a folder by its path alone."""
        return self.named.name if self.named and self.named.is_folder else self.model

    @model_validator(mode="after")
    def _known(self) -> "OwnModel":
        near = difflib.get_close_matches(self.model, LITES, n=1, cutoff=0.85)
        if self.named is None and near:
            raise ValueError(f"model is {self.model}; write {' or '.join(LITES)}")
        unknown = self.model.partition("/")[0]
        if self.named is None and "/" in self.model:
            known = ", ".join(f"{library}/NAME" for library in HUBS)
            raise ValueError(
                f"model is {self.model}, and {unknown} is no library of encoders; write {known}, "
                f"{', '.join(LITES)} or package.module:function"
            )
        return self

    @model_validator(mode="after")
    def _weights(self) -> "OwnModel":
        if self.named is not None:
            self._of_library(self.named)
            return self
        is_function = ":" in self.model
        if self.input_size is not None or self.weights in ("pretrained", "random"):
            key = "weights" if self.input_size is None else "input_size"
            raise ValueError(
                f"{key}: {getattr(self, key)} is for encoders of a library; "
                + (
                    "a function prepares images and loads weights itself"
                    if is_function
                    else f"write torchvision/{self.model} for one that scales images itself"
                )
            )
        if is_function and self.weights != "none":
            raise ValueError(
                "weights: imagenet is for networks of torchvision; the function loads its own, "
                "or name a checkpoint"
            )
        if not is_function and (self.checkpoint is None) == (self.weights == "none"):
            raise ValueError(
                f"{self.model} needs either a checkpoint, the file of its weights, "
                "or weights: imagenet"
            )
        return self

    def _of_library(self, named: EncoderName) -> None:
        if self.weights == "imagenet" and named.library != "torchvision":
            raise ValueError("weights: imagenet is torchvision's; write weights: pretrained")
        if self.checkpoint is not None and self.weights != "none":
            raise ValueError(f"weights: {self.weights} and a checkpoint exclude each other")
        if (
            self.checkpoint is None
            and self.weights == "none"
            and "weights" in self.model_fields_set
        ):
            raise ValueError(
                f"weights: none leaves {self.model} without any; write pretrained, random, "
                "or name a checkpoint"
            )

    def resolved(self, image_size: int, directory: Path) -> "OwnModel":
        """Make paths absolute, and say whose weights are meant."""
        update: dict[str, Any] = {
            "checkpoint": self.checkpoint and str(directory / self.checkpoint)
        }
        if self.named is not None and self.checkpoint is None and self.weights == "none":
            update["weights"] = "pretrained"
        if self.named is not None and self.named.is_folder:
            update["model"] = f"{self.named.library}/{(directory / self.named.name).resolve()}"
        return self.model_copy(update=update)


class JoinedModel(Embedding):
    """Networks of the study as one (Tuinhof et al. 2018): their embeddings at unit length, side by
    side. It has no training of its own.
    """

    trained_here: ClassVar[bool] = False
    init: ClassVar[str] = "none"
    join: Annotated[tuple[Name, ...], Field(min_length=2)]
    """Names of models of the study that stand above it."""
    weights: tuple[Annotated[float, Field(ge=0.001, le=1000.0)], ...] | None = None
    """A number for each, by default 1: the length that its embedding has in the joined one. The
    cosine is the mean of the parts' cosines, each weighted by its number squared.
    """
    defense: DefenseWord = "none"
    """The defense that it stands for in the report: by default that of the models joined, where
    they share one.
    """

    @model_validator(mode="after")
    def _a_weight_each(self) -> "JoinedModel":
        if self.weights is not None and len(self.weights) != len(self.join):
            raise ValueError(
                f"weights has {len(self.weights)} numbers for {len(self.join)} models of join; "
                "write one for each, or leave weights out"
            )
        return self

    def resolved(self, image_size: int, directory: Path) -> "JoinedModel":
        """Make the weights explicit."""
        return self.model_copy(update={"weights": self.weights or (1.0,) * len(self.join)})

    def standing_for(self, defenses: Sequence[str]) -> "JoinedModel":
        """The same entry, which stands for its parts' defense where it says none.

        Args:
            defenses: the parts' own.
        """
        if "defense" in self.model_fields_set or len({*defenses}) > 1:
            return self
        return self.model_copy(update={"defense": defenses[0]})


KINDS: dict[str, type[Strict]] = {
    **{keys.word(): keys for keys in DEFENSES},
    "own": OwnModel,
    "joined": JoinedModel,
    **{keys.word(): keys for keys in RECOMMENDERS},
}
"""The class of an entry by its kind: its defense, own, joined, or its recommender."""
MARKS = {"own": "model", "joined": "join"}
"""The key by which an entry without a training is known."""
AnyHybrid = Vbpr | Amr | Bpr
"""An entry that recommends to users."""


def _kind(value: Any) -> str | None:
    if isinstance(value, dict):
        if "recommender" in value:
            word = value["recommender"]
            return word if word in HYBRID_WORDS else "unknown"  # the word of a defense is none
        marked = (kind for kind, key in MARKS.items() if key in value)
        return next(marked, value.get("defense"))
    if isinstance(value, AnyHybrid):
        return value.recommender
    kinds = (kind for kind in MARKS if isinstance(value, KINDS[kind]))
    return next(kinds, getattr(value, "defense", None))


if TYPE_CHECKING:
    AnyModel = TrainedModel | LabelFree | OwnModel | JoinedModel | AnyHybrid
else:
    AnyModel = Annotated[
        functools.reduce(
            operator.or_, (Annotated[keys, Tag(kind)] for kind, keys in KINDS.items())
        ),
        Discriminator(_kind),
    ]
