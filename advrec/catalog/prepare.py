"""From listed images to the catalog: duplicates go, then images without a texture, labels are what
remains.

The images are prepared in shards, runs of the listing, in parallel by whoever calls
(`prepare_shard`); a shard's presence in prepared/ says that it is done. When all are there `decide`
looks at their hashes alone, and `write` copies the images that stay, a few at a time.
"""

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from advrec.catalog import images
from advrec.catalog.duplicates import first_of_each, near_pairs
from advrec.catalog.files import Root
from advrec.catalog.images import Prepared, Unreadable
from advrec.catalog.listing import Listed, Listing
from advrec.errors import ConfigError
from advrec.run import schema
from advrec.run.directory import IMAGES, Run
from advrec.run.files import write_atomically, write_json, write_table
from advrec.spec.base import SPLITS
from advrec.spec.catalog import CatalogSpec, Square

SHARD = 256  # listed images a unit of work and of resume, at most
SHARD_PIXELS = 256 * 128 * 128  # of prepared images, at most: what a worker holds at once
PART = 16  # shards whose articles share a file of images/
ROW_GROUP = 8  # images read together when one is wanted
NEAR = 4  # bits of 64; up to here two images of different splits are reported as near duplicates

PUBLISHED = {
    "images listed": 289_222,
    "after duplicates": 279_057,
    "with texture labels": 106_649,
    "train": 77_059,
    "validation": 14_835,
    "test": 14_755,
    "categories": 46,
    "textures": 156,
}
"""Normann 2020, tables 3.1 and 3.2, the splits in the order of his notebook."""


def prepare_shard(
    source: Root, start: int, articles: Sequence[Listed], size: int, square: Square
) -> pa.Table:
    """The rows (PREPARED) of listed images start, start + 1, ... Raises UnreachableError."""
    return shard_table(
        start, [images.prepare(source, article, size, square) for article in articles]
    )


def shard_table(start: int, prepared: Sequence[Prepared | Unreadable]) -> pa.Table:
    def of_readable(name: str) -> list[Any]:
        return [getattr(image, name) if isinstance(image, Prepared) else None for image in prepared]

    return schema.table(
        schema.PREPARED,
        {
            "listed": range(start, start + len(prepared)),
            "png": of_readable("png"),
            "sha256": of_readable("sha256"),
            "phash": of_readable("phash"),
            "reason": [
                image.reason if isinstance(image, Unreadable) else None for image in prepared
            ],
        },
    )


def shards(listing: Listing, size: int) -> list[tuple[int, tuple[Listed, ...]]]:
    """First place and images of every shard, where images are prepared to `size` pixels."""
    images = max(1, min(SHARD, SHARD_PIXELS // size**2))
    return [
        (start, listing.articles[start : start + images])
        for start in range(0, len(listing.articles), images)
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """What stays of a listing."""

    catalog: pa.Table
    listing: pa.Table
    near_duplicates: pa.Table
    preparation: dict[str, Any]
    """Counts at each step, splits, label names and the catalog's hash, as stored in
    preparation.json.
    """
    article_of: npt.NDArray[np.int32]
    """(listed,): the article that a listed image became, or -1."""

    @property
    def set_aside(self) -> dict[str, str]:
        """Unreadable images by key, with the reason."""
        rows = zip(
            self.listing["name"].to_pylist(), self.listing["reason"].to_pylist(), strict=True
        )
        return {f"{IMAGES}{name}": reason for name, reason in rows if reason is not None}


def read_shards(run: Run) -> pa.Table:
    """All prepared rows but their images, in the listing's order."""
    columns = [name for name in schema.PREPARED.names if name != "png"]
    return (
        ds.dataset(run.prepared, format="parquet", schema=schema.PREPARED)
        .to_table(columns=columns)
        .sort_by("listed")
    )


def decide(spec: CatalogSpec, listing: Listing, rows: pa.Table) -> Decision:
    """Decide what stays. Duplicates go first, then images without textures: the other order gives
    other counts (see the study).

    Args:
        rows: as `read_shards` returns them, one a listed image.
    """
    listed = listing.articles
    reasons = rows["reason"].to_pylist()
    hashes = rows["phash"].fill_null(0).to_numpy()
    readable = np.array([reason is None for reason in reasons], dtype=bool)
    places = np.flatnonzero(readable)
    first: dict[str, int] = {}
    # listed twice: once
    stands_for = np.array(
        [first.setdefault(article.name, place) for place, article in enumerate(listed)]
    )
    if spec.duplicates != "keep":
        stands_for[places] = places[first_of_each(hashes[places], spec.duplicates)]
    distinct = readable & (stands_for == np.arange(len(listed)))
    textured = np.array([bool(article.textures) for article in listed], dtype=bool) | (
        not listing.has_textures
    )
    kept = np.flatnonzero(distinct & textured)
    article_of = np.full(len(listed), -1, dtype=np.int32)
    article_of[kept] = np.arange(len(kept), dtype=np.int32)

    steps = [
        ("images listed", np.ones(len(listed), dtype=bool)),
        ("readable", readable),
        ("after duplicates", distinct),
    ]
    if listing.has_textures:
        steps.append(("with texture labels", distinct & textured))
    outcomes = np.select(
        [article_of >= 0, ~readable, ~distinct],
        ["article", "unreadable", "duplicate"],
        "no texture",
    )
    catalog = _catalog_table([listed[place] for place in kept], rows["sha256"].take(pa.array(kept)))
    near = near_duplicates(hashes[kept], catalog["split"].to_pylist())
    articles = [listed[place] for place in kept]
    preparation = {
        **spec.model_dump(mode="json", include={"source", "image_size", "square", "duplicates"}),
        "steps": [
            {"step": step, "articles": int(mask.sum()), **_splits(listed, mask)}
            for step, mask in steps
        ],
        "splits": _splits(listed, article_of >= 0),
        "categories": sorted({a.category for a in articles}),
        "textures": sorted({texture for a in articles for texture in a.textures}),
        "near_duplicates": _count_near(near),
        "ignored": list(listing.ignored),
        "catalog_sha256": schema.content_hash(catalog),
    }
    table = schema.table(
        schema.LISTING,
        {
            "name": [a.name for a in listed],
            "category": [a.category for a in listed],
            "split": [a.split for a in listed],
            "outcome": outcomes.tolist(),
            "article_id": [
                int(a) if a >= 0 else None for a in np.where(readable, article_of[stands_for], -1)
            ],
            "phash": rows["phash"],
            "reason": reasons,
        },
    )
    return Decision(
        catalog=catalog,
        listing=table,
        near_duplicates=near,
        preparation=preparation,
        article_of=article_of,
    )


def check(made: Decision, spec: CatalogSpec) -> None:
    """Refuse a catalog that nothing can be measured on, or that has not the counts that are asked
    for: raises ConfigError.
    """
    if spec.published_counts:
        _check_published(made.preparation, merged=spec.published_split)
    aside = made.set_aside
    why = (
        f" ({len(aside):,} were set aside; {next(iter(aside))}: {next(iter(aside.values()))})"
        if aside
        else ""
    )
    for split, count in made.preparation["splits"].items():
        if not count and not (split == "validation" and spec.published_split):
            raise ConfigError(
                f"the {split} split holds no usable image{why}; add images, or split directories train, validation and test"
            )


def summary(preparation: dict[str, Any]) -> list[str]:
    """The counts of preparation.json as lines of text."""
    lines = [f"{step['articles']:>9,} {step['step']}" for step in preparation["steps"]]
    splits = ", ".join(f"{preparation['splits'][split]:,} {split}" for split in SPLITS)
    lines.append(
        f"{splits}; {len(preparation['categories'])} categories, {len(preparation['textures'])} textures"
    )
    return [*lines, *warnings(preparation)]


def warnings(preparation: dict[str, Any]) -> list[str]:
    """What of preparation.json makes a number look better than it is."""
    near = preparation.get("near_duplicates", {})
    if not near.get(str(NEAR)):
        return []
    return [
        f"{near[str(NEAR)]:,} of {preparation['splits']['test']:,} test articles have a near duplicate in train (perceptual hashes within "
        f"{NEAR} of 64 bits; {near['0']:,} an equal one): test accuracy may be too good"
    ]


def write(run: Run, made: Decision) -> None:
    """Write images, then the counts, then catalog.parquet, whose presence says that the catalog is
    whole; then drop the shards.
    """
    # of a preparation that was killed, perhaps with other articles
    shutil.rmtree(run.images, ignore_errors=True)
    shard_files = sorted(run.prepared.glob("shard-*.parquet"))
    for part, start in enumerate(range(0, len(shard_files), PART)):
        tables = _articles(shard_files[start : start + PART], made.article_of)
        write_atomically(
            run.images / f"part-{part:06d}.parquet",
            lambda path, tables=tables: write_images(path, tables),  # type: ignore[misc]
        )
    write_table(run.listing, made.listing)
    write_table(run.near_duplicates, made.near_duplicates)
    write_json(run.preparation, made.preparation)
    write_table(run.catalog, made.catalog)
    shutil.rmtree(run.prepared)


def write_images(path: Any, tables: Iterable[pa.Table]) -> None:
    """Write tables of IMAGES as one file of small row groups, so that one image can be read without
    its neighbours. PNG does not compress again, and statistics of pixels would fill the footer.
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


def _articles(shard_files: Sequence[Any], article_of: npt.NDArray[np.int32]) -> Iterator[pa.Table]:
    for path in shard_files:
        for batch in pq.ParquetFile(path).iter_batches(16 * ROW_GROUP, columns=["listed", "png"]):
            articles = article_of[batch["listed"].to_numpy()]
            kept = pa.array(articles >= 0)
            if kept.true_count:
                yield schema.table(
                    schema.IMAGES,
                    {"article_id": articles[articles >= 0], "png": batch["png"].filter(kept)},
                )


def _catalog_table(kept: Sequence[Listed], hashes: pa.ChunkedArray) -> pa.Table:
    return schema.table(
        schema.CATALOG,
        {
            "article_id": range(len(kept)),
            "name": [a.name for a in kept],
            "category": [a.category for a in kept],
            "textures": [sorted(a.textures) for a in kept],
            "split": [a.split for a in kept],
            "sha256": hashes,
        },
    )


def near_duplicates(hashes: npt.NDArray[np.uint64], splits: Sequence[str]) -> pa.Table:
    """Of every article the nearest one in each other split, if it is within NEAR bits, the first of
    those as near (NEAR_DUPLICATES).
    """
    distinct, groups = np.unique(hashes, return_inverse=True)
    split, total = np.array(splits, dtype=str), len(hashes)
    pairs, distances = near_pairs(distinct, NEAR)
    found = []
    for other in SPLITS:
        # The best code of every hash: distance * total + article, so that the nearest is the least,
        # and the first of those as near.
        nowhere = (NEAR + 1) * total
        best = np.full(len(distinct), nowhere, dtype=np.int64)
        members = np.flatnonzero(split == other)
        np.minimum.at(best, groups[members], members)
        equal = best.copy()
        for one, neighbour in ((0, 1), (1, 0)):
            there = equal[pairs[:, neighbour]]
            near = there < nowhere
            np.minimum.at(best, pairs[near, one], distances[near] * total + there[near])
        articles = np.flatnonzero((split != other) & (best[groups] < nowhere))
        distance, nearest = np.divmod(best[groups[articles]], max(total, 1))
        found.append((articles, split[articles], nearest, np.full(len(articles), other), distance))
    columns = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    return schema.table(
        schema.NEAR_DUPLICATES, dict(zip(schema.NEAR_DUPLICATES.names, columns, strict=True))
    )


def _count_near(near: pa.Table) -> dict[str, int]:
    """How many test articles have one in train within each distance: what inflates a model's test
    accuracy.
    """
    counts = Counter(
        row["distance"]
        for row in near.to_pylist()
        if (row["split"], row["other_split"]) == ("test", "train")
    )
    return {
        str(distance): sum(counts[d] for d in range(distance + 1)) for distance in range(NEAR + 1)
    }


def _splits(listed: Sequence[Listed], mask: npt.NDArray[np.bool_]) -> dict[str, int]:
    counts = Counter(
        article.split for article, counted in zip(listed, mask.tolist(), strict=True) if counted
    )
    return {split: counts[split] for split in SPLITS}


def _check_published(preparation: dict[str, Any], *, merged: bool) -> None:
    found = {step["step"]: step["articles"] for step in preparation["steps"]} | preparation[
        "splits"
    ]
    found |= {
        "categories": len(preparation["categories"]),
        "textures": len(preparation["textures"]),
    }
    expected = dict(PUBLISHED)
    if merged:
        expected |= {"train": PUBLISHED["train"] + PUBLISHED["validation"], "validation": 0}
    wrong = [
        f"{found.get(name, 0):,} {name} ({count:,} published)"
        for name, count in expected.items()
        if found.get(name, 0) != count
    ]
    if wrong:
        raise ConfigError(
            f"catalog.published_counts: the catalog has {'; '.join(wrong)}; see unknown_is_positive, and set published_counts: false to go "
            f"on with this catalog"
        )
