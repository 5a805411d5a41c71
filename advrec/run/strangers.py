"""Strangers: files among the tables of a run that no stage wrote, as a copy of a block file is."""

import contextlib
import filecmp
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from advrec.errors import AdvrecError
from advrec.run.directory import Run
from advrec.run.inventory import TABLES

END = 2048
_NAME = "[A-Za-z0-9][A-Za-z0-9_-]*"  # of a model or an attack, see spec/base.py
_PATHS = [path for path in TABLES if "<number>" in path]
_ROOMS = sorted({path.partition("/")[0] for path in _PATHS})
_OURS = re.compile(
    "|".join(
        re.sub("<(model|attack)>", _NAME, re.escape(path).replace("<number>", r"\d{6,}"))
        for path in _PATHS
    )
)


def refuse(run: Run) -> None:
    """Refuse a run with strangers; the message names the first of them.

    Why: nothing here reads them, but a program that takes a directory for one table counts them.

    Raises:
        AdvrecError: there are some.
    """
    found, copies = [], []
    for paths in _tables(run):
        found += [path for path in paths if not _OURS.fullmatch(path)]
        copies += _copies(run.directory, paths)
    if found:
        more = f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""
        raise AdvrecError(
            f"{run.directory / found[0]}{more} was written by no stage of advrec; "
            "a copy would be counted twice: move it out of the run directory"
        )
    if copies:
        first, second = copies[0]
        raise AdvrecError(
            f"{run.directory / second} is a copy of {Path(first).name}, byte for byte; "
            "delete the one whose number is wrong"
        )


def _tables(run: Run) -> Iterator[list[str]]:
    """Paths in the run of the files of each directory of tables. Names that begin with a dot or an
    underscore are passed over, as pyarrow does.
    """
    for room in _ROOMS:
        for directory, below, names in os.walk(run.directory / room):
            below[:] = sorted(name for name in below if not name.startswith((".", "_")))
            here = [name for name in sorted(names) if not name.startswith((".", "_"))]
            paths = [Path(directory, name).relative_to(run.directory).as_posix() for name in here]
            yield paths


def _copies(root: Path, paths: Sequence[str]) -> list[tuple[str, str]]:
    """The first of equal files of one directory, with each of the others. Whole files are read only
    where size and footer agree: a large run has many files of one size.
    """
    firsts, copies = dict[tuple[int, bytes], str](), []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # a stage at work has just removed it
            first = firsts.setdefault(_size_and_end(root / path), path)
            if first != path and filecmp.cmp(root / first, root / path, shallow=False):
                copies.append((first, path))
    return copies


def _size_and_end(path: Path) -> tuple[int, bytes]:
    """Size of a file in bytes, and its last END bytes: of Parquet the footer, with statistics."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - END))
        return size, file.read()
