"""Draws one garment as a small shop photo; every choice follows from the drawing's seed."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Floats = NDArray[np.floating[Any]]  # float32 everywhere
_Weights = tuple[Floats, Floats]  # of the second and of the third colour, (SIZE, SIZE) in 0..1
_Polygons = Sequence[Floats]
Rng = np.random.Generator

SIZE = 128  # pixels a side
_CENTRES: Floats = np.arange(SIZE, dtype=np.float32) + np.float32(0.5 - SIZE / 2)
_LUMA: Floats = np.array([0.299, 0.587, 0.114], np.float32)


class _Shape(NamedTuple):
    """Polygons (n, 2): cloth, plain parts seen inside it, holes through it, seams; y down, a torso
    is about 1 long.
    """

    cloth: _Polygons
    plain: _Polygons = ()
    holes: _Polygons = ()
    seams: _Polygons = ()


def _draws(rng: Rng, *ranges: tuple[float, float]) -> list[float]:
    """One uniform number from each range."""
    return [float(rng.uniform(low, high)) for low, high in ranges]


def _points(*xy: tuple[float, float]) -> Floats:
    return np.array(xy, np.float32)


def _mirrored(*right_half: tuple[float, float]) -> Floats:
    """Closed outline (2n, 2) from its right half, listed from top to bottom."""
    half = _points(*right_half)
    return np.concatenate([half, half[::-1] * _points((-1, 1))])


def _ellipse(y: float, rx: float, ry: float, start: float = 0, end: float = 360) -> Floats:
    """Arc (25, 2) about (0, y); angles in degrees, clockwise from the right."""
    t = np.radians(np.linspace(start, end, 25))
    return np.stack([rx * np.cos(t), y + ry * np.sin(t)], 1).astype(np.float32)


def _sleeves(
    rng: Rng, shoulder: float, armpit: float, reach: float, angle: float, cuff: float
) -> list[Floats]:
    """Both sleeves, (5, 2) each; angle in degrees from hanging straight down, give or take 6 for
    either arm.
    """
    arms = []
    for side in (-1, 1):
        a = np.radians(angle + rng.uniform(-6, 6))
        along, across = np.array([np.sin(a), np.cos(a)]), np.array([-np.cos(a), np.sin(a)])
        end = (shoulder - 0.04, 0.05) + reach * along
        arm = [
            (shoulder - 0.04, 0.05),
            end,
            end + cuff * across,
            (armpit - 0.02, 0.44),
            (shoulder - 0.2, 0.3),
        ]
        arms.append((np.array(arm) * (side, 1)).astype(np.float32))
    return arms


def _top(
    rng: Rng, long: tuple[float, float], neck: tuple[float, float], short: bool = False
) -> _Shape:
    """A top with shoulders and sleeves, short ones or ones as long as the body; neck is the depth
    of the neckline.
    """
    shoulder, chest, hem, length, dip = _draws(
        rng, (0.4, 0.46), (0.38, 0.45), (0.38, 0.48), long, neck
    )
    reach, angle = (
        _draws(rng, (0.34, 0.5), (38, 62)) if short else _draws(rng, (1.0, 1.2), (34, 52))
    )
    body = _mirrored(
        (0, dip),
        (0.1, dip * 0.75),
        (0.17, 0),
        (shoulder, 0.08),
        (chest, 0.42),
        (chest - 0.03, length * 0.65),
        (hem, length),
        (hem * 0.5, length + 0.03),
    )
    arms = _sleeves(rng, shoulder, chest, reach, angle, 0.32 if short else 0.23)
    return _Shape([body, *arms], seams=[arm[[0, 4, 3]] for arm in arms])


def _hoodie(rng: Rng) -> _Shape:
    width, height = _draws(rng, (0.3, 0.36), (0.42, 0.5))
    face, hood = _ellipse(-0.12, width * 0.62, height * 0.66), _ellipse(-0.12, width, height)
    pocket = _points((-0.3, 1.0), (-0.2, 0.68), (0.2, 0.68), (0.3, 1.0))
    return _Shape(
        [*_top(rng, (1.05, 1.25), (0.05, 0.06)).cloth, hood], [face], seams=[pocket, face]
    )


def _jacket(rng: Rng) -> _Shape:
    long, gap, lapel, reach, angle = _draws(
        rng, (1.3, 1.5), (0.2, 0.26), (0.32, 0.4), (1.15, 1.3), (16, 30)
    )
    body = _mirrored(
        (0, 0),
        (0.2, -0.04),
        (0.52, 0.1),
        (0.5, 0.45),
        (0.47, long * 0.65),
        (0.54, long),
        (gap, long),
    )
    arms = _sleeves(rng, 0.52, 0.5, reach, angle, 0.27)
    front, lining = (
        _mirrored((0.06, 0.2), (gap * 0.85, 0.6), (gap, 1.6)),
        _mirrored((0.14, 0), (gap * 0.7, 0.45)),
    )
    lapels = [_points((s * 0.18, 0), (s * lapel, 0.36), (s * gap * 0.9, 0.66)) for s in (-1, 1)]
    return _Shape([body, *arms], [lining], [front], [*lapels, *(arm[[0, 4, 3]] for arm in arms)])


def _bodice(strap: float, neck: float, waist: float, below: float) -> Floats:
    """A sleeveless top with wide straps, (14, 2), ending at height `below`."""
    return _mirrored(
        (0, neck),
        (strap - 0.08, neck * 0.75),
        (strap - 0.05, 0),
        (strap + 0.09, 0),
        (strap + 0.09, 0.28),
        (0.41, 0.46),
        (waist, below),
    )


def _tank(rng: Rng) -> _Shape:
    strap, neck, hem, long = _draws(rng, (0.2, 0.26), (0.3, 0.42), (0.38, 0.5), (1.1, 1.35))
    back = _mirrored((0, neck * 0.45), (strap - 0.06, 0.02), (strap - 0.06, neck * 0.6), (0, neck))
    flank = _mirrored((0.41, 0.46), (0.38, long * 0.65), (hem, long), (hem * 0.5, long + 0.03))
    return _Shape([_bodice(strap, neck, 0.41, 0.5), flank], [back] if rng.random() < 0.4 else [])


def _dress(rng: Rng) -> _Shape:
    strap, neck, waist, hem, long = _draws(
        rng, (0.2, 0.26), (0.12, 0.3), (0.2, 0.26), (0.68, 0.9), (1.6, 1.9)
    )
    skirt = _mirrored(
        (waist, 0.78), (waist + (hem - waist) * 0.45, 1.15), (hem, long), (hem * 0.5, long + 0.05)
    )
    arms = (
        _sleeves(rng, strap + 0.1, 0.36, rng.uniform(0.25, 0.45), 40, 0.26)
        if rng.random() < 0.4
        else []
    )
    belt = _points((-waist, 0.78), (0, 0.81), (waist, 0.78))
    return _Shape([_bodice(strap, neck, waist, 0.8), skirt, *arms], seams=[belt])


def _legs(
    top: float, waist: float, hip: float, crotch: float, long: float, outer: float, inner: float
) -> Floats:
    """Two legs (10, 2) from the waistline at height `top` to the hems; outer and inner bound a hem."""
    return _mirrored(
        (waist, top), (hip, top + 0.35), (outer, long), (inner, long + 0.03), (0.01, crotch)
    )


def _jumpsuit(rng: Rng) -> _Shape:
    strap, waist, long, inner, leg = _draws(
        rng, (0.2, 0.26), (0.24, 0.29), (2.1, 2.3), (0.2, 0.3), (0.26, 0.34)
    )
    legs = _legs(0.84, waist, 0.42, 1.35, long, inner + leg, inner)
    arms = _sleeves(rng, strap + 0.12, 0.4, rng.uniform(0.4, 0.55), 50, 0.28)
    return _Shape(
        [_bodice(strap, 0.34, waist, 0.88), legs, *arms],
        seams=[_points((-waist, 0.84), (waist, 0.84))],
    )


def _skirt(rng: Rng) -> _Shape:
    waist, hem, long = _draws(rng, (0.28, 0.34), (0.68, 0.9), (0.85, 1.15))
    outline = _mirrored(
        (0, 0.03),
        (waist, 0),
        (waist + 0.02, 0.1),
        (waist + (hem - waist) * 0.6, long * 0.5),
        (hem, long * 0.95),
        (hem * 0.6, long + 0.02),
        (0, long + 0.06),
    )
    pleats = [
        _points((waist * f, 0.12), (hem * f, long)) for f in (-0.6, -0.2, 0.2, 0.6) if long < 1
    ]
    return _Shape([outline], seams=[_points((-waist, 0.1), (0, 0.13), (waist, 0.1)), *pleats])


def _trousers(rng: Rng, fork: float, *ranges: tuple[float, float]) -> _Shape:
    """Two legs that part at `fork`; ranges of the length, of half the gap between the hems and of a
    leg's width.
    """
    waist, long, inner, leg = _draws(rng, (0.3, 0.36), *ranges)
    legs = _legs(0, waist, waist + 0.07, fork, long, inner + leg, inner)
    pockets = [_points((s * 0.15, 0.12), (s * 0.2, 0.25), (s * waist, 0.28)) for s in (-1, 1)]
    return _Shape(
        [legs],
        seams=[_points((-waist, 0.1), (waist, 0.1)), _points((0, 0.12), (0, fork)), *pockets],
    )


def _hat(rng: Rng) -> _Shape:
    crown, height, brim = _draws(rng, (0.48, 0.6), (0.6, 0.85), (0.16, 0.26))
    dome = np.concatenate(
        [_ellipse(-0.25 * height, crown * 0.9, 0.75 * height, 180), _mirrored((crown, 0.08))]
    )
    band = _mirrored((crown * 0.97, -0.17), (crown, 0), (crown * 0.5, 0.07))
    return _Shape([_ellipse(0, 1, brim), dome], [band], seams=[band])


_SHAPES: dict[str, Callable[[Rng], _Shape]] = {
    "Tee": lambda rng: _top(rng, (1.05, 1.3), (0.12, 0.3), short=True),
    "Sweater": lambda rng: _top(rng, (1.05, 1.25), (0.08, 0.16)),
    "Tank": _tank,
    "Hoodie": _hoodie,
    "Jacket": _jacket,
    "Hat": _hat,
    "Skirt": _skirt,
    "Dress": _dress,
    "Shorts": lambda rng: _trousers(rng, 0.36, (0.72, 0.88), (0.2, 0.28), (0.34, 0.42)),
    "Jeans": lambda rng: _trousers(rng, 0.5, (1.75, 2.1), (0.14, 0.26), (0.2, 0.28)),
    "Jumpsuit": _jumpsuit,
}
CATEGORIES: tuple[str, ...] = tuple(_SHAPES)


def _edge(inside: Floats, px: float) -> Floats:
    """0..1, a ramp about inside == 0, a pixel wide; px is the pixels in a unit."""
    return (inside * px + 0.5).clip(0, 1)


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
    pin = _edge(0.12 - _wave(u), px / 2) if rng.random() < 0.4 else np.zeros_like(u)
    return _edge(_wave(u) - (1 - wide), px / 2), pin


def _plaid(u: Floats, v: Floats, px: float, rng: Rng) -> _Weights:
    bands = _edge(_wave(u) - 0.5, px / 2) + _edge(_wave(v) - 0.5, px / 2)
    lines = np.maximum(_edge(0.1 - _wave(u), px / 2), _edge(0.1 - _wave(v), px / 2))
    return bands * 0.5, lines * 0.8


def _houndstooth(u: Floats, v: Floats, px: float, rng: Rng) -> _Weights:
    warp, weft = _edge(_wave(u) - 0.5, px / 2), _edge(_wave(v) - 0.5, px / 2)
    over = _edge(_wave(2 * (u + v)) - 0.5, px / 5.6)
    return over * warp + (1 - over) * weft, np.zeros_like(u)


def _tribal(u: Floats, v: Floats, px: float, rng: Rng) -> _Weights:
    kind, height = np.floor(v) % 3, _saw(v)
    teeth = _edge(height - _wave(u), px / 2.2)
    diamonds = _edge(0.8 - _wave(u) - np.abs(height - 0.5) * 2, px / 2.8)
    bars = _edge(_wave(2 * u) - 0.55, px / 4)
    rules = _edge(np.abs(height - 0.5) - 0.41, px)
    second = np.where(kind == 0, teeth, np.where(kind == 1, rules, np.maximum(bars, rules)))
    return second, np.where(kind == 1, diamonds, 0)


def _floral(u: Floats, v: Floats, px: float, rng: Rng) -> _Weights:
    x, y, turn = _cells(u, v, rng, 0.1)
    r, petals = np.hypot(x, y), int(rng.integers(4, 7))
    rim = 0.31 + 0.11 * np.cos(petals * (np.arctan2(y, x) + 3 * turn))
    return _edge(rim - r, px), _edge(0.12 - r, px)


def _animal(u: Floats, v: Floats, px: float, rng: Rng) -> _Weights:
    x, y, turn = _cells(u, v, rng, 0.13)
    t, r = np.arctan2(y, x) + 3 * turn, np.hypot(x, y)
    ring = _edge(0.085 - np.abs(r - 0.29 - 0.05 * np.sin(2 * t + 2)), px)
    return ring * _edge(np.cos(t) + 0.55, 3), _edge(0.21 - r, px)


def _paisley(u: Floats, v: Floats, px: float, rng: Rng) -> _Weights:
    x, y, turn = _cells(u, v, rng, 0.06)
    cos, sin = np.cos(0.9 * turn), np.sin(0.9 * turn)
    s = np.clip((cos * y - sin * x) / 0.9 + 0.5, 0, 1)
    aside = np.abs(cos * x + sin * y - 0.9 * (s - 0.35) ** 2 + 0.05)
    width = 0.66 * np.sqrt(s) * (1 - s)
    return _edge(width - aside, px), _edge(width * 0.6 - 0.05 - aside, px)


# Periods in pixels are the finest that survive the halving to a 64 pixel input.
_TEXTURES: dict[str, tuple[Callable[[Floats, Floats, float, Rng], _Weights], float, float]] = {
    "striped": (_striped, 9, 16),
    "plaid": (_plaid, 16, 26),
    "houndstooth": (_houndstooth, 15, 22),
    "dotted": (
        lambda u, v, px, rng: (_edge(0.29 - np.hypot(*_cells(u, v, rng, 0)[:2]), px), 0 * u),
        9,
        15,
    ),
    "chevron": (
        lambda u, v, px, rng: (_edge(_wave(v + 0.95 * _wave(0.55 * u)) - 0.5, px / 2.8), 0 * u),
        10,
        15,
    ),
    "tribal": (_tribal, 12, 18),
    "floral": (_floral, 19, 27),
    "animal print": (_animal, 15, 21),
    "paisley": (_paisley, 20, 28),
}
TEXTURES: tuple[str, ...] = tuple(_TEXTURES)


def _soft_field(rng: Rng, cells: int) -> Floats:
    """Smooth noise (SIZE, SIZE), about -1..1, with features of SIZE / cells pixels."""
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32))
    return np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32)


def _slope(angle: float) -> Floats:
    """Distance in pixels (SIZE, SIZE) from a line through the centre whose normal has that angle."""
    return np.float32(np.cos(angle)) * _CENTRES + np.float32(np.sin(angle)) * _CENTRES[:, None]


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


def _palette(rng: Rng, ground: float) -> list[Floats]:
    """Three cloth colours, all darker than a background of luma `ground`; the second stands out
    from the first.
    """
    lumas = rng.uniform(0.08, ground - 0.45), rng.uniform(ground - 0.3, ground - 0.17)
    first, second = lumas if rng.random() < 0.6 else lumas[::-1]
    return [
        _colour(rng, luma, (0.2, 0.95)) for luma in (first, second, rng.uniform(0.08, ground - 0.2))
    ]


def _background(rng: Rng) -> tuple[Floats, float]:
    """Backdrop (3, SIZE, SIZE) and its luma in 0..1: plain, graded or softly cluttered; light, as
    in shop photos.
    """
    kind, luma = rng.random(), rng.uniform(0.74, 0.97)
    grade = rng.uniform(0.0003, 0.0015) if kind > 0.35 else 0.0
    photo = _colour(rng, luma, (0, 0.15)) * (1 + grade * _slope(rng.uniform(0, 2 * np.pi)))
    if kind > 0.7:
        tint = 0.06 + 0.12 * (_colour(rng, 0.5, (0, 0.6)) - 0.5)
        photo += tint * _soft_field(rng, int(rng.integers(4, 9))).clip(-0.6, 0.6)
    return photo, luma


def _mask(filled: _Polygons, holes: _Polygons = (), lines: _Polygons = (), blur: int = 0) -> Floats:
    """Coverage (SIZE, SIZE) in 0..1, drawn at twice the size; blur in pixels."""
    image = Image.new("L", (2 * SIZE, 2 * SIZE))
    pen = ImageDraw.Draw(image)
    for value, polygons in ((255, filled), (0, holes)):
        for polygon in polygons:
            pen.polygon(polygon.ravel().tolist(), fill=value)
    for line in lines:
        pen.line(line.ravel().tolist(), fill=255, width=3)
    return np.asarray(image.reduce(2).filter(ImageFilter.BoxBlur(blur)), np.float32) / 255


def _pose(rng: Rng, shape: _Shape) -> tuple[_Shape, float]:
    """The shape placed on the canvas of twice SIZE, and its turn in radians (within 15 degrees)."""
    every = np.concatenate(shape.cloth)
    low, high = every.min(0), every.max(0)
    stretch = np.array([rng.uniform(0.9, 1.12), 1.0])
    stretch *= 2 * SIZE * rng.uniform(0.74, 0.9) / float(((high - low) * stretch).max())
    turn = float(np.radians(rng.uniform(-15, 15)))
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    shift = SIZE + 2 * SIZE * rng.uniform(-0.05, 0.05, 2)

    def place(polygons: Sequence[Floats]) -> list[Floats]:
        return [
            (((p - (low + high) / 2) * stretch) @ spin + shift).astype(np.float32) for p in polygons
        ]

    return _Shape(*map(place, shape)), turn


def _print(rng: Rng, texture: str, colours: list[Floats]) -> Floats:
    """The texture over the whole picture, (3, SIZE, SIZE), in any direction and on slightly rumpled
    cloth.
    """
    paint, finest, coarsest = _TEXTURES[texture]
    px, angle = rng.uniform(finest, coarsest), rng.uniform(0, 2 * np.pi)
    rumple = rng.uniform(0.5, 2.5) * _soft_field(rng, 5)
    u, v = ((_slope(angle + quarter) + rumple) / px for quarter in (0, np.pi / 2))
    second, third = paint(u + rng.uniform(0, 8), v + rng.uniform(0, 8), px, rng)
    first = colours[0] + second * (colours[1] - colours[0])
    return np.asarray(first + third * (colours[2] - first), np.float32)


def _cloth(rng: Rng, textures: Sequence[str], colours: list[Floats], turn: float) -> Floats:
    """Cloth over the whole picture; two textures meet at a line across or along the garment; none
    is plain.
    """
    if not textures:
        return colours[0] * np.ones((SIZE, SIZE), np.float32)
    cloth = _print(rng, textures[0], colours)
    if len(textures) > 1:
        across = _slope(turn + (0 if rng.random() < 0.3 else np.pi / 2) + rng.uniform(-0.2, 0.2))
        cloth += _edge(across, 1) * (
            _print(rng, textures[1], [colours[1], colours[0], colours[2]]) - cloth
        )
    return cloth


def draw(category: str, textures: Sequence[str], drawing_seed: int) -> NDArray[np.uint8]:
    """One garment, (SIZE, SIZE, 3) in 0..255, in none, one or two textures."""
    rng = np.random.default_rng(drawing_seed)
    shape, turn = _pose(rng, _SHAPES[category](rng))
    photo, luma = _background(rng)
    colours = _palette(rng, luma)
    outline, halo = (_mask(shape.cloth, shape.holes, blur=blur) for blur in (0, 4))
    photo *= 1 - rng.uniform(0.1, 0.35) * np.roll(halo, rng.integers(-5, 6, 2).tolist(), (0, 1))
    cloth = _cloth(rng, textures, colours, turn)
    if shape.plain:
        cloth += _mask(shape.plain) * (colours[1] * 0.6 - cloth)
    shade = 1 - rng.uniform(0.25, 0.5) * _mask((), lines=shape.seams)
    shade *= 1 - rng.uniform(0.15, 0.4) * (1 - halo)
    cloth *= shade * (1 + rng.uniform(0.05, 0.2) * _soft_field(rng, int(rng.integers(4, 8))))
    photo += outline * (cloth - photo)
    light = 1 + rng.uniform(0, 0.0018) * _slope(rng.uniform(0, 2 * np.pi))
    photo *= light * (rng.uniform(0.88, 1.1) * rng.uniform(0.97, 1.03, (3, 1, 1))).astype(
        np.float32
    )
    photo += rng.uniform(0.004, 0.014) * rng.standard_normal(photo.shape, np.float32)
    photo *= 255
    return np.ascontiguousarray(np.clip(photo + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0))
