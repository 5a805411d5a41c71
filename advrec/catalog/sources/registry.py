"""The source that a study names, read."""

from advrec.catalog.listing import Listing
from advrec.catalog.sources import deepfashion, folder, manifest
from advrec.errors import ConfigError
from advrec.spec.base import SPLITS
from advrec.spec.catalog import CatalogSpec


def read(spec: CatalogSpec, seed: int) -> Listing:
    """What the source lists; the synthetic one must have been drawn, see `synthetic`.

    Raises:
        ConfigError: it cannot be read, tuples are impossible, or a split is missing.
    """
    listing = _read(spec, seed, str(spec.root))
    splits = {article.split for article in listing.articles}
    for split in SPLITS:
        if split not in splits and not (split == "validation" and spec.published_split):
            raise ConfigError(
                f"{spec.manifest or spec.root}: lists no image of the {split} split; training needs train and validation, evaluation test"
            )
    return listing


def _read(spec: CatalogSpec, seed: int, root: str) -> Listing:
    if spec.manifest is not None:
        return manifest.read(spec.manifest, root, seed)
    return folder.read(root, seed) if spec.source == "folder" else deepfashion.read(root, spec)
