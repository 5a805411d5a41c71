"""A door: what a model does to every image itself before it is embedded, the catalog's own too."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from advrec.delivery.chain import Chain
from advrec.spec.deliveries import Step, ingest_steps

Encoder = Callable[[Tensor], Tensor]
"""Images (N, 3, H, W) in [0, 1] to embeddings (N, D)."""
VERDICT, ATTACK = "verdict", "attack"
"""Noise of the catalog and of what is measured, or of what an attack looks at."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Door:
    """The ingest of a model, as its weights file records it."""

    ingest: str
    """Steps, as in a study."""
    seed: int = 0
    """Seed of its noise."""

    def embed(
        self,
        encoder: Encoder,
        images: Tensor,
        *,
        noise_of: str = VERDICT,
        training: bool = False,
    ) -> Tensor:
        """Embeddings (N, D) of images (N, 3, H, W) in [0, 1]; gradients pass the chain by its
        slope.

        `smooth-S-N` averages the embeddings of N noisy images (Cohen et al. 2019). The noise of an
        image is drawn by its own content. So an image that nobody changes has one embedding,
        whoever else is in the batch. One that an attack changes meets new noise at every step.

        Args:
            noise_of: what an attack looks at has other noise than the verdict.
            training: one noisy image in the place of N, drawn as dropout is; else the encoder is
                frozen.
        """
        arrived = images if self._chain is None else self._chain.straight_through(images)
        if self._noise is None:
            return encoder(arrived)
        size, samples = self._noise.number, int(self._noise.option)
        if training:
            return encoder(arrived + size * torch.randn_like(arrived))
        streams = [self._stream(image, noise_of) for image in arrived.detach()]
        noises = [
            size * torch.stack([torch.randn(images.shape[1:], generator=g) for g in streams])
            for _ in range(samples)
        ]
        mean: Tensor = _Mean.apply(encoder, arrived, [noise.to(arrived) for noise in noises])
        return mean

    def _stream(self, image: Tensor, noise_of: str) -> torch.Generator:
        """The random stream of an image (3, H, W)."""
        content = hashlib.blake2b(f"{self.seed} {noise_of} ".encode(), digest_size=8)
        content.update(image.float().cpu().contiguous().numpy().tobytes())
        return torch.Generator().manual_seed(int.from_bytes(content.digest()) % 2**63)

    @cached_property
    def _steps(self) -> tuple[Step, ...]:
        return ingest_steps(self.ingest)

    @cached_property
    def _noise(self) -> Step | None:
        return self._steps[-1] if self._steps[-1].kind == "smooth" else None

    @cached_property
    def _chain(self) -> Chain | None:
        """Steps before the noise."""
        steps = self._steps if self._noise is None else self._steps[:-1]
        return Chain(steps) if steps else None


class _Mean(torch.autograd.Function):
    """The mean embedding of noisy images by a frozen encoder. It keeps no activations: those of one
    sample at a time are computed again for the gradient.
    """

    @staticmethod
    def forward(ctx: Any, encoder: Encoder, images: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Embeddings (N, D) of images (N, 3, H, W), mean over noises (N, 3, H, W)."""
        ctx.save_for_backward(images)
        ctx.encoder, ctx.noises = encoder, noises
        total = encoder(_noisy(images, noises[0]))
        for noise in noises[1:]:
            total = total + encoder(_noisy(images, noise))
        return total / len(noises)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        """The gradient (N, 3, H, W) of the images, by that of the embeddings (N, D)."""
        (images,) = ctx.saved_tensors
        share = gradients[0] / len(ctx.noises)
        total = torch.zeros_like(images)
        for noise in ctx.noises:
            with torch.enable_grad():
                noisy = _noisy(images, noise).requires_grad_()
                (gradient,) = torch.autograd.grad(ctx.encoder(noisy), noisy, share)
            total += gradient
        return None, total, None


def _noisy(images: Tensor, noise: Tensor) -> Tensor:
    """Images (N, 3, H, W) with noise, channels last in memory."""
    return (images.detach() + noise).contiguous(memory_format=torch.channels_last)
