"""A plain folder of photographs, which knows no textures: root/<split>/<category>/*,
root/<category>/*, or without categories root/<split>/* or root/*; or a manifest in its place.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import PurePosixPath

from advrec.catalog import files
from advrec.catalog.files import Entry, Root
from advrec.catalog.listing import Listed, Listing
from advrec.catalog.sources import manifest
from advrec.catalog.sources.splits import SPELLINGS, split
from advrec.errors import ConfigError
from advrec.spec.catalog import CatalogSpec

EXTENSIONS = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"]
)
OF_SYSTEMS = frozenset(["__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN"])
"""Directories that are no category and no split, wherever they lie."""


_NOT_FOLLOWED = (
    ", which are not followed; copy the files there, "
    "or set catalog.root to the folder that holds them"
)


@dataclasses.dataclass
class _Seen:
    """Counts of a walk, beside its images."""

    ignored: list[str] = dataclasses.field(default_factory=list)
    links: int = 0
    """Images that are links."""


def read(spec: CatalogSpec, seed: int) -> Listing:
    """The images of the manifest if there is one, else all below root.

    Raises:
        ConfigError: they cannot be listed, see `walk` and `manifest.read`.
    """
    if spec.manifest is not None:
        return manifest.read(spec.manifest, str(spec.root), seed)
    return walk(str(spec.root), seed)


def walk(root: str, seed: int) -> Listing:
    """All image files below root, sorted by name.

    Without split directories each category is split 70/15/15, see `splits.split`; without
    categories all images are. An image's name
    ends as one does; links and special files of such a name are listed too, and refused when they
    are read, so that nothing is lost silently.

    Raises:
        ConfigError: root is missing, holds no images, links alone, or one category only.
    """
    source, seen = files.at(root), _Seen()
    try:
        articles = _articles(source, root, seed, seen)
    except OSError as error:
        raise ConfigError(
            f"{root}: {_reason(error)}; set catalog.root to the folder that holds the images, or "
            "the directories of their categories"
        ) from None
    if not articles and seen.ignored and all(name.endswith("(a link)") for name in seen.ignored):
        raise ConfigError(f"{root}: holds {len(seen.ignored):,} links alone{_NOT_FOLLOWED}")
    listing = Listing(
        root=root,
        articles=tuple(articles),
        has_textures=False,
        ignored=tuple(seen.ignored),
        links=seen.links,
    ).checked(root)
    if listing.links == len(listing.articles):
        raise ConfigError(f"{root}: all {listing.links:,} images are links{_NOT_FOLLOWED}")
    return listing


def below(root: str) -> Listing:
    """All image files below root, however deep, sorted by directory and name, for a training.

    They are listed as `walk` does, but directories say nothing of them.

    Raises:
        ConfigError: root is missing, or holds no images.
    """
    source, seen = files.at(root), _Seen()
    try:
        names = list(_deep(source, "", seen))
    except OSError as error:
        raise ConfigError(f"{root}: {_reason(error)}; name a folder of images") from None
    if not names:
        beside = f" (ignored: {seen.ignored[0]})" if seen.ignored else ""
        raise ConfigError(f"{root}: holds no images{beside}; name a folder of images")
    return Listing(
        root=root,
        articles=tuple(Listed(name, "", (), "train") for name in names),
        has_textures=False,
        ignored=tuple(seen.ignored),
        links=seen.links,
    )


def _deep(source: Root, directory: str, seen: _Seen) -> Iterator[str]:
    directories = []
    for entry in source.entries(directory):
        path = PurePosixPath(entry.name)
        if entry.kind == "directory" and path.name not in OF_SYSTEMS:
            directories.append(entry.name)
        elif entry.kind in ("file", "link", "other") and path.suffix.lower() in EXTENSIONS:
            seen.links += entry.kind == "link"
            yield entry.name
        else:
            reasons = {"directory": "made by an operating system", "link": "a link"}
            reasons["unnamed"] = "its name is no UTF-8"
            reason = reasons.get(entry.kind, "no image by its name")
            seen.ignored.append(f"{entry.name} ({reason})")
    for each in directories:
        yield from _deep(source, each, seen)


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "is not a directory"
    return f"cannot be read ({error})"


def _articles(source: Root, root: str, seed: int, seen: _Seen) -> list[Listed]:
    if flat := _flat(source, seed, seen):
        return flat
    categories = _directories(source, "", seen)
    names = [directory.name for directory in categories]
    splits = [name for name in names if name.lower() in SPELLINGS]
    if names and splits == names:
        return _in_splits(source, splits, seen)
    # A shop of toys may have a category train: it holds images, not directories.
    if any(entry.kind == "directory" for name in splits for entry in source.entries(name)):
        others = ", ".join(name for name in names if name not in splits)
        raise ConfigError(
            f"{root}: holds the splits {', '.join(splits)} and beside them {others}; "
            "move what is no split elsewhere"
        )
    return [
        Listed(name, category.name, (), kept)
        for category in categories
        for name, kept in split(_images(source, category.name, seen), seed)
    ]


def _flat(source: Root, seed: int, seen: _Seen) -> list[Listed]:
    """The images of a root, or of its split directories, that hold no directories; none where
    there are some.
    """
    kept = _Seen()
    directories = [entry.name for entry in _directories(source, "", _Seen())]
    if not directories:
        articles = [Listed(name, "", (), at) for name, at in split(_images(source, "", kept), seed)]
    elif any(name.lower() not in SPELLINGS or _holds(source, name) for name in directories):
        return []
    else:
        articles = [
            Listed(name, "", (), SPELLINGS[directory.lower()])
            for directory in _in_order(directories)
            for name in _images(source, directory, kept)
        ]
    if articles:
        seen.ignored += kept.ignored
        seen.links += kept.links
    return articles


def _holds(source: Root, directory: str) -> bool:
    """Say whether a directory holds directories, of categories."""
    return bool(_directories(source, directory, _Seen()))


def _in_order(directories: list[str]) -> list[str]:
    """Split directories in the order of SPELLINGS."""
    order = list(SPELLINGS)
    return sorted(directories, key=lambda name: order.index(name.lower()))


def _in_splits(source: Root, directories: list[str], seen: _Seen) -> list[Listed]:
    """The images of split directories, in the order of SPELLINGS."""
    articles = []
    for directory in _in_order(directories):
        for category in _directories(source, directory, seen):
            label = category.name.rpartition("/")[2]
            articles += [
                Listed(name, label, (), SPELLINGS[directory.lower()])
                for name in _images(source, category.name, seen)
            ]
    return articles


def _directories(source: Root, directory: str, seen: _Seen) -> list[Entry]:
    entries = source.entries(directory)
    kept = []
    for entry in entries:
        if entry.kind != "directory":
            reason = {"link": "a link", "unnamed": "its name is no UTF-8"}.get(entry.kind)
            seen.ignored.append(f"{entry.name} ({reason or 'in no category'})")
        elif PurePosixPath(entry.name).name in OF_SYSTEMS:
            seen.ignored.append(f"{entry.name} (made by an operating system)")
        else:
            kept.append(entry)
    return kept


def _images(source: Root, category: str, seen: _Seen) -> list[str]:
    images = []
    for entry in source.entries(category):
        if entry.kind != "directory" and PurePosixPath(entry.name).suffix.lower() in EXTENSIONS:
            images.append(entry.name)
            seen.links += entry.kind == "link"
        else:
            reason = "a directory" if entry.kind == "directory" else "no image by its name"
            seen.ignored.append(f"{entry.name} ({reason})")
    return images
