"""The canvas of a drawn photograph: coverage, noise, colours and backdrops, (SIZE, SIZE) each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Floats = NDArray[np.floating[Any]]  # float32 everywhere
Polygons = Sequence[Floats]
Rng = np.random.Generator
SIZE = 128  # pixels a side
_CENTRES: Floats = np.arange(SIZE, dtype=np.float32) + np.float32(0.5 - SIZE / 2)
_LUMA: Floats = np.array([0.299, 0.587, 0.114], np.float32)


def soft_field(rng: Rng, cells: int) -> Floats:
    """Smooth noise (SIZE, SIZE), about -1..1, with features of SIZE / cells pixels."""
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32))
    return np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32)


def slope(angle: float) -> Floats:
    """Distance in pixels (SIZE, SIZE) from a line through the centre, by its normal's angle."""
    return np.float32(np.cos(angle)) * _CENTRES + np.float32(np.sin(angle)) * _CENTRES[:, None]


def edge(inside: Floats, px: float) -> Floats:
    """Coverage (SIZE, SIZE) in 0..1: a ramp about inside == 0, a pixel wide; px is the pixels in a
    unit.
    """
    return (inside * px + 0.5).clip(0, 1)


def mask(filled: Polygons, holes: Polygons = (), lines: Polygons = (), blur: int = 0) -> Floats:
    """Coverage (SIZE, SIZE) in 0..1, drawn at twice the size; blur in pixels."""
    image = Image.new("L", (2 * SIZE, 2 * SIZE))
    pen = ImageDraw.Draw(image)
    for value, polygons in ((255, filled), (0, holes)):
        for polygon in polygons:
            pen.polygon(polygon.ravel().tolist(), fill=value)
    for line in lines:
        pen.line(line.ravel().tolist(), fill=255, width=3)
    return np.asarray(image.reduce(2).filter(ImageFilter.BoxBlur(blur)), np.float32) / 255


def _colour(rng: Rng, luma: float, chroma: tuple[float, float]) -> Floats:
    """RGB (3, 1, 1) of any hue with the luma wanted, in 0..1; chroma 0 is grey."""
    pure = np.clip(np.abs((rng.uniform(0, 6) + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    mixed = 1 - rng.uniform(*chroma) * (1 - pure)
    bright = float(mixed @ _LUMA)
    rgb: Floats = (
        mixed * luma / bright
        if luma < bright
        else 1 - (1 - mixed) * (1 - luma) / max(1 - bright, 1e-6)
    )
    return rgb.astype(np.float32)[:, None, None]


def palette(rng: Rng, ground: float) -> list[Floats]:
    """Three cloth colours (3, 1, 1), all darker than a background of luma `ground`; the second
    stands out from the first.
    """
    lumas = rng.uniform(0.08, ground - 0.45), rng.uniform(ground - 0.3, ground - 0.17)
    first, second = lumas if rng.random() < 0.6 else lumas[::-1]
    return [
        _colour(rng, luma, (0.2, 0.95)) for luma in (first, second, rng.uniform(0.08, ground - 0.2))
    ]


def background(rng: Rng) -> tuple[Floats, float]:
    """Backdrop (3, SIZE, SIZE) and its luma in 0..1: plain, graded or softly cluttered; light, as
    in shop photos.
    """
    kind, luma = rng.random(), rng.uniform(0.74, 0.97)
    grade = rng.uniform(0.0003, 0.0015) if kind > 0.35 else 0.0
    photo = _colour(rng, luma, (0, 0.15)) * (1 + grade * slope(rng.uniform(0, 2 * np.pi)))
    if kind > 0.7:
        tint = 0.06 + 0.12 * (_colour(rng, 0.5, (0, 0.6)) - 0.5)
        photo += tint * soft_field(rng, int(rng.integers(4, 9))).clip(-0.6, 0.6)
    return photo, luma
