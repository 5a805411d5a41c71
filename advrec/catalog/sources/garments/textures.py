"""Printed cloth: a texture is drawn as the weights of its second and third colour."""

from collections.abc import Callable, Sequence

import numpy as np

from advrec.catalog.sources.garments.canvas import SIZE, Floats, Rng, edge, slope, soft_field

_Weights = tuple[Floats, Floats]  # of the second and of the third colour, (SIZE, SIZE) in 0..1


def _saw(x: Floats) -> Floats:
    return x - np.floor(x)


def _wave(x: Floats) -> Floats:
    """Triangle wave: 1 at whole numbers, 0 halfway; slope 2."""
    return abs(_saw(x) - 0.5) * 2


def _cells(u: Floats, v: Floats, rng: Rng, jitter: float) -> tuple[Floats, Floats, Floats]:
    """Offset of each pixel from its cell's centre (bricks, shifted by up to jitter), and a number
    in -1..1 a cell.
    """
    row = np.floor(v)
    shifted = u + 0.5 * (row % 2)
    place = (row.astype(np.int32) & 7) * 8 + (np.floor(shifted).astype(np.int32) & 7)
    dx, dy, own = (table[place] for table in rng.uniform(-1, 1, (3, 64)).astype(np.float32))
    return _saw(shifted) - 0.5 - jitter * dx, _saw(v) - 0.5 - jitter * dy, own


def _striped(u: Floats, v: Floats, px: float, rng: Rng) -> _Weights:
    wide = rng.uniform(0.35, 0.6)
    pin = edge(0.12 - _wave(u), px / 2) if rng.random() < 0.4 else np.zeros_like(u)
    return edge(_wave(u) - (1 - wide), px / 2), pin


def _plaid(u: Floats, v: Floats, px: float, rng: Rng) -> _Weights:
    bands = edge(_wave(u) - 0.5, px / 2) + edge(_wave(v) - 0.5, px / 2)
    lines = np.maximum(edge(0.1 - _wave(u), px / 2), edge(0.1 - _wave(v), px / 2))
    return bands * 0.5, lines * 0.8


def _houndstooth(u: Floats, v: Floats, px: float, rng: Rng) -> _Weights:
    warp, weft = edge(_wave(u) - 0.5, px / 2), edge(_wave(v) - 0.5, px / 2)
    over = edge(_wave(2 * (u + v)) - 0.5, px / 5.6)
    return over * warp + (1 - over) * weft, np.zeros_like(u)


def _tribal(u: Floats, v: Floats, px: float, rng: Rng) -> _Weights:
    kind, height = np.floor(v) % 3, _saw(v)
    teeth = edge(height - _wave(u), px / 2.2)
    diamonds = edge(0.8 - _wave(u) - np.abs(height - 0.5) * 2, px / 2.8)
    bars = edge(_wave(2 * u) - 0.55, px / 4)
    rules = edge(np.abs(height - 0.5) - 0.41, px)
    second = np.where(kind == 0, teeth, np.where(kind == 1, rules, np.maximum(bars, rules)))
    return second, np.where(kind == 1, diamonds, 0)


def _floral(u: Floats, v: Floats, px: float, rng: Rng) -> _Weights:
    x, y, turn = _cells(u, v, rng, 0.1)
    r, petals = np.hypot(x, y), int(rng.integers(4, 7))
    rim = 0.31 + 0.11 * np.cos(petals * (np.arctan2(y, x) + 3 * turn))
    return edge(rim - r, px), edge(0.12 - r, px)


def _animal(u: Floats, v: Floats, px: float, rng: Rng) -> _Weights:
    x, y, turn = _cells(u, v, rng, 0.13)
    t, r = np.arctan2(y, x) + 3 * turn, np.hypot(x, y)
    ring = edge(0.085 - np.abs(r - 0.29 - 0.05 * np.sin(2 * t + 2)), px)
    return ring * edge(np.cos(t) + 0.55, 3), edge(0.21 - r, px)


def _paisley(u: Floats, v: Floats, px: float, rng: Rng) -> _Weights:
    x, y, turn = _cells(u, v, rng, 0.06)
    cos, sin = np.cos(0.9 * turn), np.sin(0.9 * turn)
    s = np.clip((cos * y - sin * x) / 0.9 + 0.5, 0, 1)
    aside = np.abs(cos * x + sin * y - 0.9 * (s - 0.35) ** 2 + 0.05)
    width = 0.66 * np.sqrt(s) * (1 - s)
    return edge(width - aside, px), edge(width * 0.6 - 0.05 - aside, px)


# Periods in pixels are the finest that survive the halving to a 64 pixel input.
_TEXTURES: dict[str, tuple[Callable[[Floats, Floats, float, Rng], _Weights], float, float]] = {
    "striped": (_striped, 9, 16),
    "plaid": (_plaid, 16, 26),
    "houndstooth": (_houndstooth, 15, 22),
    "dotted": (
        lambda u, v, px, rng: (edge(0.29 - np.hypot(*_cells(u, v, rng, 0)[:2]), px), 0 * u),
        9,
        15,
    ),
    "chevron": (
        lambda u, v, px, rng: (edge(_wave(v + 0.95 * _wave(0.55 * u)) - 0.5, px / 2.8), 0 * u),
        10,
        15,
    ),
    "tribal": (_tribal, 12, 18),
    "floral": (_floral, 19, 27),
    "animal print": (_animal, 15, 21),
    "paisley": (_paisley, 20, 28),
}
TEXTURES: tuple[str, ...] = tuple(_TEXTURES)


def _print(rng: Rng, texture: str, colours: list[Floats]) -> Floats:
    """The texture over the whole picture, (3, SIZE, SIZE), in any direction and on slightly rumpled
    cloth.
    """
    paint, finest, coarsest = _TEXTURES[texture]
    px, angle = rng.uniform(finest, coarsest), rng.uniform(0, 2 * np.pi)
    rumple = rng.uniform(0.5, 2.5) * soft_field(rng, 5)
    u, v = ((slope(angle + quarter) + rumple) / px for quarter in (0, np.pi / 2))
    second, third = paint(u + rng.uniform(0, 8), v + rng.uniform(0, 8), px, rng)
    first = colours[0] + second * (colours[1] - colours[0])
    return np.asarray(first + third * (colours[2] - first), np.float32)


def weave(rng: Rng, textures: Sequence[str], colours: list[Floats], turn: float) -> Floats:
    """Cloth (3, SIZE, SIZE); two textures meet at a line across or along the garment; none is
    plain.
    """
    if not textures:
        return colours[0] * np.ones((SIZE, SIZE), np.float32)
    cloth = _print(rng, textures[0], colours)
    if len(textures) > 1:
        across = slope(turn + (0 if rng.random() < 0.3 else np.pi / 2) + rng.uniform(-0.2, 0.2))
        cloth += edge(across, 1) * (
            _print(rng, textures[1], [colours[1], colours[0], colours[2]]) - cloth
        )
    return cloth
