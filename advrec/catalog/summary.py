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
    """Facts in preparation.json that make a number look better than it is."""
    near = preparation.get("near_duplicates", {})
    if not near.get(str(NEAR)):
        return []
    return [
        f"{near[str(NEAR)]:,} of {preparation['splits']['test']:,} test articles have a near "
        f"duplicate in train (perceptual hashes within {NEAR} of 64 bits; "
        f"{near['0']:,} an equal one): test accuracy may be too good"
    ]
