"""Where a source's files lie: a local directory, or any filesystem that pyarrow or fsspec reaches by URL.

Names are relative to the root, with forward slashes. What a seller or a partner put into the directory is not trusted: links, paths that
lead out of it, special files and huge files are refused.
"""

import os
import stat
import time
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Protocol, cast

import fsspec
import pyarrow as pa
import pyarrow.fs

from advrec.errors import ConfigError

MAX_BYTES = 256 * 2**20  # of an image file
READS = 3  # of a remote file, until its error is believed


class RefusedError(Exception):
    """A file that is not read; the message says why."""


class Entry(NamedTuple):
    name: str
    kind: Literal["file", "directory", "link", "other"]


class Root(Protocol):
    def entries(self, directory: str = "") -> list[Entry]:
        """What lies directly in a directory, sorted, without hidden entries. Raises OSError."""
        ...

    def open(self, name: str) -> BinaryIO:
        """A file to read from its beginning to its end. Raises OSError."""
        ...

    def read(self, name: str) -> bytes:
        """A whole file of at most MAX_BYTES. Raises RefusedError."""
        ...


def at(root: str) -> Root:
    """The root that a directory or a URL names.

    Raises:
        ConfigError: nothing here can read such a URL.
    """
    if "://" not in root:
        return LocalRoot(Path(root))
    try:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(root)
        if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
            return LocalRoot(Path(path))
        return RemoteRoot(filesystem, path)
    except pa.ArrowInvalid:  # not one of pyarrow's own
        pass
    except OSError as error:
        raise ConfigError(f"{root}: cannot be reached ({error})") from None
    try:
        filesystem, path = fsspec.core.url_to_fs(root)
    except (ValueError, ImportError, OSError) as error:
        raise ConfigError(f"{root}: cannot be reached ({error})") from None
    return RemoteRoot(pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(filesystem)), path)


class LocalRoot:
    def __init__(self, path: Path) -> None:
        self._path = path.resolve()  # the root itself may be a link; nothing below it may

    def entries(self, directory: str = "") -> list[Entry]:
        with os.scandir(self._path / directory) as found:
            return sorted(Entry(f"{directory}/{file.name}".lstrip("/"), _kind(file)) for file in found if not file.name.startswith("."))

    def open(self, name: str) -> BinaryIO:
        return (self._path / name).open("rb")

    def read(self, name: str) -> bytes:
        path = self._path / name
        try:
            _refuse_beyond(name)
            if path.resolve() != path:
                raise RefusedError("is a link, or lies below one; links are not followed")
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise RefusedError("is not a regular file")
            _refuse_size(status.st_size)
            return path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            raise RefusedError(_reason(error)) from None


class RemoteRoot:
    def __init__(self, filesystem: pyarrow.fs.FileSystem, path: str) -> None:
        self._filesystem, self._path = filesystem, path.rstrip("/")

    def entries(self, directory: str = "") -> list[Entry]:
        selector = pyarrow.fs.FileSelector(self._full(directory))
        found = set()
        for info in self._filesystem.get_file_info(selector):
            name = info.path.rstrip("/").rpartition("/")[2]  # a web server's directories end in a slash
            if not name.startswith("."):
                found.add(Entry(f"{directory}/{name}".lstrip("/"), "directory" if _is_directory(info) else "file"))
        return sorted(found)

    def open(self, name: str) -> BinaryIO:
        return cast(BinaryIO, self._filesystem.open_input_stream(self._full(name), buffer_size=2**20))

    def read(self, name: str) -> bytes:
        _refuse_beyond(name)
        for attempt in range(1, READS + 1):
            try:
                with self.open(name) as stream:
                    content = stream.read(MAX_BYTES + 1)
                _refuse_size(len(content))
                return content
            except FileNotFoundError as error:
                raise RefusedError(_reason(error)) from None
            except Exception as error:  # each filesystem has errors of its own
                if isinstance(error, RefusedError) or attempt == READS:
                    raise RefusedError(_reason(error)) from None
                time.sleep(attempt)
        raise AssertionError("the loop returns or raises")

    def _full(self, name: str) -> str:
        return f"{self._path}/{name}".rstrip("/") if self._path else name


def _kind(file: "os.DirEntry[str]") -> Literal["file", "directory", "link", "other"]:
    if file.is_symlink():
        return "link"
    return "directory" if file.is_dir(follow_symlinks=False) else "file" if file.is_file(follow_symlinks=False) else "other"


def _is_directory(info: pyarrow.fs.FileInfo) -> bool:
    return bool(info.type == pyarrow.fs.FileType.Directory)


def _refuse_beyond(name: str) -> None:
    if name.startswith("/") or ".." in name.split("/"):
        raise RefusedError("lies outside the catalog's root")


def _refuse_size(size: int) -> None:
    if size > MAX_BYTES:
        raise RefusedError(f"is larger than {MAX_BYTES >> 20} MiB")


def _reason(error: Exception) -> str:
    if isinstance(error, RefusedError):
        return str(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "does not exist"
    return f"cannot be read ({getattr(error, 'strerror', None) or str(error).splitlines()[0]})"
