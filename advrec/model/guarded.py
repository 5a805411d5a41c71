"""Networks behind a door: what the verdict, an attack that knows of the door, and a blind one
embed.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from advrec.delivery.door import ATTACK, VERDICT, Door


class Guarded(nn.Module):
    """A network from images (N, 3, H, W), RGB in [0, 1], to embeddings (N, D), which may have a
    door.
    """

    architecture: Any
    """With a field door."""

    @property
    def door(self) -> Door | None:
        """Steps that every image passes first."""
        door: Door | None = self.architecture.door
        return door

    @property
    def is_guarded(self) -> bool:
        """Say whether there is a door."""
        return self.door is not None

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings (N, D) of images (N, 3, H, W), as the catalog has them."""
        return self._embedded(images, VERDICT)

    def seen(self, images: Tensor) -> Tensor:
        """The same, (N, D), as an attack sees it that passes the door: by noise of its own."""
        return self._embedded(images, ATTACK)

    def bare(self, images: Tensor) -> Tensor:
        """Embeddings (N, D) of images (N, 3, H, W) by the network without its door."""
        raise NotImplementedError

    def _embedded(self, images: Tensor, noise_of: str) -> Tensor:
        if self.door is None:
            return self._within(images, noise_of)
        return self.door.embed(
            lambda arrived: self._within(arrived, noise_of),
            images,
            noise_of=noise_of,
            training=self._learns(),
        )

    def _learns(self) -> bool:
        """Say whether weights are trained, also where their network is in evaluation mode."""
        asked = torch.is_grad_enabled() and any(each.requires_grad for each in self.parameters())
        return self.training or asked

    def _within(self, images: Tensor, noise_of: str) -> Tensor:
        """Embeddings (N, D) of images (N, 3, H, W) that have passed the door."""
        return self.bare(images)

    def behind(self, door: Door | None) -> None:
        """Put the network behind another door, or none."""
        self.architecture = dataclasses.replace(self.architecture, door=door)


def door_of(ingest: str | None, seed: int) -> Door | None:
    """The door of a model's entry in a study of that seed."""
    return None if ingest is None else Door(ingest=ingest, seed=seed)
