"""Drawing and preparing images in parallel. The actors read and decode; the driver writes each shard as it comes back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.actor import ActorHandle

from advrec.catalog import prepare, synthetic
from advrec.catalog.images import Unreadable
from advrec.catalog.listing import Listed, Listing
from advrec.catalog_spec import CatalogSpec
from advrec.distributed.engine import Pool, Unit, map_in_order
from advrec.model.memory import keep_freed
from advrec.progress import Progress
from advrec.store import Run, write_atomically

DRAWN = 64  # images a task of drawing: about half a second


def draw(root: Path, plan: synthetic.Plan) -> None:
    """Write the images of a synthetic catalog below `root`."""
    progress = Progress("draw", len(plan.entries), "images")
    chunks = [plan.entries[start : start + DRAWN] for start in range(0, len(plan.entries), DRAWN)]
    map_in_order(_draw, [(root, chunk) for chunk in chunks], on_result=progress.advance)
    progress.close()


def _draw(root: Path, entries: Sequence[synthetic.Entry]) -> int:
    synthetic.write_images(root, entries)
    return len(entries)


class Preparer:
    """One process that turns runs of listed images into the bytes of their shard, as Parquet."""

    def __init__(self) -> None:
        keep_freed()

    def prepare(self, root: str, start: int, articles: Sequence[Listed], spec: CatalogSpec) -> pa.Buffer:
        return _encoded(prepare.prepare_shard(root, start, articles, spec.image_size, spec.square))


def prepare_shards(run: Run, spec: CatalogSpec, listing: Listing) -> None:
    """Prepare every shard of the listing that is not there yet.

    An image that kills its process (a decoder may crash) takes its shard along; the images of such a shard are tried one by one, and
    those that do it again are unreadable.
    """
    shards = list(enumerate(prepare.shards(listing)))
    work = {f"shard {shard}": (shard, start, articles) for shard, (start, articles) in shards if not run.shard(shard).exists()}
    progress = Progress(
        "prepare", len(listing.articles), "images", done=len(listing.articles) - sum(len(articles) for _, _, articles in work.values())
    )

    def unit(key: str, start: int, articles: Sequence[Listed]) -> Unit:
        return Unit(key=key, method="prepare", arguments=lambda: (listing.root, start, articles, spec))

    def write(key: str, encoded: pa.Buffer) -> None:
        shard, _, articles = work[key]
        write_atomically(run.shard(shard), lambda path: path.write_bytes(encoded))
        progress.advance(len(articles))

    with Pool(_start, int(ray.cluster_resources()["CPU"])) as pool:
        failed = pool.run([unit(key, *shard[1:]) for key, shard in work.items()], lambda done, encoded: write(done.key, encoded))
        for key in failed:
            _, start, articles = work[key]
            alone: dict[str, Any] = {}
            units = [unit(str(start + place), start + place, [article]) for place, article in enumerate(articles)]
            hopeless = pool.run(units, lambda done, encoded, alone=alone: alone.update({done.key: pq.read_table(encoded)}))  # type: ignore[misc]
            alone |= {place: prepare.shard_table(int(place), [Unreadable(reason)]) for place, reason in hopeless.items()}
            write(key, _encoded(pa.concat_tables(alone[unit.key] for unit in units)))
    progress.close()


def _encoded(table: pa.Table) -> pa.Buffer:
    # A buffer, unlike bytes, goes through the object store without a copy. The images are compressed already.
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="none", use_dictionary=False, write_statistics=False, row_group_size=128)
    return sink.getvalue()


def _start() -> ActorHandle:
    return ray.remote(Preparer).options(num_cpus=1, max_restarts=0, max_task_retries=0).remote()
