"""Splits of a catalog: their spellings, and the split of an image that names none."""

import hashlib
from collections.abc import Sequence

from advrec.spec.base import Split

SPELLINGS: dict[str, Split] = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}
TRAIN, VALIDATION = 0.70, 0.85  # cumulative shares; the rest is the test split
SMALLEST = 4  # images of a category that has one in the test split


def split(names: Sequence[str], seed: int) -> list[tuple[str, Split]]:
    """The names of one category, each with its split, 70/15/15 in the order of the hash of seed and
    name.

    The same files are split alike everywhere, and a new one moves at most the few at the borders.
    """
    by_hash = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    share = {name: (place + 0.5) / len(names) for place, name in enumerate(by_hash)}
    return [(name, _at(share[name])) for name in names]


def _at(share: float) -> Split:
    if share < TRAIN:
        return "train"
    return "validation" if share < VALIDATION else "test"
