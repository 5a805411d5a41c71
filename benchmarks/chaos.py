"""Evaluations disturbed at random: drivers and actors killed with -9, nodes removed. `python -m
benchmarks.chaos` is the long form.

Each round runs one evaluation on a real cluster of a head without work and two nodes of one core,
with several disturbances; the same command is given again until it is done. Its rows must be those
of an undisturbed evaluation on one node, bit for bit, none lost and none twice; and what was
computed more than once is at most one block an actor for each disturbance.
"""

# Ray's environment comes before anything that imports ray.
from advrec.distributed import session  # noqa: F401, I001

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
from ray.cluster_utils import Cluster

from tests.runs import ready_run, write_study

EVALUATION = {"tuples": 24, "block": 1, "attacks": ["pgd-100", "apgd-100"]}
ACTORS = 2
PATIENCE_S = 300.0
MOMENTS_S = (0.5, 4.0)  # between two disturbances
ADVREC = [sys.executable, "-m", "advrec.cli"]


class DisturbedError(AssertionError):
    """Something was lost, doubled, changed or done too often."""


class Chaos:
    """A study that was evaluated once on one node, without disturbance, and a cluster to disturb it
    on.
    """

    def __init__(self, directory: Path, seed: int) -> None:
        self._random = random.Random(seed)
        self._driver: subprocess.Popen[bytes] | None = None
        self._directory = directory
        trained = ready_run(directory / "trained")
        self._study = write_study(
            directory / "chaos.yaml",
            trained,
            evaluation=EVALUATION,
            resources={"actors": ACTORS},
        )
        shutil.copytree(trained.directory, directory / "undisturbed")
        subprocess.run(
            [*ADVREC, "evaluate", self._study, "--out", directory / "undisturbed"],
            check=True,
            capture_output=True,
        )
        self._expected = rows(directory / "undisturbed")
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self._nodes = [self._cluster.add_node(num_cpus=1) for _ in range(ACTORS)]

    def close(self) -> None:
        if self._driver is not None:
            self._driver.kill()
        self._cluster.shutdown()

    def round(self, number: int, events: list[str]) -> None:
        """One evaluation with these disturbances, in order, at random moments. Raises
        DisturbedError.
        """
        run = self._directory / f"round-{number}"
        shutil.copytree(self._directory / "trained", run)
        done: list[str] = []
        driver = self._start(run)
        for event in events:
            self._until_at_work(run, driver)
            time.sleep(self._random.uniform(*MOMENTS_S))
            if driver.poll() is not None:
                break
            done.append(event)
            if event == "driver":
                driver.kill()
                driver.wait()
                driver = self._start(run)
            elif event == "actor":
                self._kill_an_actor()
            else:
                self._replace_a_node()
        # a block that was hit three times is set aside, and tried again by the next
        for _ in range(5):
            code = driver.wait(PATIENCE_S)
            if code == 0:
                break
            driver = self._start(run)
        if code != 0:
            raise DisturbedError(
                f"the evaluation ends with exit code {code}:\n"
                f"{(run / 'advrec.log').read_text()[-2000:]}"
            )
        if len(done) < len(events):
            raise DisturbedError(
                f"the evaluation was over after {len(done)} of {len(events)} disturbances"
            )
        self._check(run, done)

    def _check(self, run: Path, events: list[str]) -> None:
        found = rows(run)
        if found.duplicated(["model", "attack", "tuple_id", "epsilon"]).any():
            raise DisturbedError("rows are doubled")
        if not found.equals(self._expected):
            raise DisturbedError(
                f"{len(found)} rows are not, bit for bit, "
                f"the {len(self._expected)} of the undisturbed run"
            )
        sent = Counter(
            line.split()[2].rstrip(":")
            for line in (run / "advrec.log").read_text().splitlines()
            if ": sent, attempt" in line
        )
        again = sum(count - 1 for key, count in sent.items() if key.startswith("attacks/"))
        # A driver takes the blocks of all its actors along; else it is that of one.
        allowed = sum(ACTORS if event == "driver" else 1 for event in events)
        if again > allowed:
            raise DisturbedError(
                f"{again} blocks were computed again after {events}, at most {allowed} may be"
            )
        print(
            f"killed: {', '.join(events)}; {len(found)} rows as undisturbed, "
            f"{again} blocks computed again",
            flush=True,
        )

    def _start(self, run: Path) -> subprocess.Popen[bytes]:
        command = [
            *ADVREC,
            "evaluate",
            self._study,
            "--out",
            run,
            "--address",
            self._cluster.address,
        ]
        self._driver = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        return self._driver

    def _until_at_work(self, run: Path, driver: subprocess.Popen[bytes]) -> None:
        """Wait for a block that is sent to an actor and not back yet, by a line that the log did
        not have before.
        """
        log = run / "advrec.log"
        before = log.stat().st_size if log.exists() else 0
        deadline = time.monotonic() + PATIENCE_S
        while driver.poll() is None and time.monotonic() < deadline:
            if log.exists() and b": sent, attempt" in log.read_bytes()[before:]:
                return
            time.sleep(0.05)
        if driver.poll() is None:
            raise DisturbedError("no block was sent")

    def _kill_an_actor(self) -> None:
        """Found by name: with Ray's state API the moment would be over."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            pids = [
                int(path.name)
                for path in Path("/proc").glob("[0-9]*")
                if _command(path).startswith("ray::Attacker.attack")
            ]
            mine = [
                pid
                for pid in pids
                if self._cluster.address in _command(Path(f"/proc/{_parent(pid)}"))
            ]
            # it ended by itself, or none is at work
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(self._random.choice(mine), signal.SIGKILL)
                return
            time.sleep(0.05)
        raise DisturbedError("no actor of this cluster was found at work")

    def _replace_a_node(self) -> None:
        place = self._random.randrange(len(self._nodes))
        self._cluster.remove_node(self._nodes[place], allow_graceful=False)
        self._nodes[place] = self._cluster.add_node(num_cpus=1)


def rows(run: Path) -> pd.DataFrame:
    """All rows of a run but for their seconds, in order."""
    table = (
        ds.dataset(run / "attacks", partitioning="hive")
        .to_table()
        .to_pandas()
        .drop(columns="seconds")
    )
    return table.sort_values(["model", "attack", "tuple_id", "epsilon"]).reset_index(drop=True)


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:  # it has ended meanwhile
        return ""


def _parent(pid: int) -> int:
    """The parent of a process; an actor's is the raylet of its node, which names the cluster."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drivers", type=int, default=10)
    parser.add_argument("--actors", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--per-round", type=int, default=5)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    wanted = parser.parse_args()
    print(f"seed {wanted.seed}", flush=True)
    events = ["driver"] * wanted.drivers + ["actor"] * wanted.actors + ["node"] * wanted.nodes
    random.Random(wanted.seed).shuffle(events)
    with tempfile.TemporaryDirectory() as directory:
        chaos = Chaos(Path(directory), wanted.seed)
        try:
            for number, start in enumerate(range(0, len(events), wanted.per_round)):
                chaos.round(number, events[start : start + wanted.per_round])
        finally:
            chaos.close()


if __name__ == "__main__":
    main()
