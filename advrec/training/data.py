"""Labelled batches from the catalog: seeded order, shared out to workers."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from advrec.catalog.dataset import Catalog
from advrec.model.encoder import to_images
from advrec.run.directory import Run
from advrec.spec.label_free import TRAIN, LabelFree
from advrec.spec.models import AnyTraining

Ids = npt.NDArray[np.int32]


class Batch(NamedTuple):
    images: Tensor
    """(N, 3, H, W) in [0, 1]"""
    categories: Tensor
    """(N,) int64"""
    textures: Tensor | None
    """(N, textures) 0 or 1; None where the catalog knows none"""
    originals: Tensor | None = None
    """(N, D), embeddings by the network as it was before; None where no defense asks for them"""


class Source(NamedTuple):
    """The images that a training takes its batches from."""

    catalog: Catalog
    ids: Ids
    """(n,) of its articles"""


def source(run: Run, spec: AnyTraining, catalog: Catalog) -> Source:
    """Return what an entry trains on; images of a folder are prepared in the run."""
    if not isinstance(spec, LabelFree) or spec.images == TRAIN:
        return Source(catalog, catalog.ids_of("train"))
    if spec.folder is None:
        return Source(catalog, np.arange(len(catalog), dtype=np.int32))
    prepared = Catalog(run.training_images(spec.folder))
    return Source(prepared, prepared.ids_of("train"))


def load(catalog: Catalog, article_ids: Ids, device: torch.device) -> Batch:
    """Load the articles (N,) as a batch of images (N, 3, H, W) with their labels."""
    textures = (
        torch.from_numpy(catalog.texture_labels[article_ids]).to(device, torch.float32)
        if catalog.textures
        else None
    )
    categories = torch.from_numpy(catalog.category_labels[article_ids]).to(device)
    return Batch(to_images(catalog.pixels(article_ids), device), categories, textures)


def shuffled(
    article_ids: Ids, size: int, *, seed: int, epoch: int, rank: int, world: int
) -> Iterator[Ids]:
    """Yield this worker's share (size / world,) of every batch of an epoch, in a random order.

    All workers together see each article at most once. A last, incomplete batch is left out, unless
    it is the only one.

    Args:
        article_ids: (n,) of all that is trained on.
        size: articles of a whole batch.
    """
    order = np.random.default_rng([seed, epoch]).permutation(article_ids)
    for start in range(0, max(len(order) - size, 0) + 1, size):
        yield order[start : start + size][rank::world]
