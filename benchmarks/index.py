"""Exact ranks in a large catalog: their time against the bare matrix product of the same targets,
and the memory of each process.

    python -m benchmarks.index [ARTICLES] [--json FILE]

Two actors, started as the engine starts its attackers, hold the index over one matrix in the object
store. Each ranks half of 1,000 tuples, both at the same time. Each also multiplies its targets
with the matrix, whole and in tiles, in turns; the faster counts. Seconds are of the clock and,
where other work disturbs the machine, of the processor. While it is made the matrix is there twice
(10.2 GB of memory for a million articles), then once, in /dev/shm.
"""

import argparse
import itertools
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from advrec.distributed.session import session  # before Ray: it sets Ray's environment

# isort: split
import numpy as np
import numpy.typing as npt
import ray
from threadpoolctl import threadpool_info

from advrec.recommenders.ranks import similar_articles
from benchmarks import ratios

Floats = npt.NDArray[np.float32]

DIMENSION = 1280
TUPLES, ACTORS, ROUNDS = 1000, 2, 5
CHECKED = 20  # of each actor's ranks
SHM = Path("/dev/shm")


def private_mib() -> float:
    """Memory of this process that it shares with no other."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return (
        sum(
            int(line.split()[1])
            for line in lines
            if line.startswith(("Private_Clean", "Private_Dirty"))
        )
        / 1024
    )


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock, and of this process on the processor."""
    clock, processor = time.monotonic(), time.process_time()
    work()
    return time.monotonic() - clock, time.process_time() - processor


class Ranker:
    """One process with the index."""

    def __init__(self, matrix: Floats, seed: int) -> None:
        self._before = private_mib()
        start = time.monotonic()
        self._index = similar_articles(matrix)
        self._made_s = time.monotonic() - start
        random = np.random.default_rng(seed)
        ids = random.permutation(len(matrix))[: TUPLES // ACTORS * 2].astype(np.int32)
        self._targets, self._attacks = ids[::2], ids[1::2]
        towards = random.uniform(0.0, 0.1, size=(len(self._targets), 1)).astype(np.float32)
        # ranks from the last to the first
        self._candidates = matrix[self._attacks] + towards * matrix[self._targets]

    def rank(self) -> npt.NDArray[np.int32]:
        """Ranks (R,) of this actor's tuples."""
        return self._index.ranks(self._targets, self._attacks, self._candidates)

    def memory(self) -> dict[str, Any]:
        """Private memory, the most of it seen while ranking."""
        samples, done = [private_mib()], threading.Event()

        def watch() -> None:
            while not done.wait(0.1):
                samples.append(private_mib())

        watcher = threading.Thread(target=watch)
        watcher.start()
        self._ranks = self.rank()
        done.set()
        watcher.join()
        return {
            "BLAS threads": [
                pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"
            ],
            "index made, s": round(self._made_s, 1),
            "private MiB before the index": round(self._before),
            "with it": round(samples[0]),
            "ranking, most": round(max(samples)),
        }

    def round(self) -> dict[str, tuple[float, float]]:
        """Seconds of ranking, and of nothing but the product."""
        matrix = self._index.bank.items
        targets = matrix[self._targets]
        width = 2048
        tile = np.empty((len(targets), width), dtype=np.float32)
        whole = np.zeros((len(targets), len(matrix)), dtype=np.float32)

        def tiles() -> None:
            for first in range(0, len(matrix), width):
                articles = matrix[first : first + width]
                np.matmul(targets, articles.T, out=tile[:, : len(articles)])

        return {
            "ranks": seconds(self.rank),
            "product, whole": seconds(lambda: np.matmul(targets, matrix.T, out=whole)),
            "product, tiles": seconds(tiles),
        }

    def check(self) -> list[int]:
        """Ranks of some rows, spread over all, after comparing them with a count in float64."""
        ranks = self._ranks
        rows = np.argsort(ranks)[np.linspace(0, len(ranks) - 1, CHECKED).astype(int)]
        targets, attacks = self._targets[rows], self._attacks[rows]

        def units(raw: Floats) -> npt.NDArray[np.float64]:
            """Unit vectors (n, D) of raw ones (n, D)."""
            double = raw.astype(np.float64)
            return double / np.linalg.norm(double, axis=1, keepdims=True)

        matrix = self._index.bank.items
        own = (units(matrix[targets]) * units(self._candidates[rows])).sum(axis=1)
        expected = np.ones(len(rows), dtype=np.int64)
        for first in range(0, len(matrix), 4096):
            nearer = units(matrix[targets]) @ units(matrix[first : first + 4096]).T > own[:, None]
            for ids in (targets, attacks):
                here = np.flatnonzero((ids >= first) & (ids < first + nearer.shape[1]))
                nearer[here, ids[here] - first] = False
            expected += nearer.sum(axis=1)
        assert (ranks[rows] == expected).all(), (
            f"ranks {ranks[rows]}, counted in float64 {expected}"
        )
        return expected.tolist()


def put(articles: int) -> ray.ObjectRef:
    """A random matrix like features after a ReLU, in the object store."""
    random = np.random.default_rng(0)
    matrix = np.empty((articles, DIMENSION), dtype=np.float32)
    for start in range(0, articles, 4096):
        part = matrix[start : start + 4096]
        random.standard_normal(out=part, dtype=np.float32)
        np.abs(part, out=part)
    return ray.put(matrix)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("articles", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--json", type=Path, help="a file for the ratios")
    args = parser.parse_args()
    articles = args.articles
    size = articles * DIMENSION * 4
    if shutil.disk_usage(SHM).free < size:
        sys.exit(
            f"{SHM} has less than the matrix's {size / 1e9:.1f} GB free: "
            "Ray would keep it on disk, and reading it would be measured"
        )
    with session():
        if ray.cluster_resources()["object_store_memory"] < size:
            sys.exit(
                "Ray's object store, 30 % of the memory, "
                f"is smaller than the matrix's {size / 1e9:.1f} GB"
            )
        used = shutil.disk_usage(SHM).used
        reference = put(articles)
        actors = [
            ray.remote(num_cpus=1)(Ranker).remote(reference, seed) for seed in range(1, ACTORS + 1)
        ]

        def everyone(method: str) -> list[Any]:
            return ray.get([getattr(actor, method).remote() for actor in actors])

        everyone("__ray_ready__")  # all have read the matrix: what both map is no longer private
        for memory in everyone("memory"):
            print(memory, flush=True)
        more = shutil.disk_usage(SHM).used - used
        print(f"matrix, MiB: {size / 2**20:.0f}; more in {SHM}: {more / 2**20:.0f}", flush=True)
        rounds = []
        for _ in range(ROUNDS):
            rounds.append(everyone("round"))
            for actor in rounds[-1]:
                print(
                    {
                        side: tuple(round(value, 2) for value in values)
                        for side, values in actor.items()
                    },
                    flush=True,
                )
        found = {}
        for number, of in itertools.product(range(ACTORS), (0, 1)):
            sides = {
                side: [each[number][side][of] for each in rounds] for side in rounds[0][number]
            }
            middle = {side: statistics.median(values) for side, values in sides.items()}
            faster = min(("product, whole", "product, tiles"), key=lambda side: middle[side])
            ratio = ratios.of(sides["ranks"], sides[faster])
            text = ", ".join(f"{side} {value:.1f} s" for side, value in middle.items())
            name = f"actor {number}, {('clock', 'processor')[of]}"
            print(f"{name}: {text}; ranks / product {ratios.text(ratio)}", flush=True)
            found[name] = ratio
        ratios.write(args.json, found)
        for ranks in everyone("check"):
            print("equal to a count in float64:", *ranks, flush=True)


if __name__ == "__main__":
    main()
