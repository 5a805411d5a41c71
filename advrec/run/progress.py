"""Progress of long work: done, rate, time left. A bar on a terminal, plain lines now and then
elsewhere; the log has the lines too.
"""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

LINE_EVERY_S = 10.0

log = logging.getLogger(__name__)


class Progress:
    """Counts units of work towards `total`.

    Args:
        label: what is being done.
        total: units to do in all.
        unit: the plural of what is counted.
        done: units that an earlier run finished; they count as done, not towards the rate.
        left: says for a time of the clock how many seconds are left, or None while that is unknown;
            by default all units take equal times.
    """

    def __init__(
        self,
        label: str,
        total: int,
        unit: str,
        *,
        done: int = 0,
        left: Callable[[float], float | None] | None = None,
        stream: TextIO | None = None,
    ) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self._stream = stream or sys.stderr
        self._start = time.monotonic()
        self._earlier = done
        self._left = left or self._left_evenly
        self._last = self._start
        self._bar = self._open_bar() if self._stream.isatty() else None
        self._show(f"{label}: {done}/{total} {unit}{' done before' if done else ''}")

    def advance(self, units: int, note: str = "") -> None:
        self.done += units
        now = time.monotonic()
        line = now - self._last >= LINE_EVERY_S or self.done >= self.total
        self._show(self.text(now), note, line=line)
        if line:
            self._last = now

    def elapsed(self) -> float:
        """Seconds since the work began."""
        return max(time.monotonic() - self._start, 1e-9)

    def text(self, now: float) -> str:
        elapsed = max(now - self._start, 1e-9)
        rate = (self.done - self._earlier) / elapsed
        said = f"{self.label}: {self.done}/{self.total} {self.unit}, {rate:.3g} {self.unit}/s"
        if self.done >= self.total:
            return f"{said}, {duration(elapsed)}"
        left = self._left(now)
        return said if left is None else f"{said}, {duration(left)} left"

    def _left_evenly(self, now: float) -> float | None:
        """Seconds for the units that are left, at the rate of those that are done."""
        done = self.done - self._earlier
        return (self.total - self.done) * (now - self._start) / done if done else None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        """Whatever happened: a bar that stays open would keep the terminal's cursor."""
        self.close()

    def close(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _open_bar(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        bar = Bar(
            BarColumn(bar_width=16),
            TextColumn("{task.description}", markup=False),
            console=Console(file=self._stream),
        )
        self._task = bar.add_task("", total=self.total, completed=self.done)
        bar.start()
        return bar

    def _show(self, text: str, note: str = "", *, line: bool = True) -> None:
        """Beside the bar always, the note below it; as one line where `line`."""
        whole = f"{text}, {note}" if note else text
        if line:
            log.info("%s", whole)
        if self._bar:
            self._bar.update(
                self._task, description=f"{text}\n{note}" if note else text, completed=self.done
            )
        elif line:
            print(whole, file=self._stream, flush=True)


def duration(seconds: float) -> str:
    """1 h 02 min, 3 min 04 s, 5 s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"
