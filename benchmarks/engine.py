"""The engine against plain loops: python -m benchmarks.engine [64|224] [ROUNDS] [--json FILE].

Prints ratios of throughput, alternating, medians and spread of 5 rounds:

- one actor / a plain loop: the same blocks, by the same code, in one process of one thread.
- two actors / one actor: one thread each.
- two actors / a loop of 2 threads: the other way to use two cores; also without model/memory.py, as
  a user's own loop would be.
- private memory of an actor: its peak at work, besides the embeddings (shared), the model and the
  activations of one batch.

A plain loop runs in a process of its own without Ray. The start of a loop, as that of the actors,
is not timed.
"""

# Ray's environment comes before anything that imports ray.
from advrec.distributed import session  # noqa: I001

import contextlib
import dataclasses
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch

from advrec.attacks import registry
from advrec.distributed import attacker
from advrec.distributed.attacker import Attacker
from advrec.distributed.placement import Placement
from advrec.distributed.pool import Pool, Unit, open_pool
from advrec.spec.attacks import AttackSpec
from advrec.evaluation.block import Block
from advrec.evaluation.harness import evaluate_block
from advrec.recommenders.recommender import Recommender
from advrec.model.encoder import embed_all, frozen
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.model.memory import give_back, keep_freed
from benchmarks import ratios

BLOCKS, ARTICLES = 2, 256
# Pixels -> tuples, steps and width: blocks of ten seconds and more.
WORK = {64: (32, 128, 0.5), 224: (8, 24, 1.0)}
EPSILONS = (0.01, 0.03, 0.05)
SIDES = ("plain", "plain, 2 threads", "untuned, 2 threads", "1 actor", "2 actors")
PAIRS = (
    ("1 actor", "plain"),
    ("2 actors", "1 actor"),
    ("2 actors", "plain, 2 threads"),
    ("2 actors", "untuned, 2 threads"),
)


class Rates(NamedTuple):
    """Blocks per second of each side, and megabytes of private memory, by round."""

    blocks: dict[str, list[float]]
    private: list[float]


def main() -> None:
    args = ratios.arguments(WORK)
    size, rounds = args.size, args.rounds
    network, embeddings, pixels = model(size)
    with session.session():
        rates = measure(size, rounds, network, embeddings, pixels)
    tuples, steps, _ = WORK[size]
    images = tuples * len(EPSILONS)
    for name, blocks in rates.blocks.items():
        rate = median(blocks)
        print(f"{name:18} {images * steps * rate:8,.0f} image-steps/s, a block in {1 / rate:.1f} s")
    ratios.write(args.json, ratios.pairs(rates.blocks, *PAIRS))
    step_activations = activations(size)
    weights = sum(value.nbytes for value in network.state_dict().values()) / 1e6
    rest = max(rates.private) - weights - step_activations
    print(
        f"private memory of an actor at work: {max(rates.private):.0f} MB, of which model "
        f"{weights:.0f}, activations of {images} images {step_activations:.0f}, the rest "
        f"{rest:.0f}; embeddings, shared: {embeddings.nbytes / 1e6:.0f}"
    )


def measure(
    size: int, rounds: int, network: FashionNet, embeddings: np.ndarray, pixels: np.ndarray
) -> Rates:
    """Let plain loops and pools of actors take turns.

    Args:
        embeddings: (N, D) float32.
        pixels: (N, H, W, 3) uint8.
    """
    entry = AttackSpec.named(f"pgd-{WORK[size][1]}")

    def rate(pool: Pool, blocks: int) -> float:
        reference = dataclasses.replace(
            attacker.put(pool, "x", network), embeddings=pool.put(embeddings)
        )
        units = [
            Unit(
                key=str(n),
                method="attack",
                arguments=lambda n=n: (reference, None, entry, block(size, pixels, n)),
            )
            for n in range(blocks)
        ]
        start = time.monotonic()
        assert not pool.run(units, lambda unit, outcomes: None)
        return blocks / (time.monotonic() - start)

    def actors(count: int) -> Pool:
        pool = open_pool(Attacker, "cpu", 1, placement=Placement(count, 0.0, 1))
        rate(pool, count)  # they start, and load the model
        return pool

    rates = Rates({name: [] for name in SIDES}, [])
    for _ in range(rounds):
        rates.blocks["plain"].append(plain_rate(size, 1))
        with actors(1) as pool:
            rates.blocks["1 actor"].append(rate(pool, BLOCKS))
        with actors(2) as pool, sampled(attackers_private, rates.private):
            rates.blocks["2 actors"].append(rate(pool, 2 * BLOCKS))
        rates.blocks["plain, 2 threads"].append(plain_rate(size, 2))
        rates.blocks["untuned, 2 threads"].append(plain_rate(size, 2, tuned=False))
    return rates


def model(size: int) -> tuple[FashionNet, np.ndarray, np.ndarray]:
    """A network, and embeddings (N, D) and pixels (N, H, W, 3) of a random catalog."""
    torch.manual_seed(0)
    network = FashionNet(
        Architecture(
            backbone="mobilenet_v2", width=WORK[size][2], categories=("a", "b"), textures=()
        )
    )
    pixels = np.random.default_rng(0).integers(0, 256, (ARTICLES, size, size, 3), dtype=np.uint8)
    return network, embed_all(frozen(network).embed, pixels), pixels


def block(size: int, pixels: np.ndarray, number: int) -> Block:
    """The block of that number, of pixels (N, H, W, 3)."""
    tuples = WORK[size][0]
    ids = np.arange(number * tuples, (number + 1) * tuples, dtype=np.int32)
    return Block(
        tuple_ids=ids,
        target_ids=ids % ARTICLES,
        attack_ids=(ids + 1) % ARTICLES,
        pixels=pixels[(ids + 1) % ARTICLES],
        epsilons=EPSILONS,
        batch=tuples * len(EPSILONS),
        examples=0,
        label="pgd",
        seed=0,
    )


def plain_rate(size: int, threads: int, *, tuned: bool = True) -> float:
    command = [
        sys.executable,
        "-m",
        "benchmarks.engine",
        "plain",
        str(size),
        str(threads),
        str(int(tuned)),
    ]
    return float(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    )


def plain(size: int, threads: int, tuned: int) -> None:
    """Print the blocks a second of a loop in this process."""
    torch.set_num_threads(threads)
    if tuned:
        keep_freed()
    network, embeddings, pixels = model(size)
    recommender = Recommender.similar_articles(frozen(network).embed, embeddings)
    attack = registry.by_name(f"pgd-{WORK[size][1]}")
    evaluate_block(recommender, registry.by_name("fgsm"), block(size, pixels, 0))
    start = time.monotonic()
    for number in range(BLOCKS):
        evaluate_block(recommender, attack, block(size, pixels, number))
    print(BLOCKS / (time.monotonic() - start))


def activations(size: int) -> float:
    """Megabytes that the gradient steps of one batch take.

    They raise the memory of a process that has freed all else by so much.
    """
    command = [sys.executable, "-m", "benchmarks.engine", "activations", str(size)]
    return float(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    )


def print_activations(size: int) -> None:
    torch.set_num_threads(1)
    network, embeddings, pixels = model(size)
    recommender = Recommender.similar_articles(frozen(network).embed, embeddings)
    keep_freed()
    give_back()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak()
    evaluate_block(recommender, registry.by_name("pgd-4"), block(size, pixels, 0))
    print(peak() - before)


def peak() -> float:
    """Megabytes that the process has had in memory at most."""
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024 / 1e6


def attackers_private() -> list[float]:
    """Megabytes of each attacker that no other process shares."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if path.read_text().startswith("ray::Attacker"):
            rollup = path.with_name("smaps_rollup").read_text()
            found.append(
                sum(map(int, re.findall(r"Private_(?:Clean|Dirty):\s+(\d+)", rollup))) * 1024 / 1e6
            )
    return found


@contextlib.contextmanager
def sampled(measure: Callable[[], list[float]], found: list[float]) -> Iterator[None]:
    """Measure twice a second, and add the values to `found`."""
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.5):
            found.extend(measure())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    if sys.argv[1:2] == ["plain"]:
        plain(*map(int, sys.argv[2:]))
    elif sys.argv[1:2] == ["activations"]:
        print_activations(int(sys.argv[2]))
    else:
        main()
