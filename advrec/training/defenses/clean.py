"""No defense: training on the images as they are."""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from advrec.model.fashionnet import FashionNet
from advrec.training.data import Batch
from advrec.training.defenses.base import Defense
from advrec.training.schedule import Stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clean(Defense):
    """Training without a defense."""

    attacks: ClassVar[bool] = False

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the images (N, 3, H, W) of the batch."""
        yield batch.images
