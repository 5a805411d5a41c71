"""The pool of Ray actors that may die: dead ones are replaced, what they did is tried again.

Why not Ray Data or ActorPool: docs/design/0001.
"""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self

import ray
from ray.actor import ActorHandle

from advrec.distributed.placement import Placement
from advrec.distributed.pool import (
    ATTEMPTS,
    Backlog,
    OnResult,
    OnSetAside,
    Reference,
    Unit,
    describe,
    ignore,
)
from advrec.errors import AdvrecError, first_line, last_line

WAITING_S = 60.0  # without any actor at work, until the user is told

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Stored:
    """A value in Ray's object store."""

    reference: ray.ObjectRef

    def __call__(self) -> Any:
        return ray.get(self.reference)


class _Asked(NamedTuple):
    """An actor whose answer is waited for."""

    actor: ActorHandle
    new: bool


class _Sent(NamedTuple):
    """A unit at work, and the actor that does it."""

    unit: Unit
    actor: ActorHandle


class Actors:
    """Actors of Ray that do units of any kind, one at a time each. A context, which ends them.

    A unit goes to an actor that has answered. One that waits for a place on the cluster, or was
    lost with its node, holds no work.

    Args:
        start_actor: starts one actor, with Ray's own restarts switched off.
        actors: how many at most.
        each: what one takes of the cluster, for messages.
        renew_s: an actor whose first unit was sent so long ago is replaced before it gets another.
            Its place is free for a moment. On a cluster that others use it may then be theirs for
            a while.
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
        self._starved: set[str] = set()
        """Keys of units whose process was killed for want of memory."""
        """Time of an actor's first unit."""
        self._asked: dict[ray.ObjectRef, _Asked] = {}
        self._idle: list[ActorHandle] = []
        self._running: dict[ray.ObjectRef, _Sent] = {}
        self._failed_starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        asked = (asked.actor for asked in self._asked.values())
        working = (sent.actor for sent in self._running.values())
        for actor in [*asked, *self._idle, *working]:
            ray.kill(actor)

    def put(self, value: Any) -> Reference:
        """Put the value into Ray's object store: NumPy arrays in it lie once on each node."""
        return _Stored(ray.put(value))

    def run(
        self, units: Iterable[Unit], on_result: OnResult, on_set_aside: OnSetAside = ignore
    ) -> dict[str, str]:
        """Do `units` in order; see `Pool.run`. A unit whose actor dies has failed, too."""
        backlog = Backlog(units, on_set_aside)
        self._ask_idle()  # some may have died since
        while len(self._asked) < min(self._most, len(backlog.waiting)):
            self._start()
        while backlog.waiting or self._running:
            self._send(backlog)
            for reference in self._finished(bool(backlog.waiting)):
                if reference in self._asked:
                    self._answered(reference)
                else:
                    self._receive(reference, backlog, on_result)
        return backlog.set_aside

    def _send(self, backlog: Backlog) -> None:
        """Give a unit to each idle actor, while units wait."""
        while backlog.waiting and self._idle:
            actor, now = self._idle.pop(), time.monotonic()
            if now - self._since.setdefault(actor, now) > self._renew_s:
                log.info("an old process is replaced")
                self._replace(actor)
                continue
            unit = backlog.next()
            reference = getattr(actor, unit.method).remote(*unit.arguments())
            self._running[reference] = _Sent(unit, actor)

    def _receive(self, reference: ray.ObjectRef, backlog: Backlog, on_result: OnResult) -> None:
        """Take the result of a unit, or the reason for which there is none."""
        unit, actor = self._running.pop(reference)
        unit.attempts += 1
        try:
            result = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            reason = describe(error.cause)
        except ray.exceptions.OutOfMemoryError as error:
            reason = f"its process died: {first_line(error)}; a smaller evaluation.batch helps"
            self._ask_idle()
            if unit.key not in self._starved and self._one_less(actor):
                self._starved.add(unit.key)  # again, it is its own size that kills
                unit.attempts -= 1
                backlog.again(unit, reason)
                return
        except ray.exceptions.RayError as error:  # the actor, its node or its memory is gone
            reason = f"its process died: {last_line(error)}"
            self._ask_idle()  # those on the same node have died with it
        else:
            self._idle.append(actor)
            on_result(unit, result)
            log.info("%s: done", unit.key)
            return
        # After an error too: a process whose GPU is in a bad state would fail every unit, and fast.
        self._replace(actor)
        backlog.failed(unit, reason)

    def _finished(self, work_waits: bool) -> list[ray.ObjectRef]:
        """Wait for the end of a unit or, while units wait, for the answer of an actor."""
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
        self._asked[actor.__ray_ready__.remote()] = _Asked(actor, new=True)

    def _replace(self, actor: ActorHandle) -> None:
        ray.kill(actor)
        self._since.pop(actor)
        self._start()

    def _one_less(self, actor: ActorHandle) -> bool:
        """Go on without a process that was killed for want of memory, unless it is the last one.

        Returns:
            Whether others go on: then it is their number that was too large, not its unit.
        """
        if self._most == 1:
            return False
        self._most -= 1
        ray.kill(actor)
        self._since.pop(actor, None)
        log.warning("memory is short: no more than %d processes work from here on", self._most)
        if not (self._asked or self._idle or self._running):
            self._start()
        return True

    def _ask_idle(self) -> None:
        for actor in self._idle:
            self._asked[actor.__ray_ready__.remote()] = _Asked(actor, new=False)
        self._idle.clear()

    def _answered(self, reference: ray.ObjectRef) -> None:
        actor, new = self._asked.pop(reference)
        try:
            ray.get(reference)
        except ray.exceptions.RayError as error:
            if isinstance(error, ray.exceptions.OutOfMemoryError) and self._one_less(actor):
                return
            ray.kill(actor)
            self._since.pop(actor, None)
            log.warning("a process %s: %s", "did not start" if new else "is gone", last_line(error))
            self._failed_starts += new
            if not (self._running or self._idle) and self._failed_starts >= ATTEMPTS * self._most:
                raise AdvrecError(
                    f"processes do not start ({last_line(error)}); what is finished is kept"
                ) from None
            # A place at which none starts is given up while others work.
            if self._failed_starts < ATTEMPTS * self._most or not (
                self._running or self._idle or self._asked
            ):
                self._start()
        else:
            self._failed_starts = 0
            self._idle.append(actor)


def start(worker: type, *arguments: object, placement: Placement) -> ActorHandle:
    """Start `worker(*arguments)` as an actor.

    Ray never restarts it: the pool replaces it and counts the attempt.
    """
    options = {
        "num_cpus": placement.cpus,
        "num_gpus": placement.gpus,
        "memory": placement.memory or None,
        "max_restarts": 0,
        "max_task_retries": 0,
    }
    return ray.remote(worker).options(**options).remote(*arguments)


def _free() -> str:
    free, nodes = ray.available_resources(), sum(node["Alive"] for node in ray.nodes())
    return f"{free.get('CPU', 0):g} cores and {free.get('GPU', 0):g} GPUs on {nodes} nodes"
