"""A Ray session: this machine's own, or a cluster's. Token authentication is set explicitly, so
that it fails closed.
"""

import contextlib
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

# Ray reads these when it is imported, so they are set before, here, and every driver imports this
# module before any other of Ray's.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# a process that warns workers of a node's end: a training goes on from its last epoch anyway
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
if not os.environ.get("RAY_AUTH_TOKEN_PATH") and not (Path.home() / ".ray" / "auth_token").exists():
    # A token of this process's own: nobody else needs to talk to the Ray that it starts, and a
    # cluster refuses it.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import ray

from advrec.distributed.placement import cluster_address
from advrec.errors import AdvrecError, first_line
from advrec.run.machine import cores

ANSWER_S = 10.0  # of a head's port


@contextlib.contextmanager
def session(address: str | None = None) -> Iterator[None]:
    """Connect to the cluster at `address`, or start Ray on this machine.

    Raises:
        AdvrecError: there is no such cluster, or it refuses the token.
    """
    address = cluster_address(address)
    _check_port(address)
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level="ERROR",
            # Ray itself looks at no affinity
            **({"include_dashboard": False, "num_cpus": cores()} if address is None else {}),
        )
    except Exception as error:  # some are bare ones
        ray.shutdown()
        raise AdvrecError(
            f"Ray at {address or 'this machine'} cannot be used; {_remedy(address, error)} "
            f"({first_line(error)})"
        ) from None
    # ray.init takes SIGTERM, and prints a stack trace at it: give it back to the command line.
    signal.signal(signal.SIGTERM, on_terminate)
    try:
        yield
    except ray.exceptions.RayError as error:  # the object store is full, the head is gone, ...
        raise AdvrecError(
            f"Ray failed ({first_line(error)}); what is finished is kept, "
            "the same command goes on from there"
        ) from error
    finally:
        ray.shutdown()


def _remedy(address: str | None, error: Exception) -> str:
    """Say what to do about a Ray that does not start or answer."""
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
        # sockets in a directory whose name is too long, one of another user's, a full disk
        return "set TMPDIR to a directory of your own with a short name and free space"
    if address is None:
        return "Ray's logs below TMPDIR may say more; resources.actors: 0 works without Ray"
    return "check --address and the token"


def _check_port(address: str | None) -> None:
    """Ray tries for minutes to reach a port where nobody listens."""
    host, _, port = (address or "").rpartition(":")
    # auto, local, ray://...: Ray says what is wrong with them
    if not host or "/" in host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise AdvrecError(
            f"Ray at {address} cannot be reached ({error}); "
            "set --address to HOST:PORT of a cluster's head"
        ) from None


def nodes() -> list[dict[str, float]]:
    """The resources of each living node of the cluster, by Ray's names: CPU, GPU, memory, ..."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
