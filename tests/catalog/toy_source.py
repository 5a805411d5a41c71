"""A source as ARCHITECTURE.md says to add one: files of one directory, named <category>-<n>.png."""

from pathlib import Path

from advrec.catalog.listing import Listed, Listing
from advrec.catalog.sources.splits import split
from advrec.spec.catalog import CatalogSpec


def read(spec: CatalogSpec, seed: int) -> Listing:
    root = Path(str(spec.root))
    categories = sorted({file.name.partition("-")[0] for file in root.glob("*.png")})
    articles = [
        Listed(name, category, (), kept)
        for category in categories
        for name, kept in split([file.name for file in root.glob(f"{category}-*.png")], seed)
    ]
    return Listing(root=str(root), articles=tuple(articles), has_textures=False).checked(str(root))
