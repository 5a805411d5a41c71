"""One garment as a small shop photo; every choice follows from the drawing's seed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from advrec.catalog.sources.garments.canvas import (
    background,
    mask,
    palette,
    slope,
    soft_field,
)
from advrec.catalog.sources.garments.shapes import SHAPES, pose
from advrec.catalog.sources.garments.textures import weave


def draw(category: str, textures: Sequence[str], drawing_seed: int) -> NDArray[np.uint8]:
    """One garment, (SIZE, SIZE, 3) in 0..255, in none, one or two textures."""
    rng = np.random.default_rng(drawing_seed)
    shape, turn = pose(rng, SHAPES[category](rng))
    photo, luma = background(rng)
    colours = palette(rng, luma)
    outline, halo = (mask(shape.cloth, shape.holes, blur=blur) for blur in (0, 4))
    photo *= 1 - rng.uniform(0.1, 0.35) * np.roll(halo, rng.integers(-5, 6, 2).tolist(), (0, 1))
    cloth = weave(rng, textures, colours, turn)
    if shape.plain:
        cloth += mask(shape.plain) * (colours[1] * 0.6 - cloth)
    shade = 1 - rng.uniform(0.25, 0.5) * mask((), lines=shape.seams)
    shade *= 1 - rng.uniform(0.15, 0.4) * (1 - halo)
    cloth *= shade * (1 + rng.uniform(0.05, 0.2) * soft_field(rng, int(rng.integers(4, 8))))
    photo += outline * (cloth - photo)
    light = 1 + rng.uniform(0, 0.0018) * slope(rng.uniform(0, 2 * np.pi))
    photo *= light * (rng.uniform(0.88, 1.1) * rng.uniform(0.97, 1.03, (3, 1, 1))).astype(
        np.float32
    )
    photo += rng.uniform(0.004, 0.014) * rng.standard_normal(photo.shape, np.float32)
    photo *= 255
    return np.ascontiguousarray(np.clip(photo + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0))
