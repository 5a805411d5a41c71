"""Preparation in shards, runs of the listing, each one file in prepared/ whose presence says that
it is done. They are prepared in parallel by whoever calls.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from advrec.catalog import images
from advrec.catalog.files import Root
from advrec.catalog.images import Prepared, Unreadable
from advrec.catalog.listing import Listed, Listing
from advrec.run import schema
from advrec.run.directory import Run
from advrec.run.files import numbered
from advrec.spec.catalog import Square

SHARD = 256  # listed images a unit of work and of resume, at most
SHARD_PIXELS = 256 * 128 * 128  # of prepared images, at most: what a worker holds at once


def prepare_shard(
    source: Root, start: int, articles: Sequence[Listed], size: int, square: Square
) -> pa.Table:
    """The rows (PREPARED) of listed images start, start + 1, ... Raises UnreachableError."""
    return shard_table(
        start, [images.prepare(source, article, size, square) for article in articles]
    )


def shard_table(start: int, prepared: Sequence[Prepared | Unreadable]) -> pa.Table:
    """The rows (PREPARED) of images that are listed at start, start + 1, ..."""

    def of_readable(name: str) -> list[Any]:
        return [getattr(image, name) if isinstance(image, Prepared) else None for image in prepared]

    return schema.table(
        schema.PREPARED,
        {
            "listed": range(start, start + len(prepared)),
            "png": of_readable("png"),
            "sha256": of_readable("sha256"),
            "phash": of_readable("phash"),
            "colour": of_readable("colour"),
            "reason": [
                image.reason if isinstance(image, Unreadable) else None for image in prepared
            ],
        },
    )


def cut(listing: Listing, size: int) -> list[tuple[int, tuple[Listed, ...]]]:
    """First place and images of every shard, where images are prepared to `size` pixels."""
    images = max(1, min(SHARD, SHARD_PIXELS // size**2))
    return [
        (start, listing.articles[start : start + images])
        for start in range(0, len(listing.articles), images)
    ]


def read_shards(run: Run) -> pa.Table:
    """All prepared rows but their images, in the listing's order."""
    columns = [name for name in schema.PREPARED.names if name != "png"]
    files = [str(path) for _, path in numbered(run.prepared, "shard")]
    return (
        ds.dataset(files, format="parquet", schema=schema.PREPARED)
        .to_table(columns=columns)
        .sort_by("listed")
    )
