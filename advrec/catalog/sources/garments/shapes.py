"""Outlines of garments, each of random proportions, and their pose on the canvas."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from advrec.catalog.sources.garments.canvas import SIZE, Floats, Polygons, Rng


class Shape(NamedTuple):
    """Polygons (n, 2): cloth, plain parts seen inside it, holes through it, seams; y down, a torso
    is about 1 long.
    """

    cloth: Polygons
    plain: Polygons = ()
    holes: Polygons = ()
    seams: Polygons = ()


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
) -> Shape:
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
    return Shape([body, *arms], seams=[arm[[0, 4, 3]] for arm in arms])


def _hoodie(rng: Rng) -> Shape:
    width, height = _draws(rng, (0.3, 0.36), (0.42, 0.5))
    face, hood = _ellipse(-0.12, width * 0.62, height * 0.66), _ellipse(-0.12, width, height)
    pocket = _points((-0.3, 1.0), (-0.2, 0.68), (0.2, 0.68), (0.3, 1.0))
    return Shape([*_top(rng, (1.05, 1.25), (0.05, 0.06)).cloth, hood], [face], seams=[pocket, face])


def _jacket(rng: Rng) -> Shape:
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
    return Shape([body, *arms], [lining], [front], [*lapels, *(arm[[0, 4, 3]] for arm in arms)])


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


def _tank(rng: Rng) -> Shape:
    strap, neck, hem, long = _draws(rng, (0.2, 0.26), (0.3, 0.42), (0.38, 0.5), (1.1, 1.35))
    back = _mirrored((0, neck * 0.45), (strap - 0.06, 0.02), (strap - 0.06, neck * 0.6), (0, neck))
    flank = _mirrored((0.41, 0.46), (0.38, long * 0.65), (hem, long), (hem * 0.5, long + 0.03))
    return Shape([_bodice(strap, neck, 0.41, 0.5), flank], [back] if rng.random() < 0.4 else [])


def _dress(rng: Rng) -> Shape:
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
    return Shape([_bodice(strap, neck, waist, 0.8), skirt, *arms], seams=[belt])


def _legs(
    top: float, waist: float, hip: float, crotch: float, long: float, outer: float, inner: float
) -> Floats:
    """Two legs (10, 2) from the waistline at height `top` to the hems, each from inner to outer."""
    return _mirrored(
        (waist, top), (hip, top + 0.35), (outer, long), (inner, long + 0.03), (0.01, crotch)
    )


def _jumpsuit(rng: Rng) -> Shape:
    strap, waist, long, inner, leg = _draws(
        rng, (0.2, 0.26), (0.24, 0.29), (2.1, 2.3), (0.2, 0.3), (0.26, 0.34)
    )
    legs = _legs(0.84, waist, 0.42, 1.35, long, inner + leg, inner)
    arms = _sleeves(rng, strap + 0.12, 0.4, rng.uniform(0.4, 0.55), 50, 0.28)
    return Shape(
        [_bodice(strap, 0.34, waist, 0.88), legs, *arms],
        seams=[_points((-waist, 0.84), (waist, 0.84))],
    )


def _skirt(rng: Rng) -> Shape:
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
    return Shape([outline], seams=[_points((-waist, 0.1), (0, 0.13), (waist, 0.1)), *pleats])


def _trousers(rng: Rng, fork: float, *ranges: tuple[float, float]) -> Shape:
    """Two legs that part at `fork`; ranges of the length, of half the gap between the hems and of a
    leg's width.
    """
    waist, long, inner, leg = _draws(rng, (0.3, 0.36), *ranges)
    legs = _legs(0, waist, waist + 0.07, fork, long, inner + leg, inner)
    pockets = [_points((s * 0.15, 0.12), (s * 0.2, 0.25), (s * waist, 0.28)) for s in (-1, 1)]
    return Shape(
        [legs],
        seams=[_points((-waist, 0.1), (waist, 0.1)), _points((0, 0.12), (0, fork)), *pockets],
    )


def _hat(rng: Rng) -> Shape:
    crown, height, brim = _draws(rng, (0.48, 0.6), (0.6, 0.85), (0.16, 0.26))
    dome = np.concatenate(
        [_ellipse(-0.25 * height, crown * 0.9, 0.75 * height, 180), _mirrored((crown, 0.08))]
    )
    band = _mirrored((crown * 0.97, -0.17), (crown, 0), (crown * 0.5, 0.07))
    return Shape([_ellipse(0, 1, brim), dome], [band], seams=[band])


SHAPES: dict[str, Callable[[Rng], Shape]] = {
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
CATEGORIES: tuple[str, ...] = tuple(SHAPES)


def pose(rng: Rng, shape: Shape) -> tuple[Shape, float]:
    """The shape placed on the canvas of twice SIZE, and its turn in radians (within 15 degrees)."""
    every = np.concatenate(shape.cloth)
    low, high = every.min(0), every.max(0)
    stretch = np.array([rng.uniform(0.9, 1.12), 1.0])
    stretch *= 2 * SIZE * rng.uniform(0.74, 0.9) / float(((high - low) * stretch).max())
    turn = float(np.radians(rng.uniform(-15, 15)))
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    shift = SIZE + 2 * SIZE * rng.uniform(-0.05, 0.05, 2)

    def place(polygons: Sequence[Floats]) -> list[Floats]:
        """Polygons (n, 2) in pixels of the canvas."""
        return [
            (((p - (low + high) / 2) * stretch) @ spin + shift).astype(np.float32) for p in polygons
        ]

    return Shape(*map(place, shape)), turn
