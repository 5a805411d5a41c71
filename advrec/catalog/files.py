"""Files of a source: in a local directory, or on any filesystem that fsspec or pyarrow
reaches by URL.

Names are relative to the root, with forward slashes. What a seller or a partner put into the
directory is not trusted: links, paths that lead out of it, special files and huge files are
refused.
"""

import functools
import os
import stat
import time
import urllib.parse
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol, cast

import fsspec
import pyarrow as pa
import pyarrow.fs
from fsspec.implementations.arrow import ArrowFSWrapper
from fsspec.implementations.local import LocalFileSystem

from advrec.errors import ConfigError, UnreachableError, first_line

MAX_BYTES = 256 * 2**20  # of an image file
READS = 3  # of a remote file, until its filesystem counts as unreachable
ASKS_AGAIN = {401, 407, 408, 429}  # answers of a web server that say nothing of the file


class RefusedError(Exception):
    """A file that is not read; the message says why."""


Kind = Literal["file", "directory", "link", "other", "unnamed"]
"""Kinds of entries; unnamed is a directory whose name is no UTF-8."""


class Entry(NamedTuple):
    name: str
    """Path below the root; bytes that are no UTF-8 are written as backslash, x and two digits."""
    kind: Kind


class Root(Protocol):
    def entries(self, directory: str = "") -> list[Entry]:
        """Entries directly in a directory, sorted, without hidden ones. Raises OSError."""
        ...

    def open(self, name: str) -> BinaryIO:
        """A file to read from its beginning to its end. Raises OSError."""
        ...

    def read(self, name: str) -> bytes:
        """A whole file of at most MAX_BYTES.

        Raises:
            RefusedError: this file cannot be had.
            UnreachableError: no file can, for now.
        """
        ...


def read_file(path: str) -> bytes:
    """A whole file by path or URL. Raises OSError, or ConfigError where nothing here can read such
    a URL.
    """
    if "://" not in path:
        return Path(path).read_bytes()
    remote, inside = filesystem(path)
    return cast(bytes, as_os_error(remote.cat_file, inside))


@functools.lru_cache(8)
def at(root: str, below: str = "") -> Root:
    """The root that a directory or a URL names, or a directory below it.

    Raises:
        ConfigError: nothing here can read such a URL.
    """
    if "://" not in root:
        return LocalRoot(Path(root, below))
    remote, path = filesystem(root)
    path = f"{path.rstrip('/')}/{below}".rstrip("/") if below else path
    return (
        LocalRoot(Path(path)) if isinstance(remote, LocalFileSystem) else RemoteRoot(remote, path)
    )


def filesystem(url: str) -> tuple[Any, str]:
    """The filesystem of a URL, as fsspec's, and the path in it. Raises ConfigError where nothing
    here knows such a URL.
    """
    try:
        found, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        # Pyarrow reads some of the filesystems that fsspec asks a package for.
        try:
            wrapped, path = pyarrow.fs.FileSystem.from_uri(url)
        except (pa.ArrowException, OSError):
            raise ConfigError(f"{url}: cannot be reached ({first_line(error)})") from None
        return ArrowFSWrapper(wrapped), path
    except (ValueError, OSError) as error:
        raise ConfigError(f"{url}: cannot be reached ({first_line(error)})") from None
    return found, path


class LocalRoot:
    def __init__(self, path: Path) -> None:
        self._path = path.resolve()  # the root itself may be a link; nothing below it may

    def entries(self, directory: str = "") -> list[Entry]:
        with os.scandir(self._path / directory) as found:
            return sorted(
                Entry(f"{directory}/{_shown(file.name)}".lstrip("/"), _kind(file))
                for file in found
                if not file.name.startswith(".")
            )

    def open(self, name: str) -> BinaryIO:
        return (self._path / name).open("rb")

    def read(self, name: str) -> bytes:
        path = self._path / name
        try:
            _refuse_beyond(name)
            if path.resolve() != path:
                raise RefusedError("is a link, or lies below one; links are not followed")
            if "\\x" in name and not path.exists():
                raise RefusedError(
                    "has a name that is no UTF-8, whatever \\x stands for: rename it"
                )
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise RefusedError("is not a regular file")
            _refuse_size(status.st_size)
            return path.read_bytes()
        # a zero byte in the name, a loop of links
        except (OSError, ValueError, RuntimeError) as error:
            raise RefusedError(_reason(error)) from None


class RemoteRoot:
    def __init__(self, filesystem: Any, path: str) -> None:
        self._filesystem, self._path = filesystem, path.rstrip("/")
        # a web server's listing shows names as they stand in URLs
        self._quoted = "http" in filesystem.protocol

    def entries(self, directory: str = "") -> list[Entry]:
        found = set()
        for info in as_os_error(self._filesystem.ls, self._full(directory), detail=True):
            name = info["name"].rstrip("/").rpartition("/")[2]
            if self._quoted:
                if "?" in name or not info["name"].startswith(self._full(directory)):
                    continue  # links to other orders of the same listing, and to elsewhere
                name = urllib.parse.unquote(name)
            if name and not name.startswith("."):
                found.add(
                    Entry(
                        f"{directory}/{name}".lstrip("/"),
                        "directory" if info["type"] == "directory" else "file",
                    )
                )
        return sorted(found)

    def open(self, name: str) -> BinaryIO:
        return cast(BinaryIO, as_os_error(self._filesystem.open, self._full(name), "rb"))

    def read(self, name: str) -> bytes:
        _refuse_beyond(name)
        for attempt in range(1, READS + 1):
            try:
                content = self._content(self._full(name))
            except Exception as error:  # each filesystem has errors of its own
                if _of_the_file(error):
                    raise RefusedError(_reason(error)) from None
                if attempt == READS:
                    raise UnreachableError(
                        f"{name} cannot be read ({type(error).__name__}: {first_line(error)})"
                    ) from None
                time.sleep(attempt)
            else:
                _refuse_size(len(content))
                return content
        raise AssertionError("the loop returns or raises")

    def _content(self, path: str) -> bytes:
        """A file from its beginning, as much as shows whether it is too large."""
        # of its files cat_file asks what they cannot say
        if isinstance(self._filesystem, ArrowFSWrapper):
            with self._filesystem.open(path, "rb") as stream:
                return cast(bytes, stream.read(MAX_BYTES + 1))
        return cast(bytes, self._filesystem.cat_file(path, end=MAX_BYTES + 1))

    def _full(self, name: str) -> str:
        return f"{self._path}/{name}".rstrip("/") if self._path else name


def _shown(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _kind(file: "os.DirEntry[str]") -> Kind:
    if file.is_symlink():
        return "link"
    if file.is_dir(follow_symlinks=False):
        return "directory" if _shown(file.name) == file.name else "unnamed"
    return "file" if file.is_file(follow_symlinks=False) else "other"


def as_os_error(function: Any, *arguments: Any, **options: Any) -> Any:
    """Call `function`; whatever it raises becomes an OSError, for filesystems have errors of their
    own.
    """
    try:
        return function(*arguments, **options)
    except OSError:
        raise
    except Exception as error:
        raise OSError(first_line(error)) from error


def _of_the_file(error: Exception) -> bool:
    """True if an error tells of the file that was asked for, not of its filesystem."""
    if isinstance(
        error, FileNotFoundError | IsADirectoryError | NotADirectoryError | PermissionError
    ):
        return True
    status = getattr(error, "status", None)
    return isinstance(status, int) and 400 <= status < 500 and status not in ASKS_AGAIN


def _refuse_beyond(name: str) -> None:
    if name.startswith("/") or ".." in name.split("/"):
        raise RefusedError("lies outside the catalog's root")


def _refuse_size(size: int) -> None:
    if size > MAX_BYTES:
        raise RefusedError(f"is larger than {MAX_BYTES >> 20} MiB")


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "does not exist"
    return f"cannot be read ({getattr(error, 'strerror', None) or first_line(error)})"
