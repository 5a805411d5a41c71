"""Files that appear whole or not at all."""

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from advrec.errors import AdvrecError

# begins with a dot, so that no reader of a directory of tables takes it for one
TEMPORARY = ".advrec-"
UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY)
"""Answers of file systems on networks that know no such call."""
HELD = (errno.EWOULDBLOCK, errno.EACCES)
"""Answers to who asks for a lock that another has; CIFS gives the second."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what an operating system says about a full or read-only disk into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EROFS,
            errno.EACCES,
            errno.ENOTDIR,
            errno.EEXIST,
        ):
            raise AdvrecError(
                f"{path}: cannot be written ({os.strerror(error.errno)}); "
                "what was finished before is kept"
            ) from None
        raise


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """`write` a temporary neighbour, then rename: the file appears whole or not at all, and its
    presence is the commit.
    """
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}.{path.name}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            write(temporary)
            # safetensors 0.8.0 leaves files that their owner alone can read, whatever the umask
            # (findings/safetensors-file-modes.sh).
            temporary.chmod(mode)
            _sync(temporary)
            temporary.rename(path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_table(path: Path, table: pa.Table) -> None:
    write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path, default: Any = None) -> Any:
    if not path.exists() and default is not None:
        return default
    return json.loads(path.read_text(encoding="utf-8"))


def numbered(directory: Path, stem: str) -> list[tuple[int, Path]]:
    """Numbers and paths of the files <stem>-<number>.parquet in a directory, ascending; what bears
    another name, as copies do, is passed over.
    """
    return sorted(matching(directory, stem))


def matching(directory: Path, stem: str) -> Iterator[tuple[int, Path]]:
    """The same one by one, in the order of the directory."""
    pattern = re.compile(rf"{stem}-(\d{{6,}})\.parquet")
    for path in directory.glob(f"{stem}-*.parquet"):
        if match := pattern.fullmatch(path.name):
            yield int(match[1]), path


def _sync(path: Path) -> None:
    """Let the disk keep a file or directory, as far as its file system can be asked to."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
