"""CSV files as spreadsheets write them: commas, semicolons or tabs, spaces before quotes, rows of
delimiters alone.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from advrec.errors import ConfigError

DELIMITERS = ",;\t"


class Delimited(NamedTuple):
    columns: list[str]
    rows: Iterator[tuple[int, dict[Any, Any]]]
    """Line and values by column, as csv.DictReader gives them; surplus values by None."""


def read(content: bytes, needed: tuple[str, ...]) -> Delimited:
    """The columns and rows of a file in UTF-8; rows without any value are left out.

    Args:
        needed: columns that it must have. Its delimiter is the first by which the header has them,
            else the comma.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
        csv.Error: quotes do not match, here or in a later row; the message begins with the line.
    """
    text = content.decode("utf-8-sig")
    header = text.partition("\n")[0]
    delimiter = next((each for each in DELIMITERS if set(needed) <= _names(header, each)), ",")
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    columns = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    return Delimited(columns, _rows(reader))


def refuse_repeats(path: str | Path, columns: Sequence[str], known: Sequence[str]) -> None:
    """Refuse a table, also one of another format, of whose known columns one stands twice.

    Raises:
        ConfigError: one does.
    """
    for name in known:
        if columns.count(name) > 1:
            raise ConfigError(f"{path}: has the column {name} twice; rename one, or leave it out")


def _names(header: str, delimiter: str) -> set[str]:
    parsed = csv.reader([header], delimiter=delimiter, skipinitialspace=True)
    return {name.strip() for name in next(parsed, [])}


def _rows(reader: "csv.DictReader[str]") -> Iterator[tuple[int, dict[Any, Any]]]:
    try:
        for row in reader:
            surplus: Any = row.get(None, ())
            values = [value for key, value in row.items() if key is not None]
            if any(value and value.strip() for value in (*values, *surplus)):
                yield reader.line_num, row
    except csv.Error as error:
        raise csv.Error(f"line {reader.line_num + 1}: {error}") from None
