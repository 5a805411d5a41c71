"""The prepared catalog, read: labels as arrays, images by article, of which only some are in
memory.
"""

from collections import OrderedDict
from collections.abc import Sequence, Set
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from advrec.catalog.duplicates import equal_images
from advrec.catalog.pixels import Pixels, decode_png
from advrec.errors import ConfigError
from advrec.run import schema
from advrec.run.directory import Run
from advrec.run.files import numbered, read_json
from advrec.run.tables import read_table
from advrec.spec.base import Split

CACHE_BYTES = 256 * 2**20  # of encoded images that a process keeps
OPEN_FILES = 64
MEASURED: tuple[Split, ...] = ("test", "validation")
"""Splits that models are measured and selected on."""

Ids = Sequence[int] | npt.NDArray[np.integer]


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
        self._texture_names = table["textures"]
        self._image_hashes: list[str] = table["sha256"].to_pylist()
        self._splits = np.array(table["split"].to_pylist())

    def __len__(self) -> int:
        return len(self.names)

    @property
    def labelled(self) -> bool:
        """The articles have categories."""
        return bool(self.categories)

    @cached_property
    def category_labels(self) -> npt.NDArray[np.int64]:
        """(N,), places in `categories`; zeros where there are none."""
        if not self.labelled:
            return np.zeros(len(self), dtype=np.int64)
        place = {name: label for label, name in enumerate(self.categories)}
        return np.array([place[name] for name in self.category_names], dtype=np.int64)

    @cached_property
    def texture_labels(self) -> npt.NDArray[np.bool_]:
        """(N, textures), whether the article has the texture."""
        labels = np.zeros((len(self), len(self.textures)), dtype=bool)
        place = {name: label for label, name in enumerate(self.textures)}
        for article, names in enumerate(self._texture_names.to_pylist()):
            labels[article, [place[name] for name in names]] = True
        return labels

    @cached_property
    def groups(self) -> npt.NDArray[np.int32] | None:
        """(N,), `duplicates.equal_images`; None where all images differ."""
        groups = equal_images(self._image_hashes)
        return groups if groups.any() else None

    def ids_of(self, split: Split, most: int | None = None) -> npt.NDArray[np.int32]:
        """Articles (n,) of a split, ascending. Where it has more than `most`, every second, third,
        or so on: a catalog may be in the order of its categories, and the first would be of a few.
        """
        ids = np.flatnonzero(self._splits == split).astype(np.int32)
        return ids[:: max(1, -(-len(ids) // most))] if most else ids

    def hashes_of(self, ids: Ids) -> set[str]:
        """Hashes of the prepared images of articles (n,), as far as they are known."""
        return {self._image_hashes[article] for article in ids} - {""}

    def seen_in(self, hashes: Set[str]) -> dict[str, int]:
        """Numbers of test and validation articles whose images have one of these hashes.

        By them a training has seen what it is measured on. They are keys of metrics.json.
        """
        return {
            f"{split}_images_seen": sum(
                self._image_hashes[article] in hashes for article in self.ids_of(split)
            )
            for split in MEASURED
        }

    def find(self, article: str) -> int:
        """The article of an ID or a name.

        Raises:
            ConfigError: there is none.
        """
        if article in self.names:
            return self.names.index(article)
        if article.isdecimal() and int(article) < len(self):
            return int(article)
        raise ConfigError(
            f"{article} is not an article; "
            f"the catalog holds IDs 0..{len(self) - 1} and the names in catalog.parquet"
        )

    def pixels(self, article_ids: Ids) -> Pixels:
        """Prepared images (n, H, W, 3) uint8 of the given articles, in their order."""
        return np.stack([decode_png(png) for png in self.pngs(article_ids)])

    def pngs(self, article_ids: Ids) -> list[bytes]:
        """Prepared images of articles (n,), in their order, as lossless bytes."""
        return self._images.pngs(article_ids)

    @cached_property
    def _images(self) -> "_Images":
        return _Images(self._run)


class _Images:
    """Images by article out of Parquet files, whose row groups hold ascending articles; the last
    ones read stay, up to CACHE_BYTES.
    """

    def __init__(self, run: Run) -> None:
        self._paths = [path for _, path in numbered(run.images, "part")]
        # Kept open, since a footer takes longer to read than an image, but not all: a process may
        # open only so many files.
        self._open = lru_cache(OPEN_FILES)(
            lambda part: pq.ParquetFile(self._paths[part], memory_map=True)
        )
        self._groups: list[tuple[int, int]] = []
        sizes = [0]
        for part, path in enumerate(self._paths):
            metadata = pq.read_metadata(path)
            self._groups += [(part, group) for group in range(metadata.num_row_groups)]
            sizes += [
                metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)
            ]
        self._starts = np.cumsum(sizes)
        self._cache: OrderedDict[int, list[bytes]] = OrderedDict()
        self._cached_bytes = 0

    def pngs(self, article_ids: Ids) -> list[bytes]:
        """Images of articles (n,), in their order."""
        ids = np.asarray(article_ids)
        groups = np.searchsorted(self._starts, ids, side="right") - 1
        pngs: dict[int, bytes] = {}
        # Each group once, although several articles may lie in it.
        for group in np.unique(groups).tolist():
            images = self._group(group)
            pngs |= {
                int(i): images[int(i) - int(self._starts[group])] for i in ids[groups == group]
            }
        return [pngs[int(i)] for i in ids]

    def _group(self, group: int) -> list[bytes]:
        if group in self._cache:
            self._cache.move_to_end(group)
            return self._cache[group]
        part, place = self._groups[group]
        images: list[bytes] = (
            self._open(part).read_row_group(place, columns=["png"])["png"].to_pylist()
        )
        self._cache[group] = images
        self._cached_bytes += sum(map(len, images))
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= sum(map(len, dropped))
        return images
