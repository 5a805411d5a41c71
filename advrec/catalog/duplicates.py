"""Duplicates by perceptual hash: imagededup encodes, equal hashes are duplicates, the first of each group stays."""

import functools
from collections.abc import Sequence
from typing import cast

import imagededup.methods

from advrec.catalog.pixels import Pixels


@functools.cache
def _hasher() -> imagededup.methods.PHash:
    return imagededup.methods.PHash(verbose=False)


def phash(pixels: Pixels) -> str:
    """imagededup's PHash of an RGB image (H, W, 3) uint8: 16 hexadecimal digits."""
    return cast(str, _hasher().encode_image(image_array=pixels))


def first_of_each(hashes: Sequence[str]) -> list[int]:
    """Places of the items to keep, in order: the first of every group of equal hashes."""
    first: dict[str, int] = {}
    for place, value in enumerate(hashes):
        first.setdefault(value, place)
    return list(first.values())
