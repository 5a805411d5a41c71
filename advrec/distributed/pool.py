"""Units of work and the pools that do them: in this process, or on actors of Ray (engine.py).

A unit that fails is tried again, `ATTEMPTS` times in all, and then set aside. The driver alone
keeps results: `on_result` is called in it, once a unit.
"""

import dataclasses
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol, Self

from advrec.distributed.placement import Placement
from advrec.errors import first_line

ATTEMPTS = 3
Reference = Callable[[], Any]
"""A value that many units take: a worker calls it. On Ray it lies once on each node."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class Unit:
    """One call of a worker's method."""

    key: str
    method: str
    arguments: Callable[[], tuple[Any, ...]]
    """Called when the unit is sent off, so that what waits costs no memory."""
    attempts: int = 0


OnResult = Callable[[Unit, Any], None]
OnSetAside = Callable[[Unit, str], None]


def ignore(unit: Unit, reason: str) -> None:
    """Do nothing about a unit that is set aside: `Pool.run` returns it, too."""


class Pool(Protocol):
    """Workers that do units of any kind, one at a time each. Used as a context, which ends them."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def put(self, value: Any) -> Reference:
        """Make a value available to the workers."""
        ...

    def run(
        self, units: Iterable[Unit], on_result: OnResult, on_set_aside: OnSetAside = ignore
    ) -> dict[str, str]:
        """Do `units` in order.

        Args:
            on_result: called with each unit and its result, as soon as it is there.
            on_set_aside: called as soon as a unit is given up on, with the last reason.

        Returns:
            The last reason of each unit that was given up on, by the unit's key.

        Raises:
            AdvrecError: workers do not start.
        """
        ...


class Backlog:
    """Units that wait for their turn, and those that were given up on."""

    def __init__(self, units: Iterable[Unit], on_set_aside: OnSetAside) -> None:
        self.waiting = deque(units)
        self.set_aside: dict[str, str] = {}
        self._on_set_aside = on_set_aside

    def next(self) -> Unit:
        """Take the unit whose turn it is."""
        unit = self.waiting.popleft()
        log.info("%s: sent, attempt %d", unit.key, unit.attempts + 1)
        return unit

    def again(self, unit: Unit, reason: str) -> None:
        """Let a unit be the next one: it did not fail by itself."""
        log.warning("%s: %s", unit.key, reason)
        self.waiting.appendleft(unit)

    def failed(self, unit: Unit, reason: str) -> None:
        """Let a unit wait for its next attempt, or set it aside after the last one."""
        log.warning("%s: %s", unit.key, reason)
        if unit.attempts < ATTEMPTS:
            self.waiting.append(unit)
        else:
            self.set_aside[unit.key] = f"{reason} ({unit.attempts} attempts)"
            self._on_set_aside(unit, self.set_aside[unit.key])


class InProcess:
    """A pool of one worker in this process: no Ray, a debugger works. A crash ends the process."""

    def __init__(self, start: Callable[[], object]) -> None:
        self._start = start
        self._worker: object | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._worker = None

    def put(self, value: Any) -> Reference:
        """Hold the value itself; nothing is copied."""
        return lambda: value

    def run(
        self, units: Iterable[Unit], on_result: OnResult, on_set_aside: OnSetAside = ignore
    ) -> dict[str, str]:
        """Do `units` one after another; see `Pool.run`."""
        backlog = Backlog(units, on_set_aside)
        while backlog.waiting:
            unit = backlog.next()
            arguments = unit.arguments()
            unit.attempts += 1
            try:
                self._worker = self._worker or self._start()
                result = getattr(self._worker, unit.method)(*arguments)
            except (Exception, SystemExit) as error:  # sys.exit() of a user's module
                reason = describe(error)
            else:
                on_result(unit, result)
                log.info("%s: done", unit.key)
                continue
            self._worker = None  # as an actor after an error: the next one begins anew
            backlog.failed(unit, reason)
        return backlog.set_aside


def describe(error: BaseException) -> str:
    """The kind of an error and its first line."""
    return f"{type(error).__name__}: {first_line(error)}"


def open_pool(
    worker: type, *arguments: object, placement: Placement, renew_s: float = math.inf
) -> Pool:
    """A pool of workers `worker(*arguments)`: `placement.actors` actors, or this process for 0.

    Args:
        renew_s: an actor that has worked for so long is replaced.
    """
    if placement.actors == 0:
        return InProcess(lambda: worker(*arguments))
    from advrec.distributed import engine

    return engine.Actors(
        lambda: engine.start(worker, *arguments, placement=placement),
        placement.actors,
        placement.each,
        renew_s=renew_s,
    )
