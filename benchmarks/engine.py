"""The engine against plain loops: python benchmarks/engine.py [64|224] [ROUNDS]. Ratios of
throughput, alternating, medians of 3 rounds.

    one actor / a plain loop          the same blocks, by the same code, in one process of one
    thread two actors / one actor            one thread each two actors / a loop of 2 threads  what
    one process makes of two cores; also without model/memory.py, as a loop of one's own would be
    private memory of an actor        its peak at work, beside the embeddings (shared), the model
    and the activations of one batch

A plain loop runs in a process of its own without Ray; its start, as that of the actors, is not
timed.
"""

from advrec.distributed import session  # noqa: I001  (sets Ray's environment before anything imports ray)

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

import numpy as np
import torch

from advrec.attacks import registry
from advrec.spec.study import AttackSpec
from advrec.evaluation.block import Block
from advrec.evaluation.harness import evaluate_block
from advrec.recommenders import load
from advrec.model.encoder import embed_all, frozen
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.model.memory import give_back, keep_freed

BLOCKS, ARTICLES = 2, 256
# Pixels -> tuples, steps and width: blocks of ten seconds and more.
WORK = {64: (32, 128, 0.5), 224: (8, 24, 1.0)}
EPSILONS = (0.01, 0.03, 0.05)


def main(size: int = 64, rounds: int = 3) -> None:
    from advrec.distributed import attacker
    from advrec.distributed.attacker import Attacker
    from advrec.distributed.placement import Placement
    from advrec.distributed.pool import Pool, Unit, open_pool

    network, embeddings, pixels = model(size)
    tuples, steps, _ = WORK[size]
    spec = AttackSpec.model_validate(
        {
            "name": "x",
            "attack": f"pgd-{steps}",
            "stop": "never",
            "nested": False,
            "restarts": 0,
            "from": None,
        }
    )
    with session.session():

        def rate(pool: Pool, blocks: int) -> float:
            reference = dataclasses.replace(
                attacker.put(pool, "x", network), embeddings=pool.put(embeddings)
            )
            units = [
                Unit(
                    key=str(n),
                    method="attack",
                    arguments=lambda n=n: (reference, None, spec, block(size, pixels, n)),
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

        rates: dict[str, list[float]] = {
            "plain": [],
            "plain, 2 threads": [],
            "untuned, 2 threads": [],
            "1 actor": [],
            "2 actors": [],
        }
        private: list[float] = []
        for _ in range(rounds):
            rates["plain"].append(plain_rate(size, 1))
            with actors(1) as pool:
                rates["1 actor"].append(rate(pool, BLOCKS))
            with actors(2) as pool, sampled(attackers_private, private):
                rates["2 actors"].append(rate(pool, 2 * BLOCKS))
            rates["plain, 2 threads"].append(plain_rate(size, 2))
            rates["untuned, 2 threads"].append(plain_rate(size, 2, tuned=False))
    step_activations = activations(size)
    weights = sum(value.nbytes for value in network.state_dict().values()) / 1e6
    images = tuples * len(EPSILONS)
    for name, found in rates.items():
        print(
            f"{name:18} {images * steps * median(found):8,.0f} image-steps/s, a block in {1 / median(found):.1f} s"
        )
    pairs = (
        ("1 actor", "plain"),
        ("2 actors", "1 actor"),
        ("2 actors", "plain, 2 threads"),
        ("2 actors", "untuned, 2 threads"),
    )
    for first, second in pairs:
        ratios = [a / b for a, b in zip(rates[first], rates[second], strict=True)]
        print(
            f"{first} / {second}: {median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"
        )
    rest = max(private) - weights - step_activations
    print(
        f"private memory of an actor at work: {max(private):.0f} MB, of which model {weights:.0f}, activations of {images} images "
        f"{step_activations:.0f}, the rest {rest:.0f}; embeddings, shared: {embeddings.nbytes / 1e6:.0f}"
    )


def model(size: int) -> tuple[FashionNet, np.ndarray, np.ndarray]:
    """A network, embeddings of a random catalog, and its pixels."""
    torch.manual_seed(0)
    network = FashionNet(
        Architecture(
            backbone="mobilenet_v2", width=WORK[size][2], categories=("a", "b"), textures=()
        )
    )
    pixels = np.random.default_rng(0).integers(0, 256, (ARTICLES, size, size, 3), dtype=np.uint8)
    return network, embed_all(frozen(network).embed, pixels), pixels


def block(size: int, pixels: np.ndarray, number: int) -> Block:
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
    command = [sys.executable, __file__, "plain", str(size), str(threads), str(int(tuned))]
    return float(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    )


def plain(size: int, threads: int, tuned: int) -> None:
    """Print the blocks a second of a loop in this process."""
    torch.set_num_threads(threads)
    if tuned:
        keep_freed()
    network, embeddings, pixels = model(size)
    recommender = load.from_embeddings(frozen(network), embeddings)
    attack = registry.by_name(f"pgd-{WORK[size][1]}")
    evaluate_block(recommender, registry.by_name("fgsm"), block(size, pixels, 0))
    start = time.monotonic()
    for number in range(BLOCKS):
        evaluate_block(recommender, attack, block(size, pixels, number))
    print(BLOCKS / (time.monotonic() - start))


def activations(size: int) -> float:
    """What the gradient steps of one batch take, in MB: by how much they raise the memory of a
    process that has freed all else.
    """
    command = [sys.executable, __file__, "activations", str(size)]
    return float(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    )


def print_activations(size: int) -> None:
    torch.set_num_threads(1)
    network, embeddings, pixels = model(size)
    recommender = load.from_embeddings(frozen(network), embeddings)
    keep_freed()
    give_back()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak()
    evaluate_block(recommender, registry.by_name("pgd-4"), block(size, pixels, 0))
    print(peak() - before)


def peak() -> float:
    """MB that the process has had in memory at most."""
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024 / 1e6


def attackers_private() -> list[float]:
    """MB of each attacker that no other process shares."""
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
    """Twice a second, to `found`."""
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
        main(*map(int, sys.argv[1:]))
