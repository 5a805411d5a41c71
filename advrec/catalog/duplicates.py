"""Duplicates by perceptual hash: imagededup encodes; equal or near hashes are one article, of which
the first stays.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from advrec.catalog.pixels import Pixels
from advrec.run import schema
from advrec.run.compat import imagededup_phash
from advrec.spec.base import SPLITS

BITS = 64
NEAR = 4  # bits; up to here two images of different splits are reported as near duplicates
Hashes = npt.NDArray[np.uint64]
Pairs = npt.NDArray[np.int64]


def phash(pixels: Pixels) -> int:
    """imagededup's PHash of an RGB image (H, W, 3) uint8: 64 bits."""
    return int(imagededup_phash().encode_image(image_array=pixels), 16)


def near_pairs(distinct: Hashes, distance: int) -> tuple[Pairs, npt.NDArray[np.int64]]:
    """All pairs of different hashes that differ in at most `distance` bits, without comparing each
    with each.

    The bits are cut into distance + 2 bands. Two hashes that near agree in two bands at least, by
    the pigeonhole argument of Manku et al. 2007, "Detecting near-duplicates for web crawling". Only
    those that agree in some two of the bands are compared.

    Args:
        distinct: (n,), each once.

    Returns:
        Pairs (P, 2) of places, i < j, in ascending order; and their distances (P,).
    """
    found = [np.zeros(0, dtype=np.int64)]
    if distance:
        for one, other in _candidates(distinct, distance):
            near = np.bitwise_count(distinct[one] ^ distinct[other]) <= distance
            found.append(
                np.minimum(one, other)[near] * len(distinct) + np.maximum(one, other)[near]
            )
    coded = np.unique(np.concatenate(found))
    pairs = np.stack(np.divmod(coded, max(len(distinct), 1)), axis=1)
    return pairs, np.bitwise_count(distinct[pairs[:, 0]] ^ distinct[pairs[:, 1]]).astype(np.int64)


def first_of_each(hashes: Hashes, distance: int) -> npt.NDArray[np.int64]:
    """Places (n,) of the items that stand for hashes (n,): an item's own, or that of the first kept
    one within `distance` bits.

    An item is kept unless an earlier kept one is that near, so a chain of small changes does not
    pull different articles together.
    """
    distinct, first, groups = np.unique(hashes, return_index=True, return_inverse=True)
    stands_for = np.arange(len(distinct))
    if distance:
        order = np.argsort(first, kind="stable")  # distinct hashes by first appearance
        pairs, _ = near_pairs(distinct[order], distance)
        kept = np.arange(len(order))
        for earlier, later in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))].tolist():
            if kept[earlier] == earlier and kept[later] == later:
                kept[later] = earlier
        stands_for[order] = order[kept]
    return first[stands_for[groups]].astype(np.int64)


def equal_images(sha256: Sequence[str]) -> npt.NDArray[np.int32]:
    """The group of equal prepared images that each article (N,) belongs to, from 1 on; 0 where no
    other article shows its image, or where its hash is not known (empty).
    """
    names, group_of, counts = np.unique(np.array(sha256), return_inverse=True, return_counts=True)
    several = (counts > 1) & (names != "")
    numbers = np.where(several, np.cumsum(several), 0)
    return numbers[group_of].astype(np.int32)


def near_duplicates(hashes: Hashes, splits: Sequence[str]) -> pa.Table:
    """The nearest article in each other split, within NEAR bits, of every article that has one
    (NEAR_DUPLICATES); of several as near the first.

    Args:
        hashes: (A,), one an article.
        splits: A names of splits.
    """
    distinct, hash_of = np.unique(hashes, return_inverse=True)
    split = np.array(splits, dtype=str)
    pairs, distances = near_pairs(distinct, NEAR)
    # Every hash beside each that is near to it, itself included.
    themselves = np.arange(len(distinct))
    here = np.concatenate([themselves, pairs[:, 0], pairs[:, 1]])
    there = np.concatenate([themselves, pairs[:, 1], pairs[:, 0]])
    bits = np.concatenate([np.zeros(len(distinct), dtype=np.int64), distances, distances])
    parts = []
    for other in SPLITS:
        members = np.flatnonzero(split == other)
        first = np.full(len(distinct), -1, dtype=np.int64)  # article of the other split by hash
        first[hash_of[members][::-1]] = members[::-1]
        order = np.lexsort((first[there], bits, here))
        order = order[first[there[order]] >= 0]
        best = np.full(len(distinct), -1, dtype=np.int64)  # place of the nearest, by hash
        best[here[order][::-1]] = order[::-1]
        articles = np.flatnonzero((split != other) & (best[hash_of] >= 0))
        nearest = best[hash_of[articles]]
        parts.append(
            (
                articles,
                split[articles],
                first[there[nearest]],
                np.full(len(articles), other),
                bits[nearest],
            )
        )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return schema.table(
        schema.NEAR_DUPLICATES, dict(zip(schema.NEAR_DUPLICATES.names, columns, strict=True))
    )


def first_ranks(sha256: Sequence[str], splits: Sequence[str]) -> dict[str, dict[str, float]]:
    """First ranks behind equal images, by split of the target; a split without such is absent.

    Returns:
        articles: those with an equal one in the catalog; smallest, median and largest of their
        first rank, the best that an attacked article can have where they are the target.
    """
    groups, split = equal_images(sha256), np.array(splits, dtype=str)
    first = np.bincount(groups)[groups]  # its copies are one less
    return {
        name: {
            "articles": len(ranks),
            "smallest": int(ranks.min()),
            "median": float(np.median(ranks)),
            "largest": int(ranks.max()),
        }
        for name in SPLITS
        if len(ranks := first[(groups > 0) & (split == name)])
    }


def count_near(near: pa.Table) -> dict[str, int]:
    """Numbers of test articles that have one in train within each distance, 0 to NEAR bits. They
    inflate a model's test accuracy.
    """
    counts = Counter(
        row["distance"]
        for row in near.to_pylist()
        if (row["split"], row["other_split"]) == ("test", "train")
    )
    return {
        str(distance): sum(counts[d] for d in range(distance + 1)) for distance in range(NEAR + 1)
    }


def _candidates(distinct: Hashes, distance: int) -> Iterator[tuple[Pairs, Pairs]]:
    """Places of hashes that agree in some two of distance + 2 bands, as one array of each side."""
    edges = [BITS * band // (distance + 2) for band in range(distance + 3)]
    bands = [((1 << high) - (1 << low)) for low, high in itertools.pairwise(edges)]
    for one, other in itertools.combinations(bands, 2):
        keys = distinct & np.uint64(one | other)
        order = np.argsort(keys, kind="stable")
        keys, places = keys[order], np.arange(len(order))
        for step in range(1, len(order)):
            places = places[places + step < len(order)]
            places = places[keys[places] == keys[places + step]]
            if not len(places):
                break
            yield order[places], order[places + step]
