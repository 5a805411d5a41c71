"""Names of models and attacks as readers of the result files take them.

A name is a value of partitions (`model=<name>`) and of CSV files. Readers guess its type.
"""

import contextlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

_NOTHING = frozenset({"null", "none", "nan", "na", "nat"})
_TRUTH = frozenset({"true", "false"})
_DATE = re.compile(r"\d+(-\d+)+(T\d+)?|\d{8}T\d+")


def taken_for(name: str) -> str | None:
    """Say what a reader may take a name for: pyarrow, polars and DuckDB guess types of partitions,
    pandas those of CSV files. None: all take it for text.
    """
    if name.lower() in _NOTHING:
        return "a missing value"
    if name.lower() in _TRUTH:
        return "a truth value"
    if _DATE.fullmatch(name):
        return "a date"
    return "a number" if _is_number(name) else None


def _is_number(name: str) -> bool:
    for read in (float, lambda text: int(text, 0)):  # 1e3 and 1_000; 0x10
        with contextlib.suppress(ValueError):
            read(name)
            return True
    return False


def alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ in case or in the encoding of accents alone, which some
    filesystems take for one.
    """
    groups = defaultdict[str, list[str]](list)
    for name in names:
        groups[unicodedata.normalize("NFC", name).casefold()].append(name)
    return [group for group in groups.values() if len(group) > 1]
