"""Judges of a training: they say how good an epoch is, and what is measured in the end."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from advrec.attacks.apgd import APGD
from advrec.attacks.gradient import PGD
from advrec.catalog.dataset import Catalog
from advrec.model.checkpoint import Network
from advrec.model.encoder import to_images
from advrec.model.fashionnet import FashionNet
from advrec.recommenders.drift import drift
from advrec.spec import accuracy
from advrec.spec.base import Split
from advrec.training import data, quality
from advrec.training.schedule import Stage
from advrec.training.workers import Workers

TIE = 1e-6
"""Weight of clean accuracy in an epoch's score: it decides between epochs that withstand the attack
equally, as those do that never do.
"""
VALIDATED_IMAGES, MEASURED_IMAGES = 256, 1000
"""Most images that drift is measured on: after an epoch, and in the end."""
AT_ONCE = 16
"""Images whose drift is measured at once."""
Embed = Callable[[Tensor], Tensor]
"""Images (N, 3, H, W) to embeddings (N, D)."""
Attacked = Callable[[Embed, Tensor, Tensor, Stage, Tensor, Tensor], Tensor]
"""The attack of a training without labels, see `FineTuning.attacked`."""


ACCURACIES = ("validation_clean_accuracy", "validation_adversarial_accuracy")
PRECISIONS = ("validation_texture_precision", "validation_adversarial_texture_precision")
"""Fields of `Epoch`, clean and attacked, of a classifier with a category head, and without."""


class Validated(NamedTuple):
    """The judgement of an epoch."""

    score: float
    """The larger, the better."""
    measured: dict[str, float]
    """Fields of `Epoch`."""


class Judge(Protocol):
    def validate(self, network: Network, stage: Stage, epoch: int) -> Validated:
        """Judge a frozen network after an epoch, by all workers together.

        Args:
            stage: the attack that training defends against.
            epoch: counted from 0.
        """

    def metrics(self, network: Network, stage: Stage) -> dict[str, Any]:
        """Return metrics.json of a frozen network, measured on the test split."""


def selection(catalog: Catalog) -> Split:
    """Return the split that epochs are judged on."""
    return "validation" if len(catalog.ids_of("validation")) else "test"


class Accuracies:
    """Accuracy of a classifier, under the study's PGD of as many steps as the defense's. Without a
    category head it is the precision of the first texture.

    Where validation was merged into training (published_split) the study selected on the test
    split, and so does this; the metrics say so.
    """

    def __init__(self, catalog: Catalog, workers: Workers) -> None:
        self._catalog, self._workers = catalog, workers

    def validate(self, network: Network, stage: Stage, epoch: int) -> Validated:
        """Judge by accuracy under attack, or by clean accuracy without one."""
        ids = self._catalog.ids_of(selection(self._catalog))
        clean = self._right(network, self._count(network, ids))
        adversarial = clean
        if stage.steps:
            counts = self._count(network, ids, (PGD(steps=stage.steps),), stage.epsilon)
            adversarial = self._right(network, counts)
        names = ACCURACIES if _on_categories(network) else PRECISIONS
        measured = dict(zip(names, (clean, adversarial), strict=True))
        return Validated(adversarial + TIE * clean if stage.steps else clean, measured)

    def metrics(self, network: Network, stage: Stage) -> dict[str, Any]:
        """Return accuracies; see `quality.metrics`."""
        every = self._catalog.ids_of("test")
        first = every[: quality.CONVERGED_IMAGES]
        clean = self._count(network, every)
        attacked = self._count(network, every, (quality.PUBLISHED,), accuracy.EPSILON)
        robust = self._count(network, first, quality.CONVERGED, accuracy.EPSILON)
        selected = {"selected_on": selection(self._catalog)}
        on_categories = _on_categories(network)
        return quality.metrics(clean, attacked, robust, on_categories=on_categories) | selected

    def _right(self, network: Network, counts: Tensor) -> float:
        """The share of counts (5,) that an epoch is judged by."""
        hits, n = (1, 0) if _on_categories(network) else (4, 3)
        return float(counts[hits] / counts[n])

    def _count(
        self,
        network: Network,
        ids: data.Ids,
        attacks: Sequence[PGD | APGD] = (),
        epsilon: float = 0.0,
    ) -> Tensor:
        """Count over all workers; see `quality.count`, whose (5,) these are."""
        assert isinstance(network, FashionNet), "the study lets no such defense start elsewhere"
        own = quality.shard(ids, self._workers.rank, self._workers.world)
        counts = quality.count(network, self._catalog, own, attacks=attacks, epsilon=epsilon)
        return self._workers.total(counts)


def _on_categories(network: Network) -> bool:
    return not isinstance(network, FashionNet) or bool(network.architecture.categories)


class Drifts:
    """The drift of embeddings, clean and under the training's own attack.

    The last epoch is the best: the learning rate has fallen to nothing there, and without labels
    nothing says which trade-off of an earlier one is wanted.

    Args:
        rho: most that a clean embedding was to drift; None: as much as it may.
    """

    def __init__(
        self,
        catalog: Catalog,
        workers: Workers,
        original: Network,
        attacked: Attacked,
        rho: float | None = None,
    ) -> None:
        self._catalog, self._workers, self._original = catalog, workers, original
        self._attacked, self._rho = attacked, rho

    def validate(self, network: Network, stage: Stage, epoch: int) -> Validated:
        """Measure the median drifts on images of the validation split."""
        ids = self._catalog.ids_of(selection(self._catalog), VALIDATED_IMAGES)
        clean, attacked = self._drifts(network, ids, stage)
        measured = {
            "validation_drift": float(np.median(clean)),
            "validation_attacked_drift": float(np.median(attacked)),
        }
        return Validated(float(epoch), measured)

    def metrics(self, network: Network, stage: Stage) -> dict[str, Any]:
        """Return median and 95th percentile of the drifts, and the share, 0..1, of clean ones
        above rho.
        """
        ids = self._catalog.ids_of("test", MEASURED_IMAGES)
        clean, attacked = self._drifts(network, ids, stage)
        return {
            "n": len(ids),
            "drift_median": float(np.median(clean)),
            "drift_95": float(np.quantile(clean, 0.95)),
            "attacked_drift_median": float(np.median(attacked)),
            "attacked_drift_95": float(np.quantile(attacked, 0.95)),
            "attack_steps": stage.steps,
            "attack_epsilon": stage.epsilon,
        } | self._constraint(clean)

    def _constraint(self, clean: np.ndarray[Any, Any]) -> dict[str, float]:
        if self._rho is None:
            return {}
        return {"rho": self._rho, "above_rho": float(np.mean(clean > self._rho))}

    def _drifts(
        self, network: Network, ids: data.Ids, stage: Stage
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Drifts (n,) of the articles' images, clean and attacked, over all workers.

        They are the same for any number of workers: who does what is decided by whole batches, and
        an article's noise and the other article that it may be moved towards are its own.
        """
        others = np.roll(ids, 1) if len(ids) > 1 else (ids + 1) % len(self._catalog)
        batches = np.arange(0, len(ids), AT_ONCE)[self._workers.rank :: self._workers.world]
        parts = [(torch.zeros(0, dtype=torch.int64), torch.zeros(0), torch.zeros(0))]
        for start in batches:
            some = slice(start, start + AT_ONCE)
            places = torch.arange(len(ids))[some]
            parts.append((places, *self._of(network, ids[some], others[some], stage)))
        places, *both = [torch.cat(each) for each in zip(*parts, strict=True)]
        clean, attacked = (self._workers.gathered(each, places, len(ids)).numpy() for each in both)
        return clean, attacked

    def _of(
        self, network: Network, ids: data.Ids, others: data.Ids, stage: Stage
    ) -> tuple[Tensor, Tensor]:
        """Drifts (n,) of a few articles (n,); `others` (n,) are those they may be moved towards."""
        device = next(network.parameters()).device
        images, towards = (to_images(self._catalog.pixels(each), device) for each in (ids, others))
        noise = torch.stack([_noise(article, images.shape[1:]) for article in ids]).to(images)
        with torch.no_grad():
            originals, clean = self._original.embed(images), network.embed(images)
        moved = self._attacked(network.embed, images, originals, stage, noise, towards)
        with torch.no_grad():
            both = clean, network.embed(moved)
        before = originals.cpu().numpy()
        first, second = (torch.from_numpy(drift(each.cpu().numpy(), before)) for each in both)
        return first, second


def _noise(article: int, shape: torch.Size) -> Tensor:
    """The noise (3, H, W) in [-1, 1) that an attack on an article's image begins with."""
    generator = torch.Generator().manual_seed(int(article))
    return torch.rand(shape, generator=generator) * 2.0 - 1.0
