"""The time that is left of work of several kinds, by the pace of each kind."""

from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import NamedTuple


class Piece(NamedTuple):
    """A piece of work that is done at a stretch."""

    kind: Hashable
    """Pieces of one kind take times that are proportional to their sizes."""
    size: float


class Pace:
    """Measures how long pieces take and how many are at work at once.

    All times are seconds of one clock.

    Args:
        pieces: what is to do, by key.
    """

    def __init__(self, pieces: Mapping[str, Piece]) -> None:
        self._left = dict(pieces)
        self._begun: dict[str, float] = {}
        self._start: float | None = None
        self._busy = 0.0
        self._seconds: defaultdict[Hashable, float] = defaultdict(float)
        self._sizes: defaultdict[Hashable, float] = defaultdict(float)

    def begin(self, key: str, now: float) -> None:
        """A piece is sent to a worker, perhaps again: its worker was busy with it in vain."""
        self._busy += now - self._begun.get(key, now)
        self._begun[key] = now
        self._start = now if self._start is None else self._start

    def end(self, key: str, now: float, *, done: bool = True) -> None:
        """A piece has come back.

        Args:
            done: False for one that was given up on: it says nothing of its kind's pace.
        """
        kind, size = self._left.pop(key)
        seconds = now - self._begun.pop(key, now)
        self._busy += seconds
        if done:
            self._seconds[kind] += seconds
            self._sizes[kind] += size

    def left(self, now: float) -> float | None:
        """Seconds until all is done; None while a kind is left of which no piece is done.

        It is the work that is left, by each kind's mean pace, over the mean number of pieces that
        were at work at once; at least the longest piece.
        """
        if any(kind not in self._sizes for kind, _ in self._left.values()):
            return None
        each = [
            max(
                0.0,
                size * self._seconds[kind] / self._sizes[kind] - (now - self._begun.get(key, now)),
            )
            for key, (kind, size) in self._left.items()
        ]
        busy = self._busy + sum(now - begun for begun in self._begun.values())
        if self._start is None or busy <= 0 or not self._left:
            return 0.0
        return max(sum(each) * (now - self._start) / busy, max(each))
