"""The counts of preparation.json as lines of text."""

from collections.abc import Sequence
from typing import Any

from advrec.catalog.duplicates import NEAR
from advrec.spec.base import SPLITS

NAMED = 5  # categories in a line


def summary(preparation: dict[str, Any]) -> list[str]:
    """The counts of preparation.json as lines of text, warnings last."""
    lines = [f"{step['articles']:>9,} {step['step']}" for step in preparation["steps"]]
    splits = ", ".join(f"{preparation['splits'][split]:,} {split}" for split in SPLITS)
    categories, textures = len(preparation["categories"]), len(preparation["textures"])
    labels = f"{categories} categories" if categories else "no categories"
    return [
        *lines,
        f"{splits}; {labels}, {textures} textures",
        *warnings(preparation),
    ]


def warnings(preparation: dict[str, Any]) -> list[str]:
    """Facts in preparation.json that make a number mislead."""
    return [
        *_near(preparation),
        *_merged(preparation),
        *_categories(preparation),
        *_equal(preparation),
    ]


def _near(preparation: dict[str, Any]) -> list[str]:
    near = preparation.get("near_duplicates", {})
    if not near.get(str(NEAR)):
        return []
    return [
        f"{near[str(NEAR)]:,} of {preparation['splits']['test']:,} test articles have a near "
        f"duplicate in train (perceptual hashes within {NEAR} of 64 bits; "
        f"{near['0']:,} an equal one): test accuracy may be too good"
    ]


def _merged(preparation: dict[str, Any]) -> list[str]:
    merged = preparation.get("merged", {})
    category, colour = merged.get("other_category", 0), merged.get("other_colour", 0)
    if not category and not colour:
        return []
    return [
        f"of {merged['images']:,} images that went as duplicates {category:,} are of another "
        f"category than the image that stays and {colour:,} of another mean colour: the "
        "perceptual hash sees light and dark alone; duplicates: keep keeps all, listing.parquet "
        "names each"
    ]


def _categories(preparation: dict[str, Any]) -> list[str]:
    left = preparation.get("categories", [])
    vanished = preparation.get("vanished_categories", [])
    untested = preparation.get("untested_categories", [])
    lines = []
    if vanished:
        lines.append(
            f"no article is left of {len(vanished):,} of {len(left) + len(vanished):,} "
            f"categories: {_named(vanished)}"
        )
    if untested:
        lines.append(
            f"{len(untested):,} of {len(left):,} categories have no test article "
            f"({_named(untested)}): tuples of the test split are of the other "
            f"{len(left) - len(untested):,} alone"
        )
    return lines


def _named(names: Sequence[str]) -> str:
    return ", ".join([*names[:NAMED], *(["..."] if len(names) > NAMED else [])])


def _equal(preparation: dict[str, Any]) -> list[str]:
    equal = preparation.get("equal_images", {}).get("test")
    if equal is None:
        return []
    low, high = equal["smallest"], equal["largest"]
    ranks = f"{low:,}" if low == high else f"{low:,} to {high:,} (median {equal['median']:g})"
    remedy = "; duplicates: 0 keeps one of each" if preparation["duplicates"] == "keep" else ""
    return [
        f"{equal['articles']:,} of {preparation['splits']['test']:,} test articles have equal ones "
        "in the catalog (the same prepared image), which stand before any attacked image: where "
        f"these are targets, success begins to be possible at rank {ranks}{remedy}"
    ]
