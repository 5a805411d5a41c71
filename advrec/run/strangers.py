"""Strangers: files among the tables of a run that no stage wrote, as a copy of a block file is."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from advrec.errors import AdvrecError
from advrec.run.directory import Run
from advrec.run.schema import TABLES

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
    found = list(_strangers(run))
    if found:
        more = f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""
        raise AdvrecError(
            f"{run.directory / found[0]}{more} was written by no stage of advrec; "
            "a copy would be counted twice: move it out of the run directory"
        )


def _strangers(run: Run) -> Iterator[str]:
    """Their paths in the run. Names that begin with a dot or an underscore are passed over, as
    pyarrow does.
    """
    for room in _ROOMS:
        for directory, below, names in os.walk(run.directory / room):
            below[:] = sorted(name for name in below if not name.startswith((".", "_")))
            for name in sorted(names):
                path = Path(directory, name).relative_to(run.directory).as_posix()
                if not name.startswith((".", "_")) and not _OURS.fullmatch(path):
                    yield path
