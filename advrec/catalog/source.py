"""The source that a study names, read."""

from advrec.catalog import deepfashion, folder, manifest
from advrec.catalog.listing import Listing
from advrec.catalog_spec import CatalogSpec


def read(spec: CatalogSpec, seed: int) -> Listing:
    """What the source lists; the synthetic one must have been drawn, see `synthetic`.

    Raises:
        ConfigError: it cannot be read, or tuples are impossible.
    """
    root = str(spec.root)
    if spec.manifest is not None:
        return manifest.read(spec.manifest, root, seed)
    return folder.read(root, seed) if spec.source == "folder" else deepfashion.read(root, spec)
