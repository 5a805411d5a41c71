"""The source that a study names, read by its module."""

import importlib

from advrec.catalog.listing import Listing
from advrec.errors import ConfigError
from advrec.spec.base import SPLITS
from advrec.spec.catalog import SOURCES, CatalogSpec


def read(spec: CatalogSpec, seed: int) -> Listing:
    """Everything that the source lists. A drawn one must have been drawn below `spec.root`.

    Raises:
        ConfigError: it cannot be read, tuples are impossible, or a split is missing.
    """
    listing: Listing = importlib.import_module(SOURCES[spec.source].module).read(spec, seed)
    splits = {article.split for article in listing.articles}
    for split in SPLITS:
        if split not in splits and not (split == "validation" and spec.published_split):
            raise ConfigError(
                f"{spec.manifest or spec.root}: lists no image of the {split} split; "
                "training needs train and validation, evaluation test"
            )
    return listing
