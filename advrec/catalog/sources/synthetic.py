"""A catalog of drawn garments, written in the layout of DeepFashion's Category and Attribute
Prediction Benchmark.
"""

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advrec.catalog.listing import Listing
from advrec.catalog.sources import deepfashion
from advrec.catalog.sources.garments.draw import draw
from advrec.catalog.sources.garments.shapes import CATEGORIES
from advrec.catalog.sources.garments.textures import TEXTURES
from advrec.spec.catalog import CatalogSpec

# on top of the articles, as shares of their number
EXACT_SHARE, NEAR_SHARE, UNLABELLED_SHARE = 0.02, 0.02, 0.06
TWO_TEXTURES_SHARE = 0.08
SPLITS = {"train": 0.72, "val": 0.14, "test": 0.14}
QUALITY = 92  # of the JPEGs
_UPPER, _LOWER, _FULL = 1, 2, 3
_BODY_PART = {"Skirt": _LOWER, "Shorts": _LOWER, "Jeans": _LOWER, "Dress": _FULL, "Jumpsuit": _FULL}
_TEXTURE_TYPE = 1
_OTHER_ATTRIBUTES = {  # name -> type: 2 fabric, 3 shape, 4 part, 5 style
    "cotton": 2, "denim": 2, "faux leather": 2, "knit": 2,
    "a-line": 3, "boxy": 3, "maxi": 3, "slim fit": 3,
    "crew neck": 4, "long sleeve": 4, "pocket": 4, "zip up": 4,
    "classic": 5, "mickey mouse": 5, "party": 5, "retro": 5,
}  # fmt: skip
_UNKNOWN_SHARE = 0.1  # of the values of an image's absent attributes other than textures


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One image file of the catalog."""

    name: str  # "img/Striped_Tee/img_00000001.jpg", as DeepFashion names them
    category: str
    textures: tuple[str, ...]  # empty: an image without a texture label
    # labels of attribute types other than 1 (fabric 2, shape 3, part 4, style 5)
    attributes: tuple[str, ...]
    split: str  # "train" | "val" | "test"
    drawing: int  # seed of the drawing, in 0..2**62; copies share it
    # None | "exact" | "near": what kind of duplicate of the entry with the same drawing
    copy: str | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The catalog's images in file order: an original stands before its copies."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, kw_only=True)
class _Garment:
    """A distinct drawing, before it is given a split, a place and a name."""

    category: str
    textures: tuple[str, ...]
    attributes: tuple[str, ...]
    drawing: int


def read(spec: CatalogSpec, seed: int) -> Listing:
    """The drawn images below `spec.root`, which lie as DeepFashion's do."""
    return deepfashion.read(spec, seed)


def plan(articles: int, seed: int) -> Plan:
    """Decide on every image without drawing any.

    `articles` counts the distinct images with a texture; copies of them and images without a
    texture come on top.
    """
    rng = np.random.default_rng(seed)
    textured = _garments(rng, articles, textured=True)
    originals = textured + _garments(rng, round(UNLABELLED_SHARE * articles), textured=False)
    placed = [
        (float(place), garment, split, None)
        for place, garment, split in zip(
            rng.random(len(originals)), originals, _splits(rng, originals), strict=True
        )
    ]
    exact, near = round(EXACT_SHARE * articles), round(NEAR_SHARE * articles)
    copied = rng.choice(articles, exact + near, replace=False).tolist()
    copies = [
        # A place between the original's and the end: the reader keeps the first of equal images.
        (
            float(rng.uniform(placed[i][0], 1)),
            textured[i],
            str(rng.choice(list(SPLITS), p=list(SPLITS.values()))),
            kind,
        )
        for i, kind in zip(copied, ["exact"] * exact + ["near"] * near, strict=True)
    ]
    return Plan(
        entries=_named(sorted([*placed, *copies], key=lambda image: (image[0], image[3] or "")))
    )


def _garments(rng: np.random.Generator, count: int, *, textured: bool) -> list[_Garment]:
    """Garments with categories and textures independent of each other and each as frequent as its
    kin, shuffled.
    """
    categories, textures = rng.permutation(CATEGORIES).tolist(), rng.permutation(TEXTURES).tolist()
    garments = []
    for i in rng.permutation(count).tolist():
        turn, column = divmod(i, len(categories))
        # Every len(textures) turns each category meets each texture once; what is left over is
        # spread by the column.
        first = textures[(turn + column) % len(textures)]
        labels: tuple[str, ...] = (first,) if textured else ()
        if textured and rng.random() < TWO_TEXTURES_SHARE:
            labels += (str(rng.choice([texture for texture in textures if texture != first])),)
        attributes = rng.choice(
            list(_OTHER_ATTRIBUTES), int(rng.integers(0, 4)), replace=False
        ).tolist()
        drawing = int(rng.integers(2**62))
        garments.append(
            _Garment(
                category=categories[column],
                textures=labels,
                attributes=tuple(attributes),
                drawing=drawing,
            )
        )
    return garments


def _splits(rng: np.random.Generator, garments: Sequence[_Garment]) -> list[str]:
    """A split for each garment, in its proportion within every category."""
    bounds = np.cumsum(list(SPLITS.values()))[:-1]
    splits = [""] * len(garments)
    for category in CATEGORIES:
        members = [i for i, garment in enumerate(garments) if garment.category == category]
        cuts = np.round(bounds * len(members)).astype(int)
        for split, part in zip(SPLITS, np.split(rng.permutation(members), cuts), strict=True):
            for i in part.tolist():
                splits[int(i)] = split
    return splits


def _named(images: Iterable[tuple[float, _Garment, str, str | None]]) -> tuple[Entry, ...]:
    """Entries in the order given, numbered within their folders."""
    numbers: Counter[str] = Counter()
    entries = []
    for _, garment, split, kind in images:
        folder = (
            " ".join([*(garment.textures or ("plain",)), garment.category])
            .title()
            .replace(" ", "_")
        )
        numbers[folder] += 1
        entries.append(
            Entry(
                name=f"img/{folder}/img_{numbers[folder]:08d}.jpg",
                category=garment.category,
                textures=garment.textures,
                attributes=garment.attributes,
                split=split,
                drawing=garment.drawing,
                copy=kind,
            )
        )
    return tuple(entries)


def write_images(root: Path, entries: Sequence[Entry]) -> None:
    """Draw the entries and write them as JPEGs below root; any division of a plan's entries gives
    the same files.
    """
    for entry in entries:
        path = root / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw(entry.category, entry.textures, entry.drawing)
        path.write_bytes(_near_copy(pixels) if entry.copy == "near" else _jpeg(pixels, QUALITY))


def _jpeg(pixels: NDArray[np.uint8], quality: int, comment: str = "") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, comment=comment)
    return buffer.getvalue()


def _near_copy(pixels: NDArray[np.uint8]) -> bytes:
    """The picture at another JPEG quality and a level brighter or darker, with the perceptual hash
    of the original.

    A hash bit whose coefficient lies at the threshold flips for a hair, so the mildest changes are
    tried in turn; when each flips one, the copy differs from its original by a comment in the file.
    """
    wanted = _hash_bits(_jpeg(pixels, QUALITY))
    for quality in (QUALITY + 2, QUALITY - 2, QUALITY + 4, QUALITY + 6):
        for change in (1, -1, 2, -2):
            copy = _jpeg(
                np.clip(pixels.astype(np.int16) + change, 0, 255).astype(np.uint8), quality
            )
            if np.array_equal(_hash_bits(copy), wanted):
                return copy
    return _jpeg(pixels, QUALITY, comment="copy")


@cache
def _cosines() -> NDArray[np.float64]:
    """The first eight rows (8, 32) of the discrete cosine transform of 32 values, unscaled."""
    return np.cos(np.pi / 32 * np.outer(np.arange(8), np.arange(32) + 0.5))


def _hash_bits(jpeg: bytes) -> NDArray[np.bool_]:
    """The 64 bits of imagededup's PHash: low frequencies of the 32 x 32 grey picture against their
    median.
    """
    small = Image.open(io.BytesIO(jpeg)).resize((32, 32), Image.Resampling.LANCZOS).convert("L")
    frequencies = (_cosines() @ np.asarray(small, np.float64) @ _cosines().T).ravel()
    return np.asarray(frequencies >= np.median(frequencies[1:]))


def write_annotations(root: Path, plan: Plan) -> None:
    """anno/*.txt and eval/*.txt, with the plan's images in its order."""
    types = dict(
        sorted(({texture: _TEXTURE_TYPE for texture in TEXTURES} | _OTHER_ATTRIBUTES).items())
    )
    parts = {category: _BODY_PART.get(category, _UPPER) for category in CATEGORIES}
    label = {category: number for number, category in enumerate(CATEGORIES, start=1)}
    images = plan.entries
    tables: dict[str, tuple[str, Iterable[tuple[str, object]], int]] = {
        "anno/list_category_cloth.txt": ("category_name  category_type", parts.items(), 12),
        "anno/list_category_img.txt": (
            "image_name  category_label",
            ((i.name, label[i.category]) for i in images),
            60,
        ),
        "anno/list_attr_cloth.txt": ("attribute_name  attribute_type", types.items(), 20),
        "anno/list_attr_img.txt": (
            "image_name  attribute_labels",
            ((i.name, _values(i, types)) for i in images),
            60,
        ),
        "eval/list_eval_partition.txt": (
            "image_name  evaluation_status",
            ((i.name, i.split) for i in images),
            60,
        ),
    }
    for name, (header, rows, width) in tables.items():
        lines = [f"{left:<{width}}  {right}\n" for left, right in rows]
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{len(lines)}\n{header}\n{''.join(lines)}", encoding="utf-8")


def _values(entry: Entry, attributes: dict[str, int]) -> str:
    """A value per attribute: 1 positive, -1 negative, 0 unknown (never of a texture)."""
    unknown = np.random.default_rng([entry.drawing, 1]).random(len(attributes)) < _UNKNOWN_SHARE
    present = {*entry.textures, *entry.attributes}
    values = [
        1 if name in present else 0 if lost and kind != _TEXTURE_TYPE else -1
        for (name, kind), lost in zip(attributes.items(), unknown.tolist(), strict=True)
    ]
    return " ".join(f"{value:2d}" for value in values)
