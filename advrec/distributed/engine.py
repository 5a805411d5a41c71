"""Units of work on a pool of actors that may die: attempts are counted, dead actors replaced,
hopeless units set aside.

The driver alone keeps results: `on_result` is called in it, once a unit. Why not Ray Data or
ActorPool: ARCHITECTURE.md.
"""

import dataclasses
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import ray
from ray.actor import ActorHandle

from advrec.errors import AdvrecError, first_line

ATTEMPTS = 3
MOST_CHARACTERS = 300  # of a reason
WAITING_S = 60.0  # without any actor at work, until the user is told

log = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class Unit:
    """One call of an actor's method."""

    key: str
    method: str
    arguments: Callable[[], tuple[Any, ...]]
    """Made when the unit is sent off, so that what waits costs no memory."""
    attempts: int = 0


class Pool:
    """Actors that work through units of any kind, one at a time each; used as a context, which ends
    them.

    A unit goes to an actor that has answered: one that waits for a place on the cluster, or was
        lost with its node, holds no work.

    Args:
        start_actor: makes one actor, with Ray's own restarts switched off.
        actors: how many at most.
        each: what one takes of the cluster, for messages.
        renew_s: an actor whose first unit was sent so long ago is replaced before it gets another.
            Its place is free for a moment, and on a cluster that others use may be theirs for a
            while.
    """

    def __init__(
        self,
        start_actor: Callable[[], ActorHandle],
        actors: int,
        each: str = "1 core",
        *,
        renew_s: float = math.inf,
    ) -> None:
        self._start_actor = start_actor
        self._most = actors
        self._each = each
        self._renew_s = renew_s
        self._since: dict[ActorHandle, float] = {}
        """When an actor got its first unit."""
        self._asked: dict[ray.ObjectRef, tuple[ActorHandle, bool]] = {}
        """By the answer that is waited for: actors, and whether they are new."""
        self._idle: list[ActorHandle] = []
        self._running: dict[ray.ObjectRef, tuple[Unit, ActorHandle]] = {}
        self._failed_starts = 0

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: object) -> None:
        asked, working = (
            (actor for actor, _ in self._asked.values()),
            (actor for _, actor in self._running.values()),
        )
        for actor in [*asked, *self._idle, *working]:
            ray.kill(actor)

    def run(
        self,
        units: Iterable[Unit],
        on_result: Callable[[Unit, Any], None],
        on_set_aside: Callable[[Unit, str], None] = lambda unit, reason: None,
    ) -> dict[str, str]:
        """Work through `units` in order. A unit whose actor dies or raises is tried again,
        `ATTEMPTS` times in all.

        Args:
            on_set_aside: called as soon as a unit is given up on, with the last reason.

        Returns:
            What was given up on: the unit's key and the last reason.

        Raises:
            AdvrecError: actors do not start.
        """
        waiting = deque(units)
        set_aside: dict[str, str] = {}
        self._ask_idle()  # some may have died since
        while len(self._asked) < min(self._most, len(waiting)):
            self._start()
        while waiting or self._running:
            while waiting and self._idle:
                actor, now = self._idle.pop(), time.monotonic()
                if now - self._since.setdefault(actor, now) > self._renew_s:
                    log.info("an old process is replaced")
                    self._replace(actor)
                    continue
                unit = waiting.popleft()
                log.info("%s: sent, attempt %d", unit.key, unit.attempts + 1)
                self._running[getattr(actor, unit.method).remote(*unit.arguments())] = (unit, actor)
            for reference in self._finished(bool(waiting)):
                if reference in self._asked:
                    self._answered(reference)
                    continue
                unit, actor = self._running.pop(reference)
                unit.attempts += 1
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    reason = f"{type(error.cause).__name__}: {first_line(error.cause)}"
                # the actor, its node or its memory is gone
                except ray.exceptions.RayError as error:
                    reason = f"its process died: {_reason(error)}"
                    self._ask_idle()  # those on the same node have died with it
                else:
                    self._idle.append(actor)
                    on_result(unit, result)
                    log.info("%s: done", unit.key)
                    continue
                # After an error too: a process whose GPU is in a bad state would fail every unit,
                # and fast.
                self._replace(actor)
                log.warning("%s: %s", unit.key, reason)
                if unit.attempts < ATTEMPTS:
                    waiting.append(unit)
                else:
                    set_aside[unit.key] = f"{reason} ({unit.attempts} attempts)"
                    on_set_aside(unit, set_aside[unit.key])
        return set_aside

    def _finished(self, work_waits: bool) -> list[ray.ObjectRef]:
        """What has come next: the end of a unit, or the answer of an actor where there is work for
        it.
        """
        references = [*self._running, *(self._asked if work_waits else ())]
        while True:
            finished, _ = ray.wait(
                references, num_returns=1, timeout=None if self._running else WAITING_S
            )
            if finished:
                return list(finished)
            log.warning(
                "waiting for a place for %d processes of %s each; free are %s",
                self._most,
                self._each,
                _free(),
            )

    def _start(self) -> None:
        actor = self._start_actor()
        self._asked[actor.__ray_ready__.remote()] = (actor, True)

    def _replace(self, actor: ActorHandle) -> None:
        ray.kill(actor)
        self._since.pop(actor)
        self._start()

    def _ask_idle(self) -> None:
        for actor in self._idle:
            self._asked[actor.__ray_ready__.remote()] = (actor, False)
        self._idle.clear()

    def _answered(self, reference: ray.ObjectRef) -> None:
        actor, new = self._asked.pop(reference)
        try:
            ray.get(reference)
        except ray.exceptions.RayError as error:
            ray.kill(actor)
            self._since.pop(actor, None)
            log.warning("a process %s: %s", "did not start" if new else "is gone", _reason(error))
            self._failed_starts += new
            if not (self._running or self._idle) and self._failed_starts >= ATTEMPTS * self._most:
                raise AdvrecError(
                    f"processes do not start ({_reason(error)}); what is finished is kept"
                ) from None
            # Where some work, a place at which none starts is given up.
            if self._failed_starts < ATTEMPTS * self._most or not (
                self._running or self._idle or self._asked
            ):
                self._start()
        else:
            self._failed_starts = 0
            self._idle.append(actor)


def map_in_order(
    function: Callable[..., Any],
    argument_lists: list[tuple[Any, ...]],
    *,
    on_result: Callable[[Any], None],
) -> list[Any]:
    """`function(*arguments)` for each list of arguments, in parallel as Ray tasks of one core;
    results in order.

    Raises:
        AdvrecError: a task failed for good.
    """
    remote = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(function)
    references = [remote.remote(*arguments) for arguments in argument_lists]
    pending = list(references)
    try:
        while pending:
            finished, pending = ray.wait(pending, num_returns=1)
            for reference in finished:
                on_result(ray.get(reference))
        return list(ray.get(references))
    except ray.exceptions.RayTaskError as error:
        raise AdvrecError(f"{function.__name__} failed: {_reason(error)}") from error
    except ray.exceptions.RayError as error:
        raise AdvrecError(f"{function.__name__} failed: {_reason(error)}") from error


def _free() -> str:
    free = ray.available_resources()
    return f"{free.get('CPU', 0):g} cores and {free.get('GPU', 0):g} GPUs on {sum(node['Alive'] for node in ray.nodes())} nodes"


def _reason(error: BaseException) -> str:
    """What Ray says of a death stands in the last line of several."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:MOST_CHARACTERS]
