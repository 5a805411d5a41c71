"""Drawing and preparing images, in parallel on Ray or in this process.

The workers read and decode; the driver writes each shard as it comes back.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from advrec.catalog import files
from advrec.catalog.images import Unreadable
from advrec.catalog.listing import Listed, Listing
from advrec.catalog.shards import cut, prepare_shard, shard_table
from advrec.catalog.sources import synthetic
from advrec.distributed.placement import Placement
from advrec.distributed.pool import Pool, Unit, open_pool
from advrec.errors import AdvrecError, UnreachableError
from advrec.model.memory import keep_freed
from advrec.run.directory import Run
from advrec.run.files import write_atomically
from advrec.run.progress import Progress
from advrec.spec.catalog import CatalogSpec

DRAWN = 64  # images a unit of drawing: about half a second


class Preparer:
    """One worker that draws images, and turns listed ones into the bytes of their shard."""

    def __init__(self) -> None:
        keep_freed()

    def draw(self, root: Path, entries: Sequence[synthetic.Entry]) -> int:
        """Write some images of a synthetic catalog below `root`; returns their number."""
        synthetic.write_images(root, entries)
        return len(entries)

    def prepare(
        self, root: tuple[str, str], start: int, articles: Sequence[Listed], spec: CatalogSpec
    ) -> pa.Buffer | str:
        """The shard; or why the source cannot be reached, which is no fault of an image."""
        try:
            return _encoded(
                prepare_shard(files.at(*root), start, articles, spec.image_size, spec.square)
            )
        except AdvrecError as error:
            return str(error)


def preparers(processes: int) -> Pool:
    """A pool of preparers, in so many processes at most; 0: in this one."""
    return open_pool(Preparer, placement=Placement(processes, 0.0, 1))


def draw(root: Path, plan: synthetic.Plan, pool: Pool) -> None:
    """Write the images of a synthetic catalog below `root`.

    Raises:
        AdvrecError: images could not be drawn.
    """
    chunks = [plan.entries[start : start + DRAWN] for start in range(0, len(plan.entries), DRAWN)]
    with Progress("draw", len(plan.entries), "images") as progress:
        failed = pool.run(
            [_drawing(number, root, chunk) for number, chunk in enumerate(chunks)],
            lambda unit, drawn: progress.advance(drawn),
        )
    if failed:
        raise AdvrecError(f"images could not be drawn: {next(iter(failed.values()))}")


def _drawing(number: int, root: Path, entries: Sequence[synthetic.Entry]) -> Unit:
    return Unit(key=f"draw {number}", method="draw", arguments=lambda: (root, entries))


def prepare_shards(run: Run, spec: CatalogSpec, listing: Listing, pool: Pool) -> None:
    """Prepare every shard of the listing that is not there yet.

    An image that kills its process (a decoder may crash) takes its shard along; the images of such
    a shard are tried one by one, and those that do it again are unreadable. In a pool of this
    process it ends this one.

    Raises:
        UnreachableError: the source's filesystem does not answer; what was prepared stays.
    """
    root = (listing.root, listing.base)
    shards = list(enumerate(cut(listing, spec.image_size)))
    work = {
        f"shard {shard}": (shard, start, articles)
        for shard, (start, articles) in shards
        if not run.shard(shard).exists()
    }
    total = len(listing.articles)
    done = total - sum(len(articles) for _, _, articles in work.values())

    def write(key: str, encoded: pa.Buffer | str) -> None:
        shard, _, articles = work[key]
        _check_reached(encoded, listing.root)
        assert not isinstance(encoded, str)
        write_atomically(run.shard(shard), lambda path: path.write_bytes(encoded))
        progress.advance(len(articles))

    with Progress("prepare", total, "images", done=done) as progress:
        units = [
            _unit(key, root, start, articles, spec) for key, (_, start, articles) in work.items()
        ]
        for key in pool.run(units, lambda unit, encoded: write(unit.key, encoded)):
            _, start, articles = work[key]
            write(key, _encoded(_one_by_one(pool, root, start, articles, spec)))


def prepare_again(
    listing: Listing, articles: Sequence[Listed], spec: CatalogSpec, processes: int
) -> pa.Table:
    """The rows (PREPARED) of images of a listing that could not be read before, each tried alone;
    nothing is written. Raises UnreachableError.
    """
    with preparers(processes) as pool:
        return _one_by_one(pool, (listing.root, listing.base), 0, articles, spec)


def _one_by_one(
    pool: Pool, root: tuple[str, str], start: int, articles: Sequence[Listed], spec: CatalogSpec
) -> pa.Table:
    rows: dict[str, pa.Table] = {}
    units = [
        _unit(str(start + place), root, start + place, [article], spec)
        for place, article in enumerate(articles)
    ]

    def keep(unit: Unit, encoded: pa.Buffer | str) -> None:
        _check_reached(encoded, root[0])
        rows[unit.key] = pq.read_table(pa.BufferReader(encoded))

    hopeless = pool.run(units, keep)
    rows |= {
        place: shard_table(int(place), [Unreadable(reason)]) for place, reason in hopeless.items()
    }
    return pa.concat_tables(rows[unit.key] for unit in units)


def _check_reached(result: pa.Buffer | str, root: str) -> None:
    if isinstance(result, str):
        raise UnreachableError(
            f"{root}: {result}; what was prepared before is kept, "
            "the same command goes on from there"
        )


def _unit(
    key: str, root: tuple[str, str], start: int, articles: Sequence[Listed], spec: CatalogSpec
) -> Unit:
    return Unit(key=key, method="prepare", arguments=lambda: (root, start, articles, spec))


def _encoded(table: pa.Table) -> pa.Buffer:
    # A buffer, unlike bytes, goes through the object store without a copy. The images are
    # compressed already.
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        row_group_size=128,
    )
    return sink.getvalue()
