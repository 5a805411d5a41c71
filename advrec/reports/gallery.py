"""Pictures of articles: a neighbour list, one attack, and the examples that a run has kept. Needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from PIL import Image, ImageDraw, ImageFont

from advrec import schema
from advrec.catalog.pixels import Pixels, decode_png
from advrec.reports.results import Results
from advrec.store import read_table, write_atomically

TILE = 192
"""Side of a picture's tile; smaller images are enlarged by whole pixels' copies, larger ones reduced."""
GAP = 16
LINE = 20
QUERY_FRAME = "#1f6feb"
ATTACKED_FRAME = "#c62828"
PLAIN_FRAME = "#c9ced6"
PER_ROW = 5


@dataclass(frozen=True)
class Example:
    """One adversarial image that a run has kept, with its outcome."""

    model: str
    attack: str
    epsilon: float
    tuple_id: int
    attack_name: str
    target_name: str
    attack_category: str
    target_category: str
    clean: Pixels
    adversarial: npt.NDArray[np.float32]
    """(H, W, 3), [0, 1]."""
    target: Pixels
    clean_distance: float
    adversarial_distance: float
    clean_rank: int
    adversarial_rank: int


def neighbour_picture(
    path: Path,
    query: tuple[Pixels, str],
    neighbours: Sequence[tuple[Pixels, str, float]],
    *,
    attacked: int | None = None,
) -> None:
    """Write a PNG: the query left, framed in blue; its neighbours right, nearest first, each with its distance.

    Args:
        query: image (H, W, 3) uint8 and label.
        neighbours: image (H, W, 3) uint8, label and cosine distance.
        attacked: place in `neighbours` of an article that was attacked; it is framed in red.
    """
    columns = min(max(len(neighbours), 1), PER_ROW)
    rows = max(-(-len(neighbours) // PER_ROW), 1)
    step_x, step_y = TILE + GAP, TILE + GAP + 2 * LINE
    canvas = Image.new("RGB", (GAP + step_x * (columns + 1) + GAP, GAP + step_y * rows), "white")
    _tile(canvas, (GAP, GAP), query[0], [query[1], "query"], QUERY_FRAME)
    for place, (image, label, distance) in enumerate(neighbours):
        corner = (2 * GAP + step_x * (place % PER_ROW + 1), GAP + step_y * (place // PER_ROW))
        frame = ATTACKED_FRAME if place == attacked else PLAIN_FRAME
        _tile(canvas, corner, image, [label, f"{place + 1}: distance {distance:.4f}"], frame)
    save(path, canvas)


def attack_picture(
    path: Path,
    clean: npt.NDArray[Any],
    adversarial: npt.NDArray[Any],
    target: npt.NDArray[Any],
    lines: Sequence[str],
) -> None:
    """Write a PNG: attack article, perturbation at full range, adversarial image, target article; `lines` beneath.

    Args:
        clean, adversarial, target: (H, W, 3), uint8 or floats in [0, 1].
        lines: see `attack_lines`.
    """
    tiles = [
        (clean, "attack article", PLAIN_FRAME),
        (perturbation(clean, adversarial), "perturbation, full range", PLAIN_FRAME),
        (adversarial, "adversarial image", ATTACKED_FRAME),
        (target, "target article", QUERY_FRAME),
    ]
    step = TILE + GAP
    width = max(GAP + step * len(tiles), *(2 * GAP + round(font().getlength(line)) for line in (*lines, "")))
    canvas = Image.new("RGB", (width, 2 * GAP + TILE + LINE * (len(lines) + 1)), "white")
    for place, (image, caption, frame) in enumerate(tiles):
        _tile(canvas, (GAP + step * place, GAP), image, [caption], frame)
    draw = ImageDraw.Draw(canvas)
    for place, line in enumerate(lines):
        draw.text((GAP, GAP + TILE + LINE * (place + 1) + 8), line, fill="black", font=font())
    save(path, canvas)


def attack_lines(distances: tuple[float, float], ranks: tuple[int, int], what: str = "") -> list[str]:
    """The captions of an attack: `what` it was, then distance and rank to the target, before and after."""
    change = f"distance to the target {distances[0]:.4f} → {distances[1]:.4f}, rank {ranks[0]:,} → {ranks[1]:,}"
    return [what, change] if what else [change]


def perturbation(clean: npt.NDArray[Any], adversarial: npt.NDArray[Any]) -> Pixels:
    """Adversarial minus clean, scaled so that its largest change is black or white and no change is grey; uint8."""
    change = _unit(adversarial) - _unit(clean)
    largest = float(np.abs(change).max())
    return to_pixels(0.5 + change / (2.0 * largest) if largest > 0 else np.full_like(change, 0.5))


def to_pixels(image: npt.NDArray[Any]) -> Pixels:
    """An image of floats in [0, 1] rounded to uint8; a uint8 image as it is."""
    if image.dtype == np.uint8:
        return image
    rounded: Pixels = np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
    return rounded


def example_images(results: Results, strongest: dict[str, dict[str, Any]], limit: int = 12) -> list[Example]:
    """Kept examples of the strongest attack on each model at the largest budget: the first tuples, not the best ones.

    Args:
        strongest: tables.strongest.
        limit: examples in all; each model gets an equal share, of the same tuples where all were kept.
    """
    share = max(limit // max(len(strongest), 1), 1)
    kept = [
        {**row, "model": model, "attack": str(cell["attack"])}
        for model, cell in strongest.items()
        for row in _kept_rows(results, model, str(cell["attack"]), share)
    ]
    kept = sorted(kept, key=lambda row: int(row["tuple_id"]))[:limit]
    images = _images(results, {int(row[key]) for row in kept for key in ("attack_id", "target_id")})
    labels = _labels(results, set(images))
    found = [row for row in kept if row["attack_id"] in images and row["target_id"] in images]
    return [_example(results, row, images, labels) for row in found]


def _kept_rows(results: Results, model: str, attack: str, share: int) -> list[dict[str, Any]]:
    directory = results.run.example_block(model, attack, 0).parent
    if not any(directory.glob("block-*.parquet")):
        return []
    rows = read_table(directory, schema.EXAMPLES)
    rows = rows.filter(pc.equal(rows["epsilon"], results.largest_epsilon)).sort_by("tuple_id")
    known = results.outcomes[(results.outcomes["model"] == model) & (results.outcomes["attack"] == attack)]
    wanted = rows.filter(pc.is_in(rows["tuple_id"], value_set=_int32(known["tuple_id"].unique()))).slice(0, share)
    made: list[dict[str, Any]] = wanted.to_pylist()
    return made


def _example(
    results: Results, row: dict[str, Any], images: dict[int, Pixels], labels: dict[int, tuple[str, str]]
) -> Example:
    rows = results.outcomes
    same = (rows["model"] == row["model"]) & (rows["attack"] == row["attack"])
    same &= (rows["epsilon"] == row["epsilon"]) & (rows["tuple_id"] == row["tuple_id"])
    outcome = rows[same].iloc[0]
    shape = (row["height"], row["width"], 3)
    (attack_name, attack_category), (target_name, target_category) = labels[row["attack_id"]], labels[row["target_id"]]
    return Example(
        model=row["model"],
        attack=row["attack"],
        epsilon=row["epsilon"],
        tuple_id=row["tuple_id"],
        attack_name=attack_name,
        target_name=target_name,
        attack_category=attack_category,
        target_category=target_category,
        clean=images[row["attack_id"]],
        adversarial=np.frombuffer(row["pixels"], dtype="<f4").reshape(shape),
        target=images[row["target_id"]],
        clean_distance=float(outcome["clean_distance"]),
        adversarial_distance=float(outcome["adversarial_distance"]),
        clean_rank=int(outcome["clean_rank"]),
        adversarial_rank=int(outcome["adversarial_rank"]),
    )


def _images(results: Results, article_ids: set[int]) -> dict[int, Pixels]:
    if not article_ids or not results.run.images.exists():
        return {}
    dataset = ds.dataset(results.run.images, format="parquet")
    rows = dataset.to_table(columns=schema.IMAGES.names, filter=pc.field("article_id").isin(sorted(article_ids)))
    return {row["article_id"]: decode_png(row["png"]) for row in rows.to_pylist()}


def _labels(results: Results, article_ids: set[int]) -> dict[int, tuple[str, str]]:
    catalog = read_table(results.run.catalog, schema.CATALOG)
    rows = catalog.filter(pc.is_in(catalog["article_id"], value_set=_int32(sorted(article_ids))))
    return {row["article_id"]: (row["name"], row["category"]) for row in rows.to_pylist()}


def _int32(values: Any) -> Any:
    return pa.array(values, type=pa.int32())


def _unit(image: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return image / 255.0 if image.dtype == np.uint8 else image.astype(np.float64)


def _tile(
    canvas: Image.Image, corner: tuple[int, int], image: npt.NDArray[Any], captions: Sequence[str], frame: str
) -> None:
    x, y = corner
    picture = scaled(image, TILE)
    canvas.paste(picture, (x + (TILE - picture.width) // 2, y + (TILE - picture.height) // 2))
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((x - 3, y - 3, x + TILE + 2, y + TILE + 2), outline=frame, width=3)
    for place, caption in enumerate(captions):
        draw.text((x, y + TILE + 6 + LINE * place), fitted(caption), fill="black", font=font())


def scaled(image: npt.NDArray[Any], side: int) -> Image.Image:
    """An image with its longer side made `side` pixels: by whole pixels' copies where it is smaller."""
    picture = Image.fromarray(to_pixels(image))
    method = Image.Resampling.NEAREST if max(picture.size) <= side else Image.Resampling.LANCZOS
    scale = side / max(picture.size)
    return picture.resize((max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)), method)


def fitted(caption: str, width: int = TILE) -> str:
    """Shortened from the left, where long names of images are alike, until it fits a width, by default a tile's."""
    if font().getlength(caption) <= width:
        return caption
    while caption and font().getlength("…" + caption) > width:
        caption = caption[1:]
    return "…" + caption


@cache
def font() -> ImageFont.FreeTypeFont:
    # DejaVu comes with matplotlib and knows the letters and arrows that Pillow's own font lacks.
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 13)


def save(path: Path, canvas: Image.Image) -> None:
    write_atomically(path, lambda temporary: canvas.save(temporary, format="PNG"))
