"""The source that a study names, read by its module."""

import importlib
from collections import Counter

from advrec.catalog.listing import Listing
from advrec.catalog.sources import splits
from advrec.errors import ConfigError
from advrec.spec.base import SPLITS
from advrec.spec.catalog import SOURCES, CatalogSpec


def read(spec: CatalogSpec, seed: int) -> Listing:
    """Everything that the source lists. A drawn one must have been drawn below `spec.root`.

    Raises:
        ConfigError: it cannot be read, tuples are impossible, or a split is missing.
    """
    listing: Listing = importlib.import_module(SOURCES[spec.source].module).read(spec, seed)
    listed = {article.split for article in listing.articles}
    for split in SPLITS:
        if split not in listed and not (split == "validation" and spec.published_split):
            raise ConfigError(
                f"{spec.manifest or spec.root}: lists no image of the {split} split; "
                f"training needs train and validation, evaluation test{_remedy(listing)}"
            )
    return listing


def _remedy(listing: Listing) -> str:
    """A clause for a source whose categories are all too small to be split; else empty."""
    sizes = Counter(article.category for article in listing.articles)
    if max(sizes.values()) >= splits.SMALLEST:
        return ""
    return (
        f"; none of the {len(sizes):,} categories has {splits.SMALLEST} images, from which on the "
        "split 70/15/15 of each leaves one for test: merge categories, or name the splits, in "
        "directories train, validation and test or in a manifest's column split"
    )
