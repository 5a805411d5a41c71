"""A delivery: what a shop does to an image that is uploaded before its encoder sees it."""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from advrec.delivery import codecs, filters, jpeg, scaling
from advrec.delivery.codecs import Pixels
from advrec.errors import ConfigError
from advrec.spec import deliveries
from advrec.spec.deliveries import DEFAULT_FILTER, Step


def eight_bits(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) in [0, 1], each value at the nearest of 256 levels."""
    return (images * 255.0).round_().div_(255.0)


def straight_through(
    images: Tensor, deliver: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]
) -> Tensor:
    """Images (N, C, H, W) as a delivery makes them, to the last bit, with the gradient of another
    function (Bengio et al. 2013; BPDA, Athalye et al. 2018).

    Args:
        slope: a differentiable one, of the same shapes.
    """
    arrived = deliver(images.detach())
    if not images.requires_grad:
        return arrived
    seen = slope(images)
    return arrived + (seen - seen.detach())


@dataclasses.dataclass(frozen=True)
class Chain:
    """Steps of a delivery, in order, on images of the catalog's size; what comes back has that
    size again.

    Each step gets and leaves 8 bits a value. `upload-N` hands the image in at N pixels a side, each
    pixel repeated. At the end the image is scaled to the catalog's size by the last filter named.
    An image whose changes are whole levels at most stays within them in 8 bits; what happens to it
    then is the shop's change.
    """

    steps: tuple[Step, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] as the encoder gets them."""
        if all(step.kind == "png" for step in self.steps):
            return eight_bits(images)
        pixels = (images * 255.0).round_().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        arrived = np.stack([self._arrived(image) for image in pixels])
        return torch.from_numpy(arrived).to(images.device).permute(0, 3, 1, 2).float().div_(255.0)

    def straight_through(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) as they arrive, to the last bit, with the gradient of the slope."""
        return straight_through(images, self, self.slope)

    def slope(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) as gradients see the chain: scaling and blur as they are, a
        JPEG by its arithmetic, anything else as the identity (straight-through, Bengio et al. 2013;
        BPDA, Athalye et al. 2018).

        In an upload of its own size a JPEG is the identity too: it keeps blocks of equal pixels.
        Why arithmetic: through JPEG 75 at 64 pixels and 0.01, `auto` brought 26 of 32 tuples to
        rank 3, and 4 by the identity.
        """
        height, width = images.shape[2:]
        if self.steps[0].kind == "upload":
            return scaling.by_matrices(images, self._line(height), self._line(width))
        seen = images
        for step in self.steps:
            if step.kind == "scale":
                rows, columns = (_scaled(size, step.number) for size in seen.shape[2:])
                seen = scaling.seen(seen, rows, columns, step.option)
            elif step.kind == "jpeg":
                seen = jpeg.seen(seen, step)
            elif step.kind == "blur":
                lines = [filters.blur(step.number, size) for size in seen.shape[2:]]
                seen = scaling.by_matrices(seen, *lines)
        return scaling.seen(seen, height, width, self._filter)

    def enlargement(self, size: int) -> int:
        """The number of times that each pixel of an image, `size` pixels a side, is repeated in
        both directions as it is handed in.

        Raises:
            ConfigError: the upload is no multiple of the image.
        """
        first = self.steps[0]
        if first.kind != "upload":
            return 1
        try:
            deliveries.refuse_size(first.name, size)
        except ValueError as error:
            raise ConfigError(f"delivery {first.name}: {error}") from None
        return int(first.number) // size

    @property
    def _filter(self) -> str:
        """The filter that scales to the catalog's size at the end."""
        named = [step.option for step in self.steps if step.kind in ("scale", "upload")]
        return named[-1] if named else DEFAULT_FILTER

    def _arrived(self, image: Pixels) -> Pixels:
        """One image (H, W, 3) uint8 as it comes back."""
        height, width = image.shape[:2]
        times = self.enlargement(max(height, width))
        image = image.repeat(times, 0).repeat(times, 1)
        for step in self.steps:
            if step.kind == "scale":
                rows, columns = (_scaled(size, step.number) for size in image.shape[:2])
                image = scaling.scaled(image, rows, columns, step.option)
            elif step.kind in codecs.CODECS:
                image = codecs.stored(image, step)
            elif step.kind in filters.FILTERS:
                image = filters.filtered(image, step)
        return scaling.scaled(image, height, width, self._filter)

    def _line(self, size: int) -> npt.NDArray[np.float32]:
        """The matrix (size, size) by which scaling and blur change a line of `size` pixels."""
        line = np.eye(size, dtype=np.float32).repeat(self.enlargement(size), 0)
        for step in self.steps:
            if step.kind == "scale":
                to = _scaled(len(line), step.number)
                line = scaling.matrix(step.option, len(line), to) @ line
            elif step.kind == "blur":
                line = filters.blur(step.number, len(line)) @ line
        return scaling.matrix(self._filter, len(line), size) @ line


def _scaled(size: int, factor: float) -> int:
    """A size by a factor, one pixel at least."""
    return max(1, round(size * factor))


def chain(delivery: str) -> Chain:
    """The chain of a delivery.

    `png` is lossless with 8 bits. `jpeg-Q`, `webp-Q` and `avif-Q` are Pillow's encoders at quality
    Q, which store colours at half the resolution; `jpeg-Q-444` stores them at the full one.

    Raises:
        ConfigError: this Pillow lacks a codec of it.
    """
    codecs.check([delivery])
    return Chain(deliveries.steps(delivery))
