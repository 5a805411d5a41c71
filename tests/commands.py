"""Commands as a user gives them: in this process, which is fast, or in one that can be killed."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from unittest import mock

from advrec import cli

ADVREC = [sys.executable, "-m", "advrec.cli"]
Ended = subprocess.CompletedProcess[str]


def advrec(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> Ended:
    """Run one command in this process, in the directory `cwd`, with `env` in its environment."""
    out, err = io.StringIO(), io.StringIO()
    words = [str(argument) for argument in arguments]
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ, env or {}),
        _undone(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = cli.main(words)
        except SystemExit as ended:  # argparse refuses a call, or has printed its help
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _undone(cwd: Path) -> Iterator[None]:
    """Undo what a command changes here: the handler of SIGTERM, and modules of the user's own."""
    handler, path = signal.getsignal(signal.SIGTERM), sys.path[:]
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(f"{cwd}/"):
                del sys.modules[name]


def advrec_process(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> Ended:
    """Run one command as a shell does."""
    return subprocess.run(
        [*ADVREC, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=300,
    )


def started(
    *arguments: object, cwd: Path, env: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start one command, to be disturbed; what it says goes to the file `cwd`/said."""
    with (cwd / "said").open("w") as said:
        return subprocess.Popen(
            [*ADVREC, *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            stdout=said,
            stderr=said,
            # A shell's background job, and so these tests in one, ignore SIGINT, and so would what
            # they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def wait_until(ready: Callable[[], object], process: "subprocess.Popen[bytes]") -> None:
    """Wait until `ready()`, until the process has ended, or for 200 s."""
    deadline = time.monotonic() + 200
    while not ready() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)


def kill_when(
    ready: Callable[[], object],
    *arguments: object,
    cwd: Path,
    env: Mapping[str, str] | None = None,
) -> None:
    """Start a command and kill it with -9 as soon as `ready()`."""
    process = started(*arguments, cwd=cwd, env=env)
    wait_until(ready, process)
    process.kill()
    process.wait()
