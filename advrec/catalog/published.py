"""Counts of the published study's catalog: Normann 2020, tables 3.1 and 3.2, the splits in the
order of his notebook.
"""

from typing import Any

from advrec.errors import ConfigError

STEPS = {
    "images listed": 289_222,
    "after duplicates": 279_057,
    "with texture labels": 106_649,
}
"""Images that are left after each step of preparation."""
SPLITS = {"train": 77_059, "validation": 14_835, "test": 14_755}
LABELS = {"categories": 46, "textures": 156}


def check_listed(images: int, root: str) -> None:
    """Refuse a DeepFashion that lists another number of images: raises ConfigError."""
    expected = STEPS["images listed"]
    if images != expected:
        raise ConfigError(
            f"{root}: {images:,} images are listed, the study has {expected:,}; "
            "set published_counts: false"
        )


def check_prepared(preparation: dict[str, Any], *, merged: bool) -> None:
    """Refuse a catalog that has other counts.

    Args:
        preparation: the content of preparation.json.
        merged: whether train and validation are one split (`published_split`).

    Raises:
        ConfigError: a count differs.
    """
    counts = {step["step"]: step["articles"] for step in preparation["steps"]}
    counts |= preparation["splits"]
    counts |= {name: len(preparation[name]) for name in LABELS}
    expected = STEPS | SPLITS | LABELS
    if merged:
        expected |= {"train": SPLITS["train"] + SPLITS["validation"], "validation": 0}
    wrong = [
        f"{counts.get(name, 0):,} {name} ({count:,} published)"
        for name, count in expected.items()
        if counts.get(name, 0) != count
    ]
    if wrong:
        raise ConfigError(
            f"catalog.published_counts: the catalog has {'; '.join(wrong)}; "
            "see unknown_is_positive, and set published_counts: false to go on with this catalog"
        )
