"""Drawing and preparing images in parallel: chunks of a listing, one Ray task each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from advrec.catalog import synthetic
from advrec.catalog.images import Prepared, Unreadable, prepare
from advrec.catalog.listing import Listed, Listing
from advrec.distributed.engine import map_in_order
from advrec.progress import Progress

CHUNK = 64  # images a task: about half a second
Item = TypeVar("Item")


def draw(root: Path, plan: synthetic.Plan) -> None:
    """Write the images of a synthetic catalog below `root`."""
    progress = Progress("draw", len(plan.entries), "images")
    chunks = _chunks(plan.entries)
    map_in_order(_draw, [(root, chunk) for chunk in chunks], on_result=progress.advance)
    progress.close()


def prepare_images(listing: Listing, size: int) -> list[Prepared | Unreadable]:
    """`images.prepare` of every listed image, in the listing's order."""
    progress = Progress("prepare", len(listing.articles), "images")
    chunks = _chunks(listing.articles)
    arguments: list[tuple[Any, ...]] = [(listing.root, chunk, size) for chunk in chunks]
    results = map_in_order(_prepare, arguments, on_result=lambda images: progress.advance(len(images)))
    progress.close()
    return [image for images in results for image in images]


def _draw(root: Path, entries: Sequence[synthetic.Entry]) -> int:
    synthetic.write_images(root, entries)
    return len(entries)


def _prepare(root: Path, articles: Sequence[Listed], size: int) -> list[Prepared | Unreadable]:
    return [prepare(root / article.name, size) for article in articles]


def _chunks(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
