"""The keys of every model of a study, and those of every training."""

from typing import Annotated, ClassVar, get_args

from pydantic import Field

from advrec.spec.base import Strict
from advrec.spec.deliveries import Ingest

Steps = Annotated[int, Field(ge=1)]


class Entry(Strict):
    """The keys of every model, trained here or elsewhere."""

    compared: bool = True
    """False: the model is trained or taken for what others make of it (init, from), but not
    attacked, examined or shown beside the others.
    """


class Embedding(Entry):
    """The keys of every model that embeds images."""

    ingest: Ingest | None = None
    """Steps that every image passes before it is embedded, the catalog's own too: those of a
    delivery but for upload-N, as jpeg-75, bits-5 or scale-0.5+blur-1. smooth-S-N, last: noise of
    standard deviation S (pixels have 0 to 1) is added N times, and the embeddings are averaged.
    Training sees images so too. It acts before all parts of a joined model. By default nothing is
    done.
    """


class Training(Embedding):
    """The keys of every training, with labels or without."""

    trained_here: ClassVar[bool] = True
    label: ClassVar[str]
    """The defense's name in a report."""
    implementation: ClassVar[str]
    """package.module:Class of the `Defense` that has these keys."""

    defense: str
    init: str = "none"
    """Name of another model of the study whose trained weights this one starts from."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Epochs at most: 8 unless given; of the published recipe 24, and of its curriculum as many as
    it takes.
    """
    batch: Annotated[int, Field(ge=2)] = 32
    """Images a training step, over all workers."""
    learning_rate: Annotated[float, Field(gt=0.0)] | None = None
    """Full learning rate: 0.002 unless given; of the published recipe 0.001."""

    @classmethod
    def word(cls) -> str:
        """The word in `defense` that stands for this defense."""
        word: str = get_args(cls.model_fields["defense"].annotation)[0]
        return word

    @property
    def total_epochs(self) -> int | None:
        """Epochs of the whole training; None: known only when it is over."""
        return self.epochs

    @property
    def steps_a_batch(self) -> int:
        """Optimizer steps that training takes on each batch."""
        return 1

    def steps_an_epoch(self, articles: int) -> int:
        """Count the optimizer steps of an epoch; a last, incomplete batch is left out unless it is
        the only one.

        Args:
            articles: of the training split.
        """
        return (max(articles - self.batch, 0) // self.batch + 1) * self.steps_a_batch


class Triplets(Strict):
    """The keys of anti-collapse triplets."""

    margin: Annotated[float, Field(gt=0.0, le=2.0)] = 0.2
    """Cosine distance by which an attacked image is to stay nearer to itself than to the article
    it was moved towards.
    """
    weight: Annotated[float, Field(gt=0.0)] = 4.0
    """Weight of the triplets against the rest of the loss: that of the classes, of act-fare the
    drift of clean and attacked images.
    """
