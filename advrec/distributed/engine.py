"""Units of work on a pool of actors that may die: attempts are counted, dead actors replaced, hopeless units set aside.

The driver alone keeps results: `on_result` is called in it, once a unit. Why not Ray Data or ActorPool: ARCHITECTURE.md.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import ray
from ray.actor import ActorHandle

from advrec.errors import AdvrecError, first_line

ATTEMPTS = 3


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

    Args:
        start_actor: makes one actor, with Ray's own restarts switched off.
        actors: how many at most.
    """

    def __init__(self, start_actor: Callable[[], ActorHandle], actors: int) -> None:
        self._start_actor = start_actor
        self._most = actors
        self._actors: list[ActorHandle] = []

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: object) -> None:
        for actor in self._actors:
            ray.kill(actor)

    def run(self, units: Iterable[Unit], on_result: Callable[[Unit, Any], None]) -> dict[str, str]:
        """Work through `units` in order. A unit whose actor dies or raises is tried again, `ATTEMPTS` times in all.

        Returns:
            What was given up on: the unit's key and the last reason.
        """
        waiting = deque(units)
        running: dict[ray.ObjectRef, tuple[Unit, ActorHandle]] = {}
        while len(self._actors) < min(self._most, len(waiting)):
            self._actors.append(self._start_actor())
        idle = list(self._actors)
        set_aside: dict[str, str] = {}
        while waiting or running:
            while waiting and idle:
                unit, actor = waiting.popleft(), idle.pop()
                running[getattr(actor, unit.method).remote(*unit.arguments())] = (unit, actor)
            finished, _ = ray.wait(list(running), num_returns=1)
            for reference in finished:
                unit, actor = running.pop(reference)
                unit.attempts += 1
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    _again(unit, _named(error.cause), waiting, set_aside)
                except ray.exceptions.RayError as error:  # the actor, its node or its memory is gone
                    actor = self._replace(actor)
                    _again(unit, f"its process died: {_named(error)}", waiting, set_aside)
                else:
                    on_result(unit, result)
                idle.append(actor)
        return set_aside

    def _replace(self, dead: ActorHandle) -> ActorHandle:
        self._actors.remove(dead)
        ray.kill(dead)  # one that is only out of reach would hold its core for ever
        self._actors.append(self._start_actor())
        return self._actors[-1]


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


def _again(unit: Unit, reason: str, waiting: deque[Unit], set_aside: dict[str, str]) -> None:
    if unit.attempts < ATTEMPTS:
        waiting.append(unit)
    else:
        set_aside[unit.key] = f"{reason} ({unit.attempts} attempts)"


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
