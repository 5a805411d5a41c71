"""Several networks as one: their embeddings at unit length, weighted, side by side."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from advrec.delivery.door import Door
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.model.guarded import Guarded
from advrec.model.own import OwnArchitecture, OwnNetwork


@dataclasses.dataclass(frozen=True, kw_only=True)
class JoinedArchitecture:
    """Everything that is needed to build the network before its weights are loaded."""

    parts: tuple["Architecture | OwnArchitecture | JoinedArchitecture", ...]
    weights: tuple[float, ...]
    """The length of each part's embedding."""
    door: Door | None = None
    """Steps that every image passes before it comes to the parts, which may have doors too."""


class JoinedNetwork(Guarded):
    """Images (N, 3, H, W), RGB in [0, 1], to embeddings (N, dimension): weight times unit embedding
    of each part, side by side (Tuinhof et al. 2018).

    The cosine of two is the mean of the parts' cosines, each weighted by its weight squared. Each
    part prepares images itself, and has the form of its own that attacks are made on.
    """

    def __init__(
        self,
        architecture: JoinedArchitecture,
        parts: Sequence["FashionNet | OwnNetwork | JoinedNetwork"],
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.parts = nn.ModuleList(parts)
        self.dimension: int = sum(part.dimension for part in parts)

    @property
    def networks(self) -> list["FashionNet | OwnNetwork | JoinedNetwork"]:
        """The parts, in order."""
        return [
            part for part in self.parts if isinstance(part, FashionNet | OwnNetwork | JoinedNetwork)
        ]

    @property
    def is_guarded(self) -> bool:
        """Say whether there is a door, the network's or a part's."""
        return self.door is not None or any(part.is_guarded for part in self.networks)

    def bare(self, images: Tensor) -> Tensor:
        """Embeddings (N, dimension), float32, of images (N, 3, H, W), without any door."""
        return self._side_by_side([part.bare(images) for part in self.networks])

    def _within(self, images: Tensor, noise_of: str) -> Tensor:
        """Embeddings (N, dimension) of images (N, 3, H, W), each part's by its own door."""
        return self._side_by_side([part._embedded(images, noise_of) for part in self.networks])

    def plain(self, images: Tensor) -> Tensor:
        """The same, (N, dimension), layer by layer, as autograd does it."""
        return self._side_by_side([part.plain(images) for part in self.networks])

    def _side_by_side(self, embeddings: Sequence[Tensor]) -> Tensor:
        """Each part's embeddings (N, D) at the length of its weight, (N, sum of D)."""
        weighted = zip(self.architecture.weights, embeddings, strict=True)
        return torch.cat(
            [weight * functional.normalize(part, dim=1) for weight, part in weighted], dim=1
        )
