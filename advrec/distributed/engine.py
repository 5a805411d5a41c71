"""Units of work on a pool of actors that may die: attempts are counted, dead actors replaced, hopeless units set aside.

The driver alone keeps results: `on_result` is called in it, once a unit. Why not Ray Data or ActorPool: ARCHITECTURE.md.
"""

import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import ray
from ray.actor import ActorHandle

from advrec.errors import AdvrecError, first_line

ATTEMPTS = 3
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
    """Actors that work through units of any kind, one at a time each; used as a context, which ends them.

    A unit goes to an actor that has started: one that waits for a place on the cluster holds no work, the others go on.

    Args:
        start_actor: makes one actor, with Ray's own restarts switched off.
        actors: how many at most.
    """

    def __init__(self, start_actor: Callable[[], ActorHandle], actors: int) -> None:
        self._start_actor = start_actor
        self._most = actors
        self._starting: dict[ray.ObjectRef, ActorHandle] = {}
        self._idle: list[ActorHandle] = []
        self._running: dict[ray.ObjectRef, tuple[Unit, ActorHandle]] = {}
        self._failed_starts = 0

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: object) -> None:
        for actor in [*self._starting.values(), *self._idle, *(actor for _, actor in self._running.values())]:
            ray.kill(actor)

    def run(
        self,
        units: Iterable[Unit],
        on_result: Callable[[Unit, Any], None],
        on_set_aside: Callable[[Unit, str], None] = lambda unit, reason: None,
    ) -> dict[str, str]:
        """Work through `units` in order. A unit whose actor dies or raises is tried again, `ATTEMPTS` times in all.

        Args:
            on_set_aside: called as soon as a unit is given up on, with the last reason.

        Returns:
            What was given up on: the unit's key and the last reason.

        Raises:
            AdvrecError: actors do not start.
        """
        waiting = deque(units)
        set_aside: dict[str, str] = {}
        while len(self._idle) + len(self._starting) < min(self._most, len(waiting)):
            self._start()
        while waiting or self._running:
            while waiting and self._idle:
                unit, actor = waiting.popleft(), self._idle.pop()
                log.info("%s: sent, attempt %d", unit.key, unit.attempts + 1)
                self._running[getattr(actor, unit.method).remote(*unit.arguments())] = (unit, actor)
            for reference in self._finished(bool(waiting)):
                if reference in self._starting:
                    self._started(reference)
                    continue
                unit, actor = self._running.pop(reference)
                unit.attempts += 1
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    self._idle.append(actor)
                    reason = _named(error.cause)
                except ray.exceptions.RayError as error:  # the actor, its node or its memory is gone
                    ray.kill(actor)  # one that is only out of reach would hold its core for ever
                    self._start()
                    reason = f"its process died: {_named(error)}"
                else:
                    self._idle.append(actor)
                    on_result(unit, result)
                    log.info("%s: done", unit.key)
                    continue
                log.warning("%s: %s", unit.key, reason)
                if unit.attempts < ATTEMPTS:
                    waiting.append(unit)
                else:
                    set_aside[unit.key] = f"{reason} ({unit.attempts} attempts)"
                    on_set_aside(unit, set_aside[unit.key])
        return set_aside

    def _finished(self, work_waits: bool) -> list[ray.ObjectRef]:
        """What has ended next: a unit, or the start of an actor where there is work for it."""
        references = [*self._running, *(self._starting if work_waits else ())]
        while True:
            finished, _ = ray.wait(references, num_returns=1, timeout=None if self._running else WAITING_S)
            if finished:
                return list(finished)
            log.warning("no process has started yet; not taken are %s", _resources())

    def _start(self) -> None:
        actor = self._start_actor()
        self._starting[actor.__ray_ready__.remote()] = actor

    def _started(self, reference: ray.ObjectRef) -> None:
        actor = self._starting.pop(reference)
        try:
            ray.get(reference)
        except ray.exceptions.RayError as error:
            self._failed_starts += 1
            log.warning("a process did not start: %s", _named(error))
            if self._failed_starts >= ATTEMPTS * self._most:
                raise AdvrecError(f"processes do not start ({_named(error)}); what is finished is kept") from None
            ray.kill(actor)
            self._start()
        else:
            self._failed_starts = 0
            self._idle.append(actor)


def map_in_order(function: Callable[..., Any], argument_lists: list[tuple[Any, ...]], *, on_result: Callable[[Any], None]) -> list[Any]:
    """`function(*arguments)` for each list of arguments, in parallel as Ray tasks of one core; results in order.

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
        raise AdvrecError(f"{function.__name__} failed: {_named(error.cause)}") from error
    except ray.exceptions.RayError as error:
        raise AdvrecError(f"{function.__name__} failed: {_named(error)}") from error


def _resources() -> str:
    free = ray.available_resources()
    return f"{free.get('CPU', 0):g} free cores and {free.get('GPU', 0):g} free GPUs on {sum(node['Alive'] for node in ray.nodes())} nodes"


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
