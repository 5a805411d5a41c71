"""A finished run copied to where many can read it: an object store, or any filesystem that fsspec
or pyarrow knows by URL.
"""

from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from advrec.catalog import files
from advrec.errors import AdvrecError, ConfigError, first_line
from advrec.run.directory import Run
from advrec.run.progress import Progress


def push(run: Run, url: str) -> int:
    """Copy every file of a run to `url`. study.yaml comes last: where it is, all of the run is.

    Returns:
        How many files were copied.

    Raises:
        ConfigError: nothing here can write to such a URL, or it holds something else.
        AdvrecError: the copy failed on its way; the same call begins it again.
    """
    names = _names(run)
    if not url:
        raise ConfigError(
            "the URL to push to is empty; name one, as s3://bucket/name, or a directory"
        )
    if "://" not in url:
        url = str(Path(url).resolve())
    filesystem, base = files.filesystem(url)
    base = base.rstrip("/")
    if isinstance(filesystem, LocalFileSystem) and Path(base).resolve().is_relative_to(
        run.directory
    ):
        raise ConfigError(f"{url} lies in {run.directory} itself; name a place outside it")
    try:
        there = {
            str(path).removeprefix(f"{base}/") for path in files.as_os_error(filesystem.find, base)
        }
        if alien := sorted(there - set(names)):
            raise ConfigError(
                f"{url} holds files that are not of {run.directory}, as {alien[0]}; "
                "name an empty place"
            )
        # Until this push is over, the place holds no whole run.
        if run.study.name in there:
            files.as_os_error(filesystem.rm_file, f"{base}/{run.study.name}")
        with Progress(f"push to {url}", len(names), "files") as progress:
            for name in names:
                # Other filesystems have no directories, or make them.
                if isinstance(filesystem, LocalFileSystem):
                    filesystem.makedirs(f"{base}/{name}".rpartition("/")[0], exist_ok=True)
                files.as_os_error(filesystem.put_file, str(run.directory / name), f"{base}/{name}")
                progress.advance(1)
    except OSError as error:
        raise AdvrecError(
            f"{url}: cannot be written ({first_line(error)}); "
            "run the same command again when it can"
        ) from None
    return len(names)


def _names(run: Run) -> list[str]:
    """The run's files, relative, but for what only its driver needs: hidden ones and shards of a
    preparation.
    """
    names = [
        path.relative_to(run.directory)
        for path in sorted(run.directory.rglob("*"))
        if path.is_file()
    ]
    hidden = [
        name
        for name in names
        if name.parts[0] == run.prepared.name or any(part.startswith(".") for part in name.parts)
    ]
    return sorted(
        (name.as_posix() for name in names if name not in hidden),
        key=lambda name: name == run.study.name,
    )
