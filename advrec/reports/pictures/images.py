"""Pictures of articles as PNG files: a query and its neighbours, one attack."""

import base64
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from advrec.catalog.pixels import Pixels
from advrec.run.files import write_atomically

TILE = 192
"""Side of a picture's tile; smaller images are enlarged by whole pixels' copies, larger ones
reduced.
"""
GAP = 16
LINE = 20
QUERY_FRAME = "#1f6feb"
ATTACKED_FRAME = "#c62828"
PLAIN_FRAME = "#c9ced6"
PER_ROW = 5


class Tile(NamedTuple):
    """An image with captions below it and a frame."""

    image: npt.NDArray[Any]
    """(H, W, 3), uint8 or floats in [0, 1]."""
    captions: Sequence[str]
    frame: str = PLAIN_FRAME


def row_picture(path: Path, query: Tile, tiles: Sequence[Tile]) -> None:
    """Write a PNG: the query left, the tiles right of it, PER_ROW in a row."""
    columns = min(max(len(tiles), 1), PER_ROW)
    rows = max(-(-len(tiles) // PER_ROW), 1)
    step_x, step_y = TILE + GAP, TILE + GAP + 2 * LINE
    canvas = Image.new("RGB", (GAP + step_x * (columns + 1) + GAP, GAP + step_y * rows), "white")
    _tile(canvas, (GAP, GAP), query)
    for place, tile in enumerate(tiles):
        _tile(
            canvas,
            (2 * GAP + step_x * (place % PER_ROW + 1), GAP + step_y * (place // PER_ROW)),
            tile,
        )
    save(path, canvas)


def neighbour_picture(
    path: Path,
    query: tuple[Pixels, str],
    neighbours: Sequence[tuple[Pixels, str, float]],
    *,
    attacked: int | None = None,
) -> None:
    """Write a PNG: the query left, framed in blue; its neighbours right, nearest first, each with
    its distance.

    Args:
        query: image (H, W, 3) uint8 and label.
        neighbours: image (H, W, 3) uint8, label and cosine distance.
        attacked: place in `neighbours` of an article that was attacked; it is framed in red.
    """
    tiles = [
        Tile(
            image,
            [label, f"{place + 1}: distance {distance:.4f}"],
            ATTACKED_FRAME if place == attacked else PLAIN_FRAME,
        )
        for place, (image, label, distance) in enumerate(neighbours)
    ]
    row_picture(path, Tile(query[0], [query[1], "query"], QUERY_FRAME), tiles)


def attack_picture(
    path: Path,
    clean: npt.NDArray[Any],
    adversarial: npt.NDArray[Any],
    target: npt.NDArray[Any],
    lines: Sequence[str],
) -> None:
    """Write a PNG: attack article, perturbation at full range, adversarial image, target article;
    `lines` beneath.

    Args:
        clean, adversarial, target: (H, W, 3), uint8 or floats in [0, 1].
        lines: see `attack_lines`.
    """
    tiles = [
        Tile(clean, ["attack article"]),
        Tile(perturbation(clean, adversarial), ["perturbation, full range"]),
        Tile(adversarial, ["adversarial image"], ATTACKED_FRAME),
        Tile(target, ["target article"], QUERY_FRAME),
    ]
    step = TILE + GAP
    width = max(
        GAP + step * len(tiles), *(2 * GAP + round(font().getlength(line)) for line in (*lines, ""))
    )
    canvas = Image.new("RGB", (width, 2 * GAP + TILE + LINE * (len(lines) + 1)), "white")
    for place, tile in enumerate(tiles):
        _tile(canvas, (GAP + step * place, GAP), tile)
    draw = ImageDraw.Draw(canvas)
    for place, line in enumerate(lines):
        draw.text((GAP, GAP + TILE + LINE * (place + 1) + 8), line, fill="black", font=font())
    save(path, canvas)


def attack_lines(
    distances: tuple[float, float], ranks: tuple[int, int], what: str = ""
) -> list[str]:
    """Captions of an attack: `what` it was, then distance and rank, before and after."""
    change = (
        f"distance to the target {distances[0]:.4f} → {distances[1]:.4f}, "
        f"rank {ranks[0]:,} → {ranks[1]:,}"
    )
    return [what, change] if what else [change]


def perturbation(clean: npt.NDArray[Any], adversarial: npt.NDArray[Any]) -> Pixels:
    """Adversarial minus clean, (H, W, 3) uint8, scaled to the full range.

    The largest change is black or white, no change is grey.
    """
    change = _unit(adversarial) - _unit(clean)
    largest = float(np.abs(change).max())
    return to_pixels(0.5 + change / (2.0 * largest) if largest > 0 else np.full_like(change, 0.5))


def to_pixels(image: npt.NDArray[Any]) -> Pixels:
    """An image (H, W, 3) of floats in [0, 1] rounded to uint8; a uint8 image as it is."""
    if image.dtype == np.uint8:
        return image
    rounded: Pixels = np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
    return rounded


def _unit(image: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return image / 255.0 if image.dtype == np.uint8 else image.astype(np.float64)


def _tile(canvas: Image.Image, corner: tuple[int, int], tile: Tile) -> None:
    x, y = corner
    picture = scaled(tile.image, TILE)
    canvas.paste(picture, (x + (TILE - picture.width) // 2, y + (TILE - picture.height) // 2))
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((x - 3, y - 3, x + TILE + 2, y + TILE + 2), outline=tile.frame, width=3)
    for place, caption in enumerate(tile.captions):
        draw.text((x, y + TILE + 6 + LINE * place), fitted(caption), fill="black", font=font())


def scaled(image: npt.NDArray[Any], side: int) -> Image.Image:
    """An image (H, W, 3) with its longer side made `side` pixels.

    A smaller one is enlarged by copies of whole pixels.
    """
    picture = Image.fromarray(to_pixels(image))
    method = Image.Resampling.NEAREST if max(picture.size) <= side else Image.Resampling.LANCZOS
    scale = side / max(picture.size)
    return picture.resize(
        (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)), method
    )


def fitted(caption: str, width: int = TILE) -> str:
    """Shorten a caption until it fits a width, by default a tile's.

    It loses its left part, for there long names of images are alike.
    """
    if font().getlength(caption) <= width:
        return caption
    while caption and font().getlength("…" + caption) > width:
        caption = caption[1:]
    return "…" + caption


@cache
def font() -> ImageFont.FreeTypeFont:
    # DejaVu comes with matplotlib and knows the letters and arrows that Pillow's own font lacks.
    return ImageFont.truetype(
        str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 13
    )


def as_svg(png: bytes, size: tuple[int, int]) -> bytes:
    """An SVG that shows one picture and nothing else; `size` is its width and height in pixels."""
    width, height = size
    href = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
        f'<image width="{width}" height="{height}" href="{href}"/></svg>\n'
    ).encode()


def save(path: Path, canvas: Image.Image) -> None:
    """Write a picture as PNG, whole or not at all."""
    write_atomically(path, lambda temporary: canvas.save(temporary, format="PNG"))
