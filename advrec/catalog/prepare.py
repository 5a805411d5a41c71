"""From listed images to the catalog: duplicates go, then images without a texture, labels are what remains.

The images themselves are prepared one by one (`images.prepare`), in parallel by whoever calls; this module decides.
"""

import shutil
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from advrec import schema
from advrec.catalog.duplicates import first_of_each
from advrec.catalog.images import Prepared, Unreadable
from advrec.catalog.listing import Listed, Listing
from advrec.errors import ConfigError
from advrec.store import Run, write_json, write_table

SHARD = 4096  # articles a file of images/


class Cataloged(NamedTuple):
    catalog: pa.Table
    images: pa.Table
    preparation: dict[str, Any]
    """Counts at each step, splits, label names and the catalog's hash, as stored in preparation.json."""
    set_aside: dict[str, str]
    """Unreadable images by key, with the reason."""


def assemble(source: str, listing: Listing, prepared: Sequence[Prepared | Unreadable]) -> Cataloged:
    """Decide what stays. Duplicates go first, then images without textures: the other order gives other counts (see the study)."""
    readable = [(a, p) for a, p in zip(listing.articles, prepared, strict=True) if isinstance(p, Prepared)]
    set_aside = {
        f"images/{a.name}": p.reason for a, p in zip(listing.articles, prepared, strict=True) if isinstance(p, Unreadable)
    }
    distinct = [readable[place] for place in first_of_each([p.phash for _, p in readable])]
    kept = [pair for pair in distinct if pair[0].textures or not listing.has_textures]
    steps = [("images listed", len(listing.articles)), ("readable", len(readable)), ("after duplicates", len(distinct))]
    if listing.has_textures:
        steps.append(("with texture labels", len(kept)))
    catalog = _catalog_table(kept)
    images = schema.table(
        schema.IMAGES, {"article_id": range(len(kept)), "png": [p.png for _, p in kept]}
    )
    articles = [a for a, _ in kept]
    preparation = {
        "source": source,
        "steps": [{"step": step, "articles": count} for step, count in steps],
        "splits": {split: sum(a.split == split for a in articles) for split in ("train", "validation", "test")},
        "categories": sorted({a.category for a in articles}),
        "textures": sorted({texture for a in articles for texture in a.textures}),
        "catalog_sha256": schema.content_hash(catalog),
    }
    return Cataloged(catalog, images, preparation, set_aside)


def check_splits(made: Cataloged) -> None:
    """Raises ConfigError where a split came out empty: training needs train and validation, evaluation needs test."""
    for split, count in made.preparation["splits"].items():
        if not count:
            raise ConfigError(f"the {split} split holds no usable image; add images, or split directories train, validation and test")


def write(run: Run, made: Cataloged) -> None:
    """Write images, then the counts, then catalog.parquet, whose presence says that the catalog is whole."""
    shutil.rmtree(run.images, ignore_errors=True)  # of a preparation that was killed, perhaps with other articles
    for shard, start in enumerate(range(0, len(made.images), SHARD)):
        write_table(run.images / f"part-{shard:06d}.parquet", made.images.slice(start, SHARD))
    write_json(run.preparation, made.preparation)
    write_table(run.catalog, made.catalog)


def _catalog_table(kept: Sequence[tuple[Listed, Prepared]]) -> pa.Table:
    return schema.table(
        schema.CATALOG,
        {
            "article_id": range(len(kept)),
            "name": [a.name for a, _ in kept],
            "category": [a.category for a, _ in kept],
            "textures": [sorted(a.textures) for a, _ in kept],
            "split": [a.split for a, _ in kept],
            "sha256": [p.sha256 for _, p in kept],
        },
    )
