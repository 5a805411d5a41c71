"""DeepFashion's Category and Attribute Prediction Benchmark, read from its own annotation files, as
downloaded and unpacked.

Liu et al. 2016, "DeepFashion: Powering Robust Clothes Recognition and Retrieval with Rich
Annotations".

Anno_coarse (Anno in older downloads) labels 289,222 images with 1,000 attributes in files with a
header of two lines; Anno_fine labels others with 26, in files by split without a header. Of the
attributes only the positive textures are kept, and the large file is streamed.
"""

import io
from collections.abc import Iterator
from typing import NamedTuple

from advrec.catalog import files, published
from advrec.catalog.files import Root
from advrec.catalog.listing import Box, Listed, Listing
from advrec.errors import ConfigError
from advrec.spec.base import Split
from advrec.spec.catalog import CatalogSpec

TEXTURE = "1"  # the attribute type of textures
POSITIVE, UNKNOWN = "1", "0"  # -1 is negative
SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}
DIRECTORIES = {"coarse": ("anno_coarse", "anno"), "fine": ("anno_fine",)}


def read(spec: CatalogSpec, seed: int) -> Listing:
    """All images that the annotation files list, in their order, with category, textures, split
    and, if asked for, box.

    Raises:
        ConfigError: a file is missing or malformed; the sentence names file and line.
    """
    root = str(spec.root)
    source = _Source(root, files.at(root), spec)
    kind, directory = source.annotations()
    if spec.published_counts and kind == "fine":
        raise ConfigError(
            f"{root}: published_counts are those of Anno_coarse (or Anno), "
            f"and only {directory} is there; download it"
        )
    if spec.unknown_is_positive and kind == "fine":
        raise ConfigError(
            f"{root}: unknown_is_positive is for Anno_coarse, where 0 is unknown; "
            f"in {directory} 0 is absent; remove it"
        )
    articles = tuple(source.fine(directory) if kind == "fine" else source.coarse(directory))
    if spec.published_counts:
        published.check_listed(len(articles), root)
    if spec.published_split:
        articles = tuple(
            a._replace(split="train") if a.split == "validation" else a for a in articles
        )
    return Listing(
        root=root, base=source.image_base(), articles=articles, has_textures=True
    ).checked(root)


class _Row(NamedTuple):
    line: int
    text: str


class _Source:
    def __init__(self, root: str, files: Root, spec: CatalogSpec) -> None:
        self.root, self.files, self.spec = root, files, spec
        try:
            top = files.entries()
        except OSError as error:
            raise ConfigError(
                f"{root}: cannot be read ({error.strerror or error}); "
                "set catalog.root to DeepFashion's directory"
            ) from None

        self._top = {entry.name.lower(): entry.name for entry in top if entry.kind == "directory"}
        self._links = [entry.name for entry in top if entry.kind == "link"]

    def annotations(self) -> tuple[str, str]:
        """Which labelling to read, and the directory that it is in."""
        wanted = [self.spec.annotations] if self.spec.annotations else list(DIRECTORIES)
        for kind in wanted:
            for name in DIRECTORIES[kind]:
                if name in self._top:
                    return kind, self._top[name]
        names = " or ".join(name.capitalize() for kind in wanted for name in DIRECTORIES[kind])
        raise self._no_directory(names)

    def image_base(self) -> str:
        """The directory below root that the images' names, img/..., are relative to."""
        top = self._top.get("img")
        if top is None:
            raise self._no_directory("Img")
        inside = [entry.name for entry in self.files.entries(top)]
        if f"{top}/img" in inside:
            return top
        if f"{top}/img.zip" in inside:
            raise ConfigError(
                f"{self.root}/{top}/img.zip is not unpacked; run `unzip img.zip` there"
            )
        if top != "img":
            raise ConfigError(f"{self.root}/{top}: holds no directory img; unpack img.zip there")
        return ""

    def _no_directory(self, names: str) -> ConfigError:
        links = f" ({', '.join(self._links)}: links are not followed)" if self._links else ""
        return ConfigError(
            f"{self.root}: holds no directory {names}{links}; "
            "root must hold DeepFashion's Anno, Eval and Img"
        )

    def coarse(self, directory: str) -> Iterator[Listed]:
        categories = self._categories(directory)
        splits: dict[str, Split] = {}
        evaluation = f"{self._top.get('eval', 'Eval')}/list_eval_partition.txt"
        for row, name, status in self._named(evaluation):
            if status not in SPLITS:
                raise self._wrong(
                    evaluation, row.line, f"{status} is not one of {', '.join(SPLITS)}"
                )
            if splits.setdefault(name, SPLITS[status]) != SPLITS[status]:
                raise self._wrong(evaluation, row.line, f"{name} was in another split further up")
        textures = self._coarse_textures(directory)
        boxes = dict(self._coarse_boxes(f"{directory}/list_bbox.txt")) if self.spec.boxes else {}
        path, seen = f"{directory}/list_category_img.txt", dict[str, str]()
        for row, name, label in self._named(path):
            category = self._category(path, row.line, label, categories)
            if name not in splits:
                raise self._wrong(path, row.line, f"{name} has no split in {evaluation}")
            if seen.setdefault(name, category) != category:
                raise self._wrong(path, row.line, f"{name} was of category {seen[name]} further up")
            if name not in textures:
                raise self._wrong(
                    path, row.line, f"{name} has no attributes in {directory}/list_attr_img.txt"
                )
            if self.spec.boxes and name not in boxes:
                raise self._wrong(path, row.line, f"{name} has no box in {directory}/list_bbox.txt")
            yield Listed(name, category, textures[name], splits[name], boxes.get(name))

    def fine(self, directory: str) -> Iterator[Listed]:
        categories = self._categories(directory)
        columns, width = self._texture_columns(directory)
        for status, split in SPLITS.items():
            parts = ("", "_cate", "_attr", *(("_bbox",) if self.spec.boxes else ()))
            paths = [f"{directory}/{status}{part}.txt" for part in parts]
            # One line an image in each file; the shorter one ends early where the lines do not
            # match.
            rows = [list(self._rows(path)) for path in paths]
            for path, found in zip(paths[1:], rows[1:], strict=True):
                if len(found) != len(rows[0]):
                    raise self._wrong(
                        path, len(found), f"holds {len(found)} rows, {paths[0]} {len(rows[0])}"
                    )
            for place, (line, name) in enumerate(rows[0]):
                category = self._category(paths[1], line, rows[1][place].text, categories)
                textures = self._positive(
                    paths[2], line, rows[2][place].text.split(), columns, width
                )
                box = (
                    self._box(paths[3], line, rows[3][place].text.split())
                    if self.spec.boxes
                    else None
                )
                yield Listed(name, category, textures, split, box)

    def _categories(self, directory: str) -> list[str]:
        return [name for _, name, _ in self._named(f"{directory}/list_category_cloth.txt")]

    def _category(self, path: str, line: int, label: str, categories: list[str]) -> str:
        if not label.isdecimal() or not 1 <= int(label) <= len(categories):
            raise self._wrong(
                path, line, f"category label {label} is not one of 1..{len(categories)}"
            )
        return categories[int(label) - 1]

    def _texture_columns(self, directory: str) -> tuple[list[tuple[int, str]], int]:
        """Column and name of each texture, and the number of all attributes."""
        attributes = [
            (name, kind) for _, name, kind in self._named(f"{directory}/list_attr_cloth.txt")
        ]
        return [
            (column, name) for column, (name, kind) in enumerate(attributes) if kind == TEXTURE
        ], len(attributes)

    def _coarse_textures(self, directory: str) -> dict[str, tuple[str, ...]]:
        """Textures by image; the file of 289,222 x 1,000 values is streamed."""
        columns, width = self._texture_columns(directory)
        path, textures = f"{directory}/list_attr_img.txt", dict[str, tuple[str, ...]]()
        for row in self._body(path):
            # Names may hold spaces: the values are what stands last.
            parts = row.text.rsplit(maxsplit=width)
            if len(parts) != width + 1:
                raise self._wrong(path, row.line, f"{len(parts) - 1} values for {width} attributes")
            textures[parts[0]] = self._positive(path, row.line, parts[1:], columns, width)
        return textures

    def _positive(
        self, path: str, line: int, values: list[str], columns: list[tuple[int, str]], width: int
    ) -> tuple[str, ...]:
        if len(values) != width:
            raise self._wrong(path, line, f"{len(values)} values for {width} attributes")
        if not {"-1", "0", "1"}.issuperset(values):
            strange = next(value for value in values if value not in ("-1", "0", "1"))
            raise self._wrong(path, line, f"{strange} is not one of -1, 0, 1")
        positive = (POSITIVE, UNKNOWN) if self.spec.unknown_is_positive else (POSITIVE,)
        return tuple(name for column, name in columns if values[column] in positive)

    def _coarse_boxes(self, path: str) -> Iterator[tuple[str, Box]]:
        for row in self._body(path):
            parts = row.text.rsplit(maxsplit=4)
            yield parts[0], self._box(path, row.line, parts[1:])

    def _box(self, path: str, line: int, corners: list[str]) -> Box:
        """The box of the corners x_1 y_1 x_2 y_2, all of them within the box."""
        if len(corners) != 4 or not all(corner.isdecimal() for corner in corners):
            raise self._wrong(path, line, f"expected four whole numbers, found {' '.join(corners)}")
        left, top, right, bottom = map(int, corners)
        if right < left or bottom < top:
            raise self._wrong(path, line, f"the box {' '.join(corners)} is empty")
        return Box(left, top, right + 1, bottom + 1)

    def _named(self, path: str) -> Iterator[tuple[_Row, str, str]]:
        """Name (which may hold spaces) and last word of each row below a header."""
        for row in self._body(path):
            parts = row.text.rsplit(maxsplit=1)
            if len(parts) != 2:
                raise self._wrong(
                    path, row.line, f"expected a name and a value, found {row.text!r}"
                )
            yield row, parts[0].strip(), parts[1]

    def _body(self, path: str) -> Iterator[_Row]:
        """Rows below the two header lines: their number, and the columns' names."""
        rows = self._rows(path)
        header = next(rows, _Row(1, "nothing"))
        if not header.text.isdecimal():
            raise self._wrong(
                path, header.line, f"expected the number of rows, found {header.text!r}"
            )
        next(rows, None)
        count = 0
        for row in rows:
            count += 1
            yield row
        if count != int(header.text):
            raise ConfigError(
                f"{self.root}/{path} line 1 says {header.text} rows, the file holds {count}; "
                "download it again"
            )

    def _rows(self, path: str) -> Iterator[_Row]:
        """Lines that are not empty."""
        try:
            with io.TextIOWrapper(self.files.open(path), encoding="utf-8") as lines:
                for line, text in enumerate(lines, start=1):
                    if text.strip():
                        yield _Row(line, text.strip())
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(
                f"{self.root}/{path}: cannot be read ({reason}); "
                "root must hold DeepFashion's Anno, Eval and Img"
            ) from None
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{self.root}/{path}: is not UTF-8 text ({error.reason} at byte {error.start}); "
                "download it again"
            ) from None

    def _wrong(self, path: str, line: int, what: str) -> ConfigError:
        return ConfigError(f"{self.root}/{path} line {line}: {what}")
