"""Progress of long work: done, rate, time left. One rewritten line on a terminal, plain lines now and then elsewhere."""

import sys
import time
from typing import TextIO

LINE_EVERY_S = 10.0


class Progress:
    """Counts units of work towards `total`.

    Args:
        label: what is being done.
        total: units to do in all.
        unit: the plural of what is counted.
        done: units that an earlier run finished; they count as done, not towards the rate.
    """

    def __init__(self, label: str, total: int, unit: str, *, done: int = 0, stream: TextIO | None = None) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._start = time.monotonic()
        self._earlier = done
        self._last = self._start
        self._open_line = False

    def advance(self, units: int, note: str = "") -> None:
        self.done += units
        now = time.monotonic()
        if self._terminal or now - self._last >= LINE_EVERY_S or self.done >= self.total:
            self._last = now
            self._write(f"{self.text(now)}{', ' + note if note else ''}")

    def text(self, now: float) -> str:
        elapsed = max(now - self._start, 1e-9)
        rate = (self.done - self._earlier) / elapsed
        left = f"{duration((self.total - self.done) / rate)} left" if rate > 0 and self.done < self.total else duration(elapsed)
        return f"{self.label}: {self.done}/{self.total} {self.unit}, {rate:.3g} {self.unit}/s, {left}"

    def close(self) -> None:
        if self._open_line:
            self._stream.write("\n")
            self._open_line = False
            self._stream.flush()

    def _write(self, text: str) -> None:
        if self._terminal:
            self._stream.write(f"\r\x1b[2K{text}")
            self._open_line = True
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """1 h 02 min, 3 min 04 s, 5 s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"
