"""A plain folder of photographs: root/<split>/<category>/* or root/<category>/*. It knows no textures."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from advrec.catalog.listing import Listed, Listing
from advrec.config import Split
from advrec.errors import ConfigError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
SPLITS: tuple[Split, ...] = get_args(Split)
TRAIN, VALIDATION = 0.70, 0.85  # cumulative shares; the rest is the test split


def read(root: Path, seed: int) -> Listing:
    """All image files below root, sorted by name.

    Without split directories each category is split 70/15/15 by the hash of seed and file name, so that a new
    file never moves another one by more than the change of its category's size.

    Raises:
        ConfigError: root is missing, or holds no images, or one category only.
    """
    if not root.is_dir():
        raise ConfigError(f"{root}: is not a directory; set catalog.root to the folder that holds the category directories")
    directories = _directories(root)
    if directories and {directory.name for directory in directories} <= set(SPLITS):
        articles = [
            Listed(name=_name(root, path), category=category.name, textures=(), split=split)
            for split in SPLITS
            if (root / split).is_dir()
            for category in _directories(root / split)
            for path in _images(category)
        ]
    else:
        articles = [article for category in directories for article in _split(root, category, seed)]
    return Listing(root=root, articles=tuple(articles), has_textures=False).checked()


def _split(root: Path, category: Path, seed: int) -> Iterator[Listed]:
    names = [_name(root, path) for path in _images(category)]
    by_hash = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    share = {name: (place + 0.5) / len(names) for place, name in enumerate(by_hash)}
    for name in names:
        split: Split = "train" if share[name] < TRAIN else "validation" if share[name] < VALIDATION else "test"
        yield Listed(name=name, category=category.name, textures=(), split=split)


def _directories(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))


def _images(category: Path) -> list[Path]:
    return sorted(path for path in category.iterdir() if path.suffix.lower() in EXTENSIONS and path.is_file())


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
