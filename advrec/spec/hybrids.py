"""The hybrid recommenders of a study: the keys of each kind. They recommend to users, from what
these have bought and from the embeddings of an encoder of the study.
"""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field

from advrec.spec.base import Name
from advrec.spec.training import Entry

Decay = Annotated[float, Field(ge=0.0)]


class Hybrid(Entry):
    """The keys of every hybrid recommender."""

    trained_here: ClassVar[bool] = False
    init: ClassVar[str] = "none"
    weights: ClassVar[str] = "none"
    defense: ClassVar[str] = "none"

    recommender: str
    """The kind of hybrid recommender."""
    encoder: Name
    """Name of the model of the study above it whose embeddings it uses."""
    factors: Annotated[int, Field(ge=1, le=4096)] = 32
    """Length k of the vectors of users and articles."""
    epochs: Annotated[int, Field(ge=1)] = 30
    """Epochs; in each every purchase of training is met once, with one other article."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 0.003
    """Learning rate of Adam."""
    batch: Annotated[int, Field(ge=1)] = 256
    """Purchases a training step."""
    decay: Decay = 0.05
    """Weight of the squared lengths of the vectors of a purchase's user and articles."""

    @classmethod
    def word(cls) -> str:
        """The word in `recommender` that stands for this kind."""
        word: str = get_args(cls.model_fields["recommender"].annotation)[0]
        return word

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole training."""
        return self.epochs

    def resolved(self, image_size: int, directory: Path) -> Self:
        """Return the entry; its defaults depend on nothing."""
        return self


class Bpr(Hybrid):
    """Matrix factorisation, which sees no image (Rendle et al. 2009): the control of the others."""

    recommender: Literal["bpr"]
    bias_decay: Decay = 0.5
    """Weight of the squared biases of a purchase's articles."""


class Vbpr(Hybrid):
    """Visual Bayesian personalised ranking (He & McAuley 2016)."""

    recommender: Literal["vbpr"]
    bias_decay: Decay = 0.5
    """Weight of the squared biases of a purchase's articles."""
    visual_factors: Annotated[int, Field(ge=1, le=4096)] = 32
    """Length m of what embeddings are projected to, and of the users' vectors for that."""
    visual_decay: Decay = 0.0003
    """Weight of the squared values of the projection and of the visual bias."""


class Amr(Hybrid):
    """Adversarial multimedia recommendation (Tang et al. 2019): a visual ranking without biases
    that is trained against perturbed embeddings too.
    """

    recommender: Literal["amr"]
    visual_decay: Decay = 0.0003
    """Weight of the squared values of the projection."""
    epsilon: Annotated[float, Field(ge=0.0)] = 0.1
    """Length of the perturbation of an embedding; the embeddings' own root mean square distance
    from their mean counts as 1.
    """
    weight: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the loss of perturbed embeddings."""
    clean_epochs: Annotated[int, Field(ge=0)] = 30
    """Epochs without that loss before the others: the published training starts from a trained
    model of its own form.
    """

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole training."""
        return self.clean_epochs + self.epochs


RECOMMENDERS: tuple[type[Hybrid], ...] = (Vbpr, Amr, Bpr)
HYBRID_WORDS = tuple(keys.word() for keys in RECOMMENDERS)
"""The allowed words of `recommender`."""
