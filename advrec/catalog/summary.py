"""The counts of preparation.json as lines of text."""

from typing import Any

from advrec.catalog.duplicates import NEAR
from advrec.spec.base import SPLITS


def summary(preparation: dict[str, Any]) -> list[str]:
    """The counts of preparation.json as lines of text, warnings last."""
    lines = [f"{step['articles']:>9,} {step['step']}" for step in preparation["steps"]]
    splits = ", ".join(f"{preparation['splits'][split]:,} {split}" for split in SPLITS)
    categories, textures = len(preparation["categories"]), len(preparation["textures"])
    return [
        *lines,
        f"{splits}; {categories} categories, {textures} textures",
        *warnings(preparation),
    ]


def warnings(preparation: dict[str, Any]) -> list[str]:
    """Facts in preparation.json that make a number mislead."""
    return [*_near(preparation), *_equal(preparation)]


def _near(preparation: dict[str, Any]) -> list[str]:
    near = preparation.get("near_duplicates", {})
    if not near.get(str(NEAR)):
        return []
    return [
        f"{near[str(NEAR)]:,} of {preparation['splits']['test']:,} test articles have a near "
        f"duplicate in train (perceptual hashes within {NEAR} of 64 bits; "
        f"{near['0']:,} an equal one): test accuracy may be too good"
    ]


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
