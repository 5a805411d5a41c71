"""DeepFashion's Category and Attribute Prediction Benchmark, read from its own annotation files.

Liu et al. 2016, "DeepFashion: Powering Robust Clothes Recognition and Retrieval with Rich Annotations".
"""

from collections.abc import Iterator
from pathlib import Path

from advrec.catalog.listing import Listed, Listing
from advrec.config import Split
from advrec.errors import ConfigError

TEXTURE = 1  # the attribute type of textures
POSITIVE = "1"  # -1 negative, 0 unknown
SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}


def read(root: Path) -> Listing:
    """All images that the annotation files list, in the order of list_category_img.txt, with category, textures and split.

    Raises:
        ConfigError: a file is missing or malformed; the sentence names file and line.
    """
    categories = [name for _, name, _ in _named_rows(root / "anno" / "list_category_cloth.txt")]
    splits = _splits(root / "eval" / "list_eval_partition.txt")
    textures = _textures(root)
    articles = []
    path = root / "anno" / "list_category_img.txt"
    for line, name, label in _named_rows(path):
        if not label.isdigit() or not 1 <= int(label) <= len(categories):
            raise ConfigError(f"{path} line {line}: category label {label} is not one of 1..{len(categories)}")
        if name not in splits:
            raise ConfigError(f"{path} line {line}: {name} has no split in eval/list_eval_partition.txt")
        articles.append(
            Listed(name=name, category=categories[int(label) - 1], textures=textures.get(name, ()), split=splits[name])
        )
    return Listing(root=root, articles=tuple(articles), has_textures=True).checked()


def _splits(path: Path) -> dict[str, Split]:
    splits = {}
    for line, name, status in _named_rows(path):
        if status not in SPLITS:
            raise ConfigError(f"{path} line {line}: {status} is not one of {', '.join(SPLITS)}")
        splits[name] = SPLITS[status]
    return splits


def _textures(root: Path) -> dict[str, tuple[str, ...]]:
    """Positive textures by image; the file of 289,222 x 1,000 values is streamed, and only its positive ones are kept."""
    attributes = [(name, kind) for _, name, kind in _named_rows(root / "anno" / "list_attr_cloth.txt")]
    columns = [(column, name) for column, (name, kind) in enumerate(attributes) if kind == str(TEXTURE)]
    path = root / "anno" / "list_attr_img.txt"
    textures = {}
    for line, text in _rows(path):
        name, *values = text.split()
        if len(values) != len(attributes):
            raise ConfigError(f"{path} line {line}: {len(values)} values for {len(attributes)} attributes")
        textures[name] = tuple(texture for column, texture in columns if values[column] == POSITIVE)
    return textures


def _named_rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, name (which may hold spaces) and last word of each row."""
    for line, text in _rows(path):
        parts = text.rsplit(maxsplit=1)
        if len(parts) != 2:
            raise ConfigError(f"{path} line {line}: expected a name and a value, found {text!r}")
        yield line, parts[0].strip(), parts[1]


def _rows(path: Path) -> Iterator[tuple[int, str]]:
    """Rows below the two header lines (their number, the columns' names), with their line numbers."""
    try:
        handle = path.open(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); root must hold DeepFashion's anno/, eval/ and img/") from None
    with handle:
        header = handle.readline().strip()
        if not header.isdigit():
            raise ConfigError(f"{path} line 1: expected the number of rows, found {header!r}")
        handle.readline()
        rows = 0
        for line, text in enumerate(handle, start=3):
            if text.strip():
                rows += 1
                yield line, text.strip()
    if rows != int(header):
        raise ConfigError(f"{path} line 1 says {header} rows, the file holds {rows}; download it again")
