"""The prepared catalog, read: labels as arrays, images by article."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from advrec import schema
from advrec.catalog.pixels import Pixels, decode_png
from advrec.config import Split
from advrec.store import Run, read_json, read_table


class Catalog:
    """Read-only view of the catalog in a run directory; article j is row j everywhere."""

    def __init__(self, run: Run) -> None:
        table = read_table(run.catalog, schema.CATALOG)
        preparation = read_json(run.preparation)
        self._run = run
        self.names: list[str] = table["name"].to_pylist()
        self.sha256: str = preparation["catalog_sha256"]
        self.categories: tuple[str, ...] = tuple(preparation["categories"])
        self.textures: tuple[str, ...] = tuple(preparation["textures"])
        self.category_names: list[str] = table["category"].to_pylist()
        self.texture_names: list[list[str]] = table["textures"].to_pylist()
        self._splits = np.array(table["split"].to_pylist())

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def category_labels(self) -> npt.NDArray[np.int64]:
        """(N,), places in `categories`."""
        place = {name: label for label, name in enumerate(self.categories)}
        return np.array([place[name] for name in self.category_names], dtype=np.int64)

    @cached_property
    def texture_labels(self) -> npt.NDArray[np.float32]:
        """(N, textures), 0 or 1."""
        labels = np.zeros((len(self), len(self.textures)), dtype=np.float32)
        place = {name: label for label, name in enumerate(self.textures)}
        for article, names in enumerate(self.texture_names):
            labels[article, [place[name] for name in names]] = 1.0
        return labels

    def ids_of(self, split: Split) -> npt.NDArray[np.int32]:
        """Articles of a split, ascending."""
        return np.flatnonzero(self._splits == split).astype(np.int32)

    def pixels(self, article_ids: Sequence[int] | npt.NDArray[np.integer]) -> Pixels:
        """Prepared images (n, H, W, 3) uint8 of the given articles, in their order."""
        return np.stack([decode_png(self._pngs[int(article)]) for article in article_ids])

    @cached_property
    def _pngs(self) -> list[bytes]:
        table = read_table(self._run.images, schema.IMAGES).sort_by("article_id")
        pngs: list[bytes] = table["png"].to_pylist()
        return pngs
