"""A catalog as a table: a CSV or Parquet file with the column path and, where they are known,
category, textures and split.
"""

import csv
import difflib
import io
import posixpath
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from advrec.catalog import files
from advrec.catalog.listing import Listed, Listing
from advrec.catalog.sources.splits import SPELLINGS, split
from advrec.errors import ConfigError, first_line
from advrec.spec import delimited
from advrec.spec.delimited import Delimited

COLUMNS = ("path", "category", "textures", "split")
SEPARATOR = "|"  # between textures in a CSV
NEAR = 0.75  # likeness of two names, of which one may be the other misspelt


def read(path: str, root: str, seed: int) -> Listing:
    """The images of the file, in its order. Without a column category no image has one.

    Without a column split each category, or all, is split 70/15/15 by seed and path. With a column
    textures an image that has none is dropped in preparation, as DeepFashion's are.

    Raises:
        ConfigError: the file cannot be read, or a row of it is not as it should be; the sentence
            names file and row.
    """
    columns, rows = _rows(path)
    if "path" not in columns:
        raise ConfigError(
            f"{path}: has no column path; "
            f"it has {', '.join(columns) or 'none'}, of {', '.join(COLUMNS)}"
        )
    others = [name for name in columns if name not in COLUMNS]
    near = difflib.get_close_matches("category", others, n=1, cutoff=NEAR)
    if near and "category" not in columns:
        raise ConfigError(
            f"{path}: has no column category, but one called {near[0]}; rename it, or leave it out"
        )
    articles, first = [], dict[str, str]()
    for where, row in rows:
        article = _article(f"{path} {where}", row, has_split="split" in columns)
        if article.name in first:
            raise ConfigError(
                f"{path} {where}: {article.name} stands already in {first[article.name]}; "
                "remove one"
            )
        first[article.name] = where
        articles.append(article)
    if "split" not in columns:
        by_category = defaultdict[str, list[str]](list)
        for article in articles:
            by_category[article.category].append(article.name)
        splits = {name: kept for names in by_category.values() for name, kept in split(names, seed)}
        articles = [article._replace(split=splits[article.name]) for article in articles]
    return Listing(root=root, articles=tuple(articles), has_textures="textures" in columns).checked(
        path
    )


def _article(where: str, row: dict[str, Any], *, has_split: bool) -> Listed:
    path, category = (_text(row.get(column)) for column in ("path", "category"))
    for column, text in (("path", path), ("category", category)):
        if not text and column in row:
            raise ConfigError(f"{where}: {column} is empty")
    textures = row.get("textures")
    if not isinstance(textures, list):
        textures = _text(textures).split(SEPARATOR)
    status = _text(row["split"]).lower() if has_split else "train"
    if status not in SPELLINGS:
        raise ConfigError(
            f"{where}: split is {status or 'empty'} (allowed: {', '.join(SPELLINGS)}); "
            "leave the column out where no split is known"
        )
    named = tuple(dict.fromkeys(text for text in map(_text, textures) if text))
    # ./a.jpg and a.jpg are one file.
    return Listed(posixpath.normpath(path), category, named, SPELLINGS[status])


def _text(value: Any) -> str:
    """A value of the table; nothing and not-a-number are empty."""
    return "" if value is None or value != value else str(value).strip()


def _rows(path: str) -> tuple[list[str], Iterator[tuple[str, dict[str, Any]]]]:
    """The columns, and the rows, each with what an error calls it."""
    try:
        content = files.read_file(path)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise ConfigError(
            f"{path}: cannot be read ({reason}); set catalog.manifest to a CSV or Parquet file"
        ) from None
    try:
        if content.startswith(b"PAR1"):
            table = pq.ParquetFile(io.BytesIO(content))
            delimited.refuse_repeats(path, table.schema_arrow.names, COLUMNS)
            known = [name for name in table.schema_arrow.names if name in COLUMNS]
            return table.schema_arrow.names, (
                (f"row {place}", row)
                for place, row in enumerate(
                    table.read(known, use_threads=False).to_pylist(), start=1
                )
            )
        table_of_text = delimited.read(content, ("path",))
        delimited.refuse_repeats(path, table_of_text.columns, COLUMNS)
        return table_of_text.columns, _csv_rows(path, table_of_text)
    except (UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise ConfigError(
            f"{path}: is neither a CSV in UTF-8 nor a Parquet file ({first_line(error)})"
        ) from None


def _csv_rows(path: str, read: Delimited) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        for line, row in read.rows:
            if None in row:  # more values than columns
                raise ConfigError(
                    f"{path} line {line}: holds more values than the {len(read.columns)} columns"
                )
            yield f"line {line}", row
    except csv.Error as error:
        raise ConfigError(f"{path} {error}") from None
