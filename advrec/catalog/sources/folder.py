"""A plain folder of photographs: root/<split>/<category>/* or root/<category>/*. It knows no
textures.
"""

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath

from advrec.catalog import files
from advrec.catalog.files import Entry, Root
from advrec.catalog.listing import Listed, Listing
from advrec.errors import ConfigError
from advrec.spec.base import Split

EXTENSIONS = {
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".webp",
    ".avif",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
}
SPELLINGS: dict[str, Split] = {
    "train": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}
TRAIN, VALIDATION = 0.70, 0.85  # cumulative shares; the rest is the test split


def read(root: str, seed: int) -> Listing:
    """All image files below root, sorted by name.

    Without split directories each category is split 70/15/15, see `split`. An image's name ends as
    one does; links and special files of such a name are listed too, and refused when they are read,
    so that nothing is lost silently.

    Raises:
        ConfigError: root is missing, or holds no images, or one category only.
    """
    source, ignored = files.at(root), list[str]()
    try:
        directories = _directories(source, "", ignored)
        names = [directory.name for directory in directories]
        splits = [name for name in names if name.lower() in SPELLINGS]
        if splits == names and names:
            articles = [
                Listed(name, category.name.rpartition("/")[2], (), SPELLINGS[directory.lower()])
                for directory in sorted(
                    splits, key=lambda name: list(SPELLINGS).index(name.lower())
                )
                for category in _directories(source, directory, ignored)
                for name in _images(source, category.name, ignored)
            ]
        # a shop of toys may sell a train
        elif any(entry.kind == "directory" for name in splits for entry in source.entries(name)):
            others = ", ".join(name for name in names if name not in splits)
            raise ConfigError(
                f"{root}: holds the splits {', '.join(splits)} and beside them {others}; move what is no split elsewhere"
            )
        else:
            articles = [
                Listed(name, category.name, (), kept)
                for category in directories
                for name, kept in split(_images(source, category.name, ignored), seed)
            ]
    except OSError as error:
        reason = (
            "is not a directory"
            if isinstance(error, FileNotFoundError | NotADirectoryError)
            else f"cannot be read ({error})"
        )
        raise ConfigError(
            f"{root}: {reason}; set catalog.root to the folder that holds the category directories"
        ) from None
    return Listing(
        root=root, articles=tuple(articles), has_textures=False, ignored=tuple(ignored)
    ).checked(root)


def split(names: Sequence[str], seed: int) -> list[tuple[str, Split]]:
    """The names of one category, each with its split, 70/15/15 in the order of the hash of seed and
    name: the same files are split alike everywhere, and a new one moves at most the few at the
    borders.
    """
    by_hash = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    share = {name: (place + 0.5) / len(names) for place, name in enumerate(by_hash)}
    return [
        (
            name,
            "train"
            if share[name] < TRAIN
            else "validation"
            if share[name] < VALIDATION
            else "test",
        )
        for name in names
    ]


def _directories(source: Root, directory: str, ignored: list[str]) -> list[Entry]:
    entries = source.entries(directory)
    ignored += [
        f"{e.name} ({'a link' if e.kind == 'link' else 'in no category'})"
        for e in entries
        if e.kind != "directory"
    ]
    return [entry for entry in entries if entry.kind == "directory"]


def _images(source: Root, category: str, ignored: list[str]) -> list[str]:
    images = []
    for entry in source.entries(category):
        if entry.kind != "directory" and PurePosixPath(entry.name).suffix.lower() in EXTENSIONS:
            images.append(entry.name)
        else:
            ignored.append(
                f"{entry.name} ({'a directory' if entry.kind == 'directory' else 'no image by its name'})"
            )
    return images
