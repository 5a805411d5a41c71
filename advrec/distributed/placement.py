"""The number of processes that a cluster takes, and the share of each.

Free of Ray: a dry run asks, too.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from advrec.errors import AdvrecError
from advrec.run import machine
from advrec.spec.resources import ResourcesSpec

OBJECT_STORE = 0.3
"""The share of a machine's free memory that Ray takes for shared objects, by default."""


def cluster_address(given: str | None) -> str | None:
    """The cluster to use; None: this machine alone.

    The default is RAY_ADDRESS, which Ray sets inside a job.
    """
    return given or os.environ.get("RAY_ADDRESS")


class Placement(NamedTuple):
    """Attackers, and each one's share of its node."""

    actors: int
    """0: the work is done in this process."""
    gpus: float
    """0, or a share of one GPU."""
    cpus: int
    """Cores, and threads of torch."""
    memory: int = 0
    """Bytes that each reserves on its node; 0: nobody counted."""

    @property
    def each(self) -> str:
        """The share of one, in words."""
        cores = f"{self.cpus} {'core' if self.cpus == 1 else 'cores'}"
        return f"{cores} and {self.gpus:g} of a GPU" if self.gpus else cores


def place(
    resources: ResourcesSpec,
    nodes: Sequence[Mapping[str, float]],
    *,
    grows: bool,
    key: str = "actors",
) -> Placement:
    """Find room for the study's actors; 0 of them need none.

    Args:
        nodes: the resources of each node, by Ray's names: CPU and GPU.
        grows: whether nodes may come later, as on a cluster with an autoscaler; then more actors
            may be asked for than there is room for now, and those without a place wait for one.
        key: of the study's resources, for messages.

    Raises:
        AdvrecError: there is no room for so many, or for one.
    """
    wanted, share, cpus = resources.actors, resources.gpus_per_actor, resources.cpus_per_actor
    gpus = 1.0 if share == "auto" else float(share)
    wait_for_gpus = grows and share != "auto" and wanted != "auto"
    if not any(node.get("GPU", 0) for node in nodes) and not wait_for_gpus:
        gpus = 0.0  # a study that shares out GPUs runs on cores where there are none
    room = sum(_room(node, gpus, cpus) for node in nodes)
    each = Placement(0, gpus, cpus).each
    where = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    has = f"Ray has {_total(nodes, 'CPU')} cores and {_total(nodes, 'GPU')} GPUs on {where}"
    if wanted == "auto":
        if not room:
            numbers = (
                "resources.actors and training_workers to numbers, for GPUs gpus_per_actor too,"
            )
            later = f"; set {numbers} to wait for nodes that an autoscaler starts" if grows else ""
            raise AdvrecError(f"there is no room for one process of {each}: {has}{later}")
        return Placement(room, gpus, cpus)
    if wanted > room and not grows:
        raise AdvrecError(
            f"resources.{key} asks for {wanted} processes of {each} each, "
            f"there is room for {room}: {has}; lower it, or set it to auto"
        )
    return Placement(wanted, gpus, cpus)


def within_memory(
    placement: Placement, nodes: Sequence[Mapping[str, float]], each: float, *, grows: bool
) -> Placement:
    """Reserve memory for each actor, and leave out those that do not fit; one is always left.

    Why one: what is counted is an estimate, up to 15 % off where it was measured.

    Args:
        nodes: with their memory in bytes; one that does not say it has enough.
        each: bytes of an actor.
        grows: as for `place`; actors then wait for nodes that come later.
    """
    most = max((node["memory"] for node in nodes if "memory" in node), default=math.inf)
    placement = placement._replace(memory=int(min(each, most)))
    room = sum(_room(node, placement.gpus, placement.cpus, placement.memory) for node in nodes)
    actors = placement.actors if grows else min(placement.actors, max(1, room))
    return placement._replace(actors=actors)


def left_out(
    wanted: Placement, placement: Placement, nodes: Sequence[Mapping[str, float]], each: float
) -> str:
    """Say how many actors do not fit into memory."""
    has = sum(node.get("memory", 0) for node in nodes)
    return (
        f"memory for {placement.actors} of {wanted.actors} processes: each takes about "
        f"{each / 2**20:,.0f} MiB of {has / 2**20:,.0f} (a smaller evaluation.batch takes less)"
    )


def place_training(
    resources: ResourcesSpec, nodes: Sequence[Mapping[str, float]], *, grows: bool
) -> tuple[int, bool]:
    """The number of processes that train, and whether each gets a GPU. Arguments and errors: see
    `place`.

    auto: one a GPU, else one a core. 0: this process trains.
    """
    if resources.trains_here:
        return 0, False
    wanted = resources.training_workers
    gpus = _total(nodes, "GPU")
    wait_for_gpus = grows and resources.gpus_per_actor not in ("auto", 0.0) and wanted != "auto"
    each = resources.model_copy(
        update={
            "actors": wanted,
            "cpus_per_actor": 1,
            "gpus_per_actor": 1.0 if gpus or wait_for_gpus else 0.0,
        }
    )
    return place(each, nodes, grows=grows, key="training_workers").actors, bool(
        gpus or wait_for_gpus
    )


def place_preparation(
    resources: ResourcesSpec, nodes: Sequence[Mapping[str, float]], *, grows: bool
) -> int:
    """The number of processes that prepare images: one a core; 0 for a study without actors.

    Where there are no cores yet it is the number of the study's actors.
    """
    if resources.actors == 0:
        return 0
    each = resources.model_copy(update={"cpus_per_actor": 1, "gpus_per_actor": 0.0})
    return _total(nodes, "CPU") or place(each, nodes, grows=grows).actors


def _room(node: Mapping[str, float], gpus: float, cpus: int, memory: int = 0) -> int:
    room = int(node.get("CPU", 0)) // cpus
    if gpus:
        room = min(room, int(node.get("GPU", 0)) * int(1 / gpus))
    if memory and "memory" in node:
        room = min(room, int(node["memory"]) // memory)
    return room


def _total(nodes: Sequence[Mapping[str, float]], kind: str) -> int:
    return int(sum(node.get(kind, 0) for node in nodes))


def this_machine() -> list[dict[str, float]]:
    """The resources of this process's machine, as `nodes` of Ray would give them."""
    import torch

    own = {"CPU": float(machine.cores()), "GPU": float(torch.cuda.device_count())}
    return [own | {"memory": (1 - OBJECT_STORE) * machine.free_memory()}]
