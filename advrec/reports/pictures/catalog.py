"""A catalog in text and pictures: class balance, a contact sheet, a map of embeddings."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageDraw

from advrec.catalog.dataset import Catalog
from advrec.catalog.pixels import decode_png
from advrec.reports.pictures import images as pictures
from advrec.reports.pictures.gallery import dimension
from advrec.run.directory import Run
from advrec.run.files import read_json
from advrec.run.tables import is_embedded, read_embeddings
from advrec.spec.base import SPLITS

THUMB, GAP, LABEL = 72, 4, 170
PER_CATEGORY = 12
ROWS = 8  # of articles without categories
MAP_ARTICLES = 2000
"""At most so many are laid out: t-SNE takes minutes on a whole catalog, and the map has no room for
more.
"""
MAP_CELLS = 28


class CatalogMap(NamedTuple):
    """Articles near each other where a model finds them alike."""

    image: Image.Image
    places: pd.DataFrame
    """One row an article: article_id, name, x, y (0..1)."""


def balance(catalog: Catalog) -> list[str]:
    """Lines of text: articles by category and split, and textures, the most frequent first."""
    split_of = np.full(len(catalog), "", dtype=object)
    for split in SPLITS:
        split_of[catalog.ids_of(split)] = split
    if not catalog.labelled:
        sizes = Counter(split_of.tolist())
        splits = ", ".join(f"{sizes[split]:,} {split}" for split in SPLITS)
        return [f"{len(catalog):,} articles without categories: {splits}"]
    cells = Counter(zip(catalog.category_names, split_of, strict=True))
    totals = Counter(catalog.category_names).most_common()
    width = max(len("category"), *(len(name) for name, _ in totals))
    lines = [
        f"{'category':<{width}}  {'articles':>9} {'share':>7} "
        + " ".join(f"{split:>10}" for split in SPLITS)
    ]
    for name, total in totals:
        counts = " ".join(f"{cells[name, split]:>10,}" for split in SPLITS)
        lines.append(f"{name:<{width}}  {total:>9,} {100 * total / len(catalog):>6.1f}% {counts}")
    (_, most), (_, fewest) = totals[0], totals[-1]
    lines.append(
        f"the most frequent category has {most / fewest:.1f} times the articles of the rarest"
    )
    if catalog.textures:
        frequent = sorted(
            zip(catalog.texture_labels.sum(0).tolist(), catalog.textures, strict=True), reverse=True
        )[:10]
        lines.append("textures: " + ", ".join(f"{name} {count:,}" for count, name in frequent))
    return lines


def contact_sheet(run: Run, catalog: Catalog, seed: int) -> Path:
    """Draw a row of articles of every category, or of parts of a catalog that has none, chosen at
    random by seed.

    Returns the picture's path.
    """
    random = np.random.default_rng(seed)
    if catalog.labelled:
        by_category = {
            name: np.flatnonzero(catalog.category_labels == label)
            for label, name in enumerate(catalog.categories)
        }
    else:
        everyone = np.random.default_rng(seed).permutation(len(catalog))
        rows = np.array_split(everyone, min(ROWS, -(-len(catalog) // PER_CATEGORY)))
        by_category = {f"part {number}": ids for number, ids in enumerate(rows, start=1)}
    canvas = Image.new(
        "RGB",
        (LABEL + (THUMB + GAP) * PER_CATEGORY + GAP, (THUMB + GAP) * len(by_category) + GAP),
        "white",
    )
    draw = ImageDraw.Draw(canvas)
    for row, (name, ids) in enumerate(by_category.items()):
        y = GAP + row * (THUMB + GAP)
        draw.text(
            (GAP, y + THUMB // 2 - 16),
            pictures.fitted(name, LABEL - 2 * GAP),
            fill="black",
            font=pictures.font(),
        )
        draw.text((GAP, y + THUMB // 2), f"{len(ids):,}", fill="#57606a", font=pictures.font())
        chosen = np.sort(random.permutation(ids)[:PER_CATEGORY])
        for column, pixels in enumerate(catalog.pixels(chosen)):
            canvas.paste(pictures.scaled(pixels, THUMB), (LABEL + column * (THUMB + GAP), y))
    path = run.directory / "pictures" / "catalog.png"
    pictures.save(path, canvas)
    return path


def mapped(catalog: Catalog, seed: int) -> npt.NDArray[np.int64]:
    """The articles (n,) of a map, ascending: all, or MAP_ARTICLES of them chosen at random."""
    return np.sort(np.random.default_rng(seed).permutation(len(catalog))[:MAP_ARTICLES])


def embedding_map(
    run: Run,
    model: str,
    catalog: Catalog,
    ids: npt.NDArray[np.int64],
    embeddings: npt.NDArray[np.float32],
    seed: int,
) -> Path:
    """Save the map of a model's embeddings as a picture of the run; returns its path.

    Args:
        ids: (n,), the articles.
        embeddings: (n, D), theirs.
    """
    path = run.directory / "pictures" / f"map-{model}.png"
    pictures.save(path, map_image(catalog, ids, layout(embeddings, seed), seed))
    return path


def catalog_map(run: Run, model: str, seed: int) -> CatalogMap | None:
    """The map of a run's catalog; None before it is embedded, or where it is too small."""
    if not run.images.exists() or not run.embedding_shard(model, 0).exists():
        return None
    catalog, size = Catalog(run), dimension(run, model)
    if len(catalog) < 4 or size < 2 or not is_embedded(run, model, len(catalog)):
        return None
    ids = mapped(catalog, seed)
    places = layout(read_embeddings(run, model, size, ids), seed)
    names = [catalog.names[article] for article in ids]
    rows = {"article_id": ids, "name": names, "x": places[:, 0], "y": places[:, 1]}
    return CatalogMap(map_image(catalog, ids, places, seed), pd.DataFrame(rows))


def map_image(
    catalog: Catalog, ids: npt.NDArray[np.int64], places: npt.NDArray[np.float64], seed: int
) -> Image.Image:
    """A grid whose occupied cells each show one of their articles, chosen at random.

    Args:
        ids: (n,), the articles.
        places: (n, 2) in [0, 1], from `layout`.
    """
    random = np.random.default_rng(seed)
    cells = np.minimum((places * MAP_CELLS).astype(int), MAP_CELLS - 1)
    shown: dict[tuple[int, int], int] = {}
    for place in random.permutation(len(ids)).tolist():
        shown.setdefault((int(cells[place, 0]), int(cells[place, 1])), int(ids[place]))
    side = THUMB // 2 + 12
    canvas = Image.new("RGB", (side * MAP_CELLS, side * MAP_CELLS), "white")
    for (column, row), png in zip(shown, catalog.pngs(list(shown.values())), strict=True):
        canvas.paste(
            pictures.scaled(decode_png(png), side - 2), (column * side + 1, row * side + 1)
        )
    return canvas


def layout(embeddings: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float64]:
    """Places (n, 2) in [0, 1] of embeddings (n, D) with n >= 4, by t-SNE of their directions.

    Places are near each other where the cosine distance is small.
    Source: van der Maaten & Hinton 2008.
    """
    from sklearn.decomposition import PCA  # seconds to import, for this alone
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    directions = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    components = min(50, *directions.shape)
    reduced = PCA(components, random_state=seed).fit_transform(directions)
    method = TSNE(perplexity=min(30.0, (len(reduced) - 1) / 3), init="pca", random_state=seed)
    # Its threads wait for each other by spinning, 1,000 times: on two cores that others use, 700
    # articles take 29 seconds of processor time with two threads and 3.5 with one.
    with threadpool_limits(1):
        places = method.fit_transform(reduced).astype(np.float64)
    low, high = places.min(0), places.max(0)
    return np.asarray((places - low) / np.maximum(high - low, 1e-12))


def source_line(run: Run) -> str:
    """Source of the catalog and shape of its images, as one line."""
    preparation = read_json(run.preparation)
    size, square = preparation["image_size"], preparation["square"]
    return f"source {preparation['source']}, squares of {size} pixels ({square})"
