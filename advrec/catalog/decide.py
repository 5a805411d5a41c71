"""From listed images to the catalog: duplicates go, then images without a texture, labels are what
remains.

Suffixes say what an array counts: _l images of the listing, _a articles, which are the images that
stay. Places are numbers of listed images.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from advrec.catalog import published
from advrec.catalog.duplicates import count_near, first_of_each, first_ranks, near_duplicates
from advrec.catalog.listing import Listed, Listing
from advrec.errors import ConfigError
from advrec.run import schema
from advrec.run.directory import IMAGES
from advrec.spec.base import SPLITS
from advrec.spec.catalog import CatalogSpec

OTHER_COLOUR = 10
"""Largest difference of a channel of two mean colours, of 255, that storing an image again may
make.
"""

Mask = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """Everything that preparation keeps of a listing."""

    catalog: pa.Table
    listing: pa.Table
    near_duplicates: pa.Table
    preparation: dict[str, Any]
    """Counts at each step, splits, label names and the catalog's hash, as stored in
    preparation.json.
    """
    article_of: npt.NDArray[np.int32]
    """(L,) for L listed images: the article that a listed image became, or -1."""

    @property
    def set_aside(self) -> dict[str, str]:
        """Unreadable images by key, with the reason."""
        rows = zip(
            self.listing["name"].to_pylist(), self.listing["reason"].to_pylist(), strict=True
        )
        return {f"{IMAGES}{name}": reason for name, reason in rows if reason is not None}


class _Fates(NamedTuple):
    """Why each listed image stays or goes."""

    readable_l: Mask
    distinct_l: Mask
    """Readable, and no copy of an earlier image."""
    textured_l: Mask
    """Has a texture, or is of a source that knows none."""
    original_l: npt.NDArray[np.int64]
    """Place of the image that stands for each: its own, or that of an earlier copy."""

    @property
    def stays_l(self) -> Mask:
        return self.distinct_l & self.textured_l


def decide(spec: CatalogSpec, listing: Listing, rows: pa.Table) -> Decision:
    """Decide what stays. Duplicates go first, then images without textures: the other order gives
    other counts (see the study).

    Args:
        rows: as `read_shards` returns them, one a listed image.
    """
    hashes_l = rows["phash"].fill_null(0).to_numpy()
    fates = _fates(spec, listing, hashes_l, rows["reason"])
    places_a = np.flatnonzero(fates.stays_l)
    article_of_l = np.full(len(listing.articles), -1, dtype=np.int32)
    article_of_l[places_a] = np.arange(len(places_a), dtype=np.int32)

    articles = [listing.articles[place] for place in places_a]
    catalog = _catalog_table(articles, rows["sha256"].take(pa.array(places_a)))
    near = near_duplicates(hashes_l[places_a], [article.split for article in articles])
    preparation = {
        **spec.model_dump(mode="json", include={"source", "image_size", "square", "duplicates"}),
        "steps": _steps(listing, fates),
        "splits": _splits(listing.articles, fates.stays_l),
        "categories": sorted({article.category for article in articles} - {""}),
        "textures": sorted({texture for article in articles for texture in article.textures}),
        "near_duplicates": count_near(near),
        "merged": _merged(listing.articles, fates, rows["colour"].to_pylist()),
        "vanished_categories": sorted(
            {listed.category for listed in listing.articles}
            - {article.category for article in articles}
        ),
        "untested_categories": sorted(
            {article.category for article in articles}
            - {article.category for article in articles if article.split == "test"}
            - {""}
        ),
        "equal_images": first_ranks(
            catalog["sha256"].to_pylist(), [article.split for article in articles]
        ),
        "ignored": list(listing.ignored),
        "catalog_sha256": schema.content_hash(catalog),
    }
    return Decision(
        catalog=catalog,
        listing=_listing_table(listing.articles, rows, fates, article_of_l),
        near_duplicates=near,
        preparation=preparation,
        article_of=article_of_l,
    )


def check(decision: Decision, spec: CatalogSpec) -> None:
    """Refuse a catalog that nothing can be measured on, or that has not the counts that are asked
    for: raises ConfigError.
    """
    if spec.published_counts:
        published.check_prepared(decision.preparation, merged=spec.published_split)
    aside = decision.set_aside
    why = ""
    if aside:
        name, reason = next(iter(aside.items()))
        why = f" ({len(aside):,} were set aside; {name}: {reason})"
    for split, count in decision.preparation["splits"].items():
        if not count and not (split == "validation" and spec.published_split):
            raise ConfigError(
                f"the {split} split holds no usable image{why}; "
                "add images, or split directories train, validation and test"
            )


def _fates(
    spec: CatalogSpec,
    listing: Listing,
    hashes_l: npt.NDArray[np.uint64],
    reasons_l: pa.ChunkedArray,
) -> _Fates:
    readable_l = reasons_l.is_null().to_numpy()
    first_place: dict[str, int] = {}
    # An image that is listed twice is one.
    original_l = np.array(
        [
            first_place.setdefault(article.name, place)
            for place, article in enumerate(listing.articles)
        ],
        dtype=np.int64,
    )
    if spec.duplicates != "keep":
        places = np.flatnonzero(readable_l)
        original_l[places] = places[first_of_each(hashes_l[places], spec.duplicates)]
    has_texture_l = np.array([bool(article.textures) for article in listing.articles], dtype=bool)
    return _Fates(
        readable_l=readable_l,
        distinct_l=readable_l & (original_l == np.arange(len(original_l))),
        textured_l=has_texture_l | (not listing.has_textures),
        original_l=original_l,
    )


def _steps(listing: Listing, fates: _Fates) -> list[dict[str, Any]]:
    """Images that are left after each step, in all and by split."""
    steps = [
        ("images listed", np.ones(len(listing.articles), dtype=bool)),
        ("readable", fates.readable_l),
        ("after duplicates", fates.distinct_l),
    ]
    if listing.has_textures:
        steps.append(("with texture labels", fates.stays_l))
    return [
        {"step": step, "articles": int(left_l.sum()), **_splits(listing.articles, left_l)}
        for step, left_l in steps
    ]


def _splits(listed: Sequence[Listed], counted_l: Mask) -> dict[str, int]:
    counts = Counter(
        article.split
        for article, counted in zip(listed, counted_l.tolist(), strict=True)
        if counted
    )
    return {split: counts[split] for split in SPLITS}


def _merged(
    listed: Sequence[Listed], fates: _Fates, colours_l: Sequence[Sequence[int] | None]
) -> dict[str, int]:
    """Images that count as duplicates, and those among them that may be other articles: of another
    category than the image that stays, or of another mean colour, to which the hash is blind.

    Args:
        colours_l: mean colour of each listed image, None where it is not known.
    """
    pairs = [
        (place, int(fates.original_l[place]))
        for place in np.flatnonzero(fates.readable_l & ~fates.distinct_l).tolist()
    ]
    return {
        "images": len(pairs),
        "other_category": sum(listed[a].category != listed[b].category for a, b in pairs),
        "other_colour": sum(_differ(colours_l[a], colours_l[b]) for a, b in pairs),
    }


def _differ(one: Sequence[int] | None, other: Sequence[int] | None) -> bool:
    if one is None or other is None:
        return False
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) > OTHER_COLOUR


def _catalog_table(articles: Sequence[Listed], sha256: pa.ChunkedArray) -> pa.Table:
    return schema.table(
        schema.CATALOG,
        {
            "article_id": range(len(articles)),
            "name": [article.name for article in articles],
            "category": [article.category for article in articles],
            "textures": [sorted(article.textures) for article in articles],
            "split": [article.split for article in articles],
            "sha256": sha256,
        },
    )


def _listing_table(
    listed: Sequence[Listed], rows: pa.Table, fates: _Fates, article_of_l: npt.NDArray[np.int32]
) -> pa.Table:
    outcome_l = np.select(
        [fates.stays_l, ~fates.readable_l, ~fates.distinct_l],
        ["article", "unreadable", "duplicate"],
        "no texture",
    )
    # A copy points to the article that its original became.
    article_l = np.where(fates.readable_l, article_of_l[fates.original_l], -1)
    return schema.table(
        schema.LISTING,
        {
            "name": [article.name for article in listed],
            "category": [article.category for article in listed],
            "split": [article.split for article in listed],
            "outcome": outcome_l.tolist(),
            "article_id": [article if article >= 0 else None for article in article_l.tolist()],
            "phash": rows["phash"],
            "reason": rows["reason"].to_pylist(),
        },
    )
