"""The log of a run, line by line, in its directory; warnings are shown on the screen too."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path


class _File(logging.FileHandler):
    """A log that cannot be written, on a full disk, stops no work: what writes results says so."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass


class _Screen(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # Looked up anew each time: a progress display puts itself before the stream.
        print(f"advrec: {record.getMessage()}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def kept(path: Path) -> Iterator[None]:
    """Append what advrec logs to the file at `path`, a line an event: time (UTC), level, text."""
    logger = logging.getLogger("advrec")
    file, screen = _File(path, delay=True, encoding="utf-8"), _Screen(logging.WARNING)
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    file.setFormatter(formatter)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(file)
    logger.addHandler(screen)
    logger.info("process %d begins", os.getpid())
    try:
        yield
    except BaseException as error:
        logger.info("process %d ends by %s %s", os.getpid(), type(error).__name__, error)
        raise
    finally:
        logger.removeHandler(file)
        logger.removeHandler(screen)
        with contextlib.suppress(OSError):
            file.close()


def say(text: str) -> None:
    """A line for the screen and for the log."""
    print(text, flush=True)
    logging.getLogger(__name__).info("%s", text)


def complain(text: str) -> None:
    """A sentence for stderr, as refusals are written, and for the log."""
    print(f"advrec: {text}", file=sys.stderr, flush=True)
    logging.getLogger(__name__).info("%s", text)
