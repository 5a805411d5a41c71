"""The catalog written: images that stay, copied a few at a time from the shards, and its tables."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from advrec.catalog.decide import Decision
from advrec.run import schema
from advrec.run.directory import Run
from advrec.run.files import numbered, write_atomically, write_json, write_table

PART = 16  # shards whose articles share a file of images/
ROW_GROUP = 8  # images read together when one is wanted


def write(run: Run, decision: Decision) -> None:
    """Write images, then the counts, then catalog.parquet, whose presence says that the catalog is
    whole; then drop the shards.
    """
    # A preparation that was killed left some, perhaps with other articles.
    shutil.rmtree(run.images, ignore_errors=True)
    shard_files = [path for _, path in numbered(run.prepared, "shard")]
    for part, start in enumerate(range(0, len(shard_files), PART)):
        tables = _articles(shard_files[start : start + PART], decision.article_of)
        write_atomically(
            run.images / f"part-{part:06d}.parquet",
            lambda path, tables=tables: write_images(path, tables),  # type: ignore[misc]
        )
    write_table(run.listing, decision.listing)
    write_table(run.near_duplicates, decision.near_duplicates)
    write_json(run.preparation, decision.preparation)
    write_table(run.catalog, decision.catalog)
    shutil.rmtree(run.prepared)


def write_images(path: Any, tables: Iterable[pa.Table]) -> None:
    """Write tables of IMAGES as one file of small row groups, so that one image can be read without
    its neighbours.

    Why: PNG does not compress again, and statistics of pixels would fill the footer.
    """
    with pq.ParquetWriter(
        path,
        schema.IMAGES,
        compression="none",
        use_dictionary=False,
        write_statistics=["article_id"],
    ) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=ROW_GROUP)


def _articles(shard_files: Sequence[Path], article_of: npt.NDArray[np.int32]) -> Iterator[pa.Table]:
    """Tables (IMAGES) of the listed images that became articles."""
    for path in shard_files:
        for batch in pq.ParquetFile(path).iter_batches(16 * ROW_GROUP, columns=["listed", "png"]):
            article_ids = article_of[batch["listed"].to_numpy()]
            stays = article_ids >= 0
            if stays.any():
                yield schema.table(
                    schema.IMAGES,
                    {
                        "article_id": article_ids[stays],
                        "png": batch["png"].filter(pa.array(stays)),
                    },
                )
