"""The classifier of the study: a backbone with two heads, categories and textures, over one
embedding; or with one of them.
"""

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor, nn

from advrec.delivery.door import Door
from advrec.model import backbones
from advrec.model.fused import Fused
from advrec.model.guarded import Guarded

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """Everything that is needed to build the network before its weights are loaded."""

    backbone: str
    width: float
    categories: tuple[str, ...]
    """Empty: no category head."""
    textures: tuple[str, ...]
    """Empty: no texture head."""
    door: Door | None = None
    """Steps that every image passes first."""


class Logits(NamedTuple):
    category: Tensor | None
    """(N, categories); None without a category head."""
    texture: Tensor | None
    """(N, textures), multi-label; None without a texture head."""


class FashionNet(Guarded):
    """Images (N, 3, H, W), RGB in [0, 1], to logits. Normalisation lies inside, so that attacks see
    pixels.
    """

    mean: Tensor
    std: Tensor
    fused: Fused | None = None
    """The faster way to the embeddings, of a frozen copy."""

    def __init__(self, architecture: Architecture, *, imagenet: bool = False) -> None:
        super().__init__()
        self.architecture = architecture
        self.makes_maps = architecture.backbone == "mobilenet_v2"
        self.backbone, self.dimension = backbones.build(
            architecture.backbone, width=architecture.width, imagenet=imagenet
        )
        self.dropout = nn.Dropout(0.2)
        self.category_head = (
            nn.Linear(self.dimension, len(architecture.categories))
            if architecture.categories
            else None
        )
        self.texture_head = (
            nn.Linear(self.dimension, len(architecture.textures)) if architecture.textures else None
        )
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def bare(self, images: Tensor) -> Tensor:
        """The penultimate feature vectors F(x), (N, dimension)."""
        return self.plain(images) if self.fused is None else self.fused(images)

    def plain(self, images: Tensor) -> Tensor:
        """The same, (N, dimension), layer by layer, as autograd does it."""
        features: Tensor = self.backbone((images - self.mean) / self.std)
        if not self.makes_maps:
            return features
        return nn.functional.adaptive_avg_pool2d(features, 1).flatten(1)

    def forward(self, images: Tensor) -> Logits:
        """Logits of images (N, 3, H, W) in [0, 1]."""
        return self.classify(self.embed(images))

    def classify(self, embeddings: Tensor) -> Logits:
        """Logits of embeddings (N, dimension)."""
        embeddings = self.dropout(embeddings)
        category = None if self.category_head is None else self.category_head(embeddings)
        texture = None if self.texture_head is None else self.texture_head(embeddings)
        return Logits(category, texture)
