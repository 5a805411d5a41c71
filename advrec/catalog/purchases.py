"""Files of purchases as shops have them: CSV or Parquet, with the columns user, article and, where
it is known, time.
"""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from advrec.errors import ConfigError, first_line
from advrec.spec import delimited

NEEDED, TIME = ("user", "article"), "time"
KNOWN = (*NEEDED, TIME)


class Purchases(NamedTuple):
    """Rows of a file, in order of time; rows of equal time as they stand in the file."""

    users: pa.Array
    """(M,), int64 or string."""
    articles: pa.Array
    """(M,), names or IDs, as string."""
    order: npt.NDArray[np.intp]
    """(M,), places of the rows in time."""
    timed: bool
    """The file says the time of each."""


class _Table(NamedTuple):
    columns: Sequence[str]
    arrays: dict[str, pa.Array]
    where: Callable[[int], str]
    """Name of a row, by its place, for errors."""
    text: bool
    """All values are text, as in a CSV."""


def read(path: str) -> Purchases:
    """The rows of a file.

    Raises:
        ConfigError: it cannot be read, or a row of it is not as it should be; the sentence names
            file and row.
    """
    try:
        parquet = _begins(path) == b"PAR1"
        table = _parquet(path) if parquet else _csv(path)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise ConfigError(
            f"{path}: cannot be read ({reason}); set interactions.file to a CSV or Parquet file"
        ) from None
    except (UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise ConfigError(
            f"{path}: is neither a CSV in UTF-8 nor a Parquet file ({first_line(error)})"
        ) from None
    for name in NEEDED:
        _refuse_missing(path, table, name)
    users, articles = table.arrays["user"], table.arrays["article"]
    if not len(users):
        raise ConfigError(f"{path}: holds no purchases")
    order = np.arange(len(users))
    if TIME in table.arrays:
        _refuse_missing(path, table, TIME)
        order = np.argsort(_times(path, table), kind="stable")
    return Purchases(
        _ids(path, "user", users, text=table.text),
        pc.cast(_ids(path, "article", articles, text=table.text), pa.string()),
        order,
        TIME in table.arrays,
    )


def _begins(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(4)


def _csv(path: str) -> _Table:
    table = delimited.read(Path(path).read_bytes(), NEEDED)
    names = _check_columns(path, table.columns)
    lines, rows = list[int](), list[list[str]]()
    for line, row in table.rows:
        if None in row:
            raise ConfigError(
                f"{path} line {line}: holds more values than the {len(table.columns)} columns"
            )
        lines.append(line)
        rows.append([(row[name] or "").strip() for name in names])
    columns = zip(*rows, strict=True) if rows else [[]] * len(names)
    arrays = {
        name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)
    }
    return _Table(table.columns, arrays, lambda place: f"line {lines[place]}", text=True)


def _parquet(path: str) -> _Table:
    file = pq.ParquetFile(path)
    names = _check_columns(path, file.schema_arrow.names)
    table = file.read(names)
    arrays = {name: _plain(table[name].combine_chunks()) for name in names}
    return _Table(names, arrays, lambda place: f"row {place + 1}", text=False)


def _plain(values: pa.Array) -> pa.Array:
    """A column without its dictionary, text as string."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    is_text = pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type)
    return values.cast(pa.string()) if is_text else values


def _check_columns(path: str, columns: Sequence[str]) -> list[str]:
    """The columns that count."""
    delimited.refuse_repeats(path, columns, KNOWN)
    for name in NEEDED:
        if name not in columns:
            raise ConfigError(
                f"{path}: has no column {name}; it has {', '.join(columns) or 'none'}, "
                f"of {', '.join(KNOWN)}; rename one"
            )
    times = [name for name in columns if TIME in name.lower() or name.lower() in ("date", "ts")]
    if times and TIME not in columns:
        raise ConfigError(
            f"{path}: has no column {TIME}, but one called {times[0]}; rename it, or leave it out "
            "and the order of rows counts"
        )
    return [name for name in KNOWN if name in columns]


def _refuse_missing(path: str, table: _Table, name: str) -> None:
    values = table.arrays[name]
    missing = pc.is_null(values, nan_is_null=True)
    if pa.types.is_string(values.type):
        missing = pc.or_kleene(missing, pc.equal(pc.utf8_trim_whitespace(values), ""))
    place = pc.index(missing, True).as_py()
    if place >= 0:
        remedy = ", or leave the column out and the order of rows counts" if name == TIME else ""
        raise ConfigError(f"{path} {table.where(place)}: {name} is empty; fill it in{remedy}")


def _ids(path: str, name: str, values: pa.Array, *, text: bool) -> pa.Array:
    """IDs (M,) as int64 where all are whole numbers, else as string.

    Args:
        text: whether a text that spells a whole number is one, as in a CSV. 007 spells none.
    """
    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or text:
        whole = _cast(values, pa.int64())
        if whole is not None and (not text or whole.cast(pa.string()).equals(values)):
            return whole
    as_text = _cast(values, pa.string())
    if as_text is None:
        raise ConfigError(
            f"{path}: the column {name} holds values of the type {kind}; "
            "write text or whole numbers"
        )
    return as_text


def _times(path: str, table: _Table) -> npt.NDArray[Any]:
    """Times (M,) as numbers that can be compared."""
    values = table.arrays[TIME]
    kind = values.type
    if pa.types.is_string(kind):
        values = _parsed_times(path, table)
        kind = values.type
    elif pa.types.is_decimal(kind):
        values = values.cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            raise ConfigError(
                f"{path}: the column {TIME} holds values of the type {kind}; "
                "write numbers, dates or timestamps"
            )
        values = values.cast(pa.int32() if pa.types.is_date32(kind) else pa.int64())
    times = np.asarray(values)
    if times.dtype.kind == "f" and not np.isfinite(times).all():
        place = int(np.flatnonzero(~np.isfinite(times))[0])
        raise ConfigError(f"{path} {table.where(place)}: {TIME} is {times[place]}; write a number")
    return times


WAYS = (pa.int64(), pa.float64(), pa.timestamp("ns"), pa.timestamp("ns", "UTC"))
"""Types of the times that text may spell, each all through a file."""


def _parsed_times(path: str, table: _Table) -> pa.Array:
    texts = pc.utf8_trim_whitespace(table.arrays[TIME])
    for way in WAYS:
        if (parsed := _cast(texts, way)) is not None:
            return parsed if way in WAYS[:2] else parsed.cast(pa.int64())
    fit = [_first_unfit(texts, way) for way in WAYS]
    raise ConfigError(
        f"{path} {table.where(max(fit))}: {TIME} is {texts[max(fit)]}; write every time as a "
        "number, or every one as ISO 8601, all with a zone or all without"
    )


def _first_unfit(texts: pa.Array, way: pa.DataType) -> int:
    """Place of the first text that spells no such value."""
    return next(
        place for place in range(len(texts)) if _cast(texts[place : place + 1], way) is None
    )


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """The values as of another type; None where one has no equal there."""
    try:
        return values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
