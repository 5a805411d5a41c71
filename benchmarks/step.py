"""The gradient step of this build against another: python -m benchmarks.step --against DIR.

DIR is a worktree of the other build (`git worktree add DIR 562eea7`); both run in this environment,
with the same weights, on one thread each. Sections:

- 64, 224: gradient steps with respect to images, of mobilenet_v2 at that many pixels (width 0.5
  and 1.0), each side at its own best batch.
- train: a training step of adversarial training with PGD-8 at 64 pixels.

The sides take turns. A ratio is speed here over speed there: above 1 is faster. Speed is of seconds
on the processor, so that other work on the machine disturbs less. Prints the median and the spread
over the rounds; --json FILE gets {"64": {"ratio", "low", "high"}, "224": ..., "train": ...}.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HERE = Path(__file__).resolve().parent.parent
sys.path.append(str(HERE))  # a worker finds its build's advrec before, and this room here

from benchmarks import ratios  # noqa: E402

WIDTHS = {64: 0.5, 224: 1.0}
BATCHES = {64: (32, 64, 96, 128), 224: (4, 8, 16, 32)}
STEPS, TRAIN_BATCH = 8, 32
SECONDS = 1.5
"""Least seconds of a measurement."""
TRAINED = {
    "name": "bench",
    "catalog": {"source": "synthetic", "image_size": 64},
    "models": {"at": {"defense": "at", "steps": STEPS, "batch": TRAIN_BATCH, "epochs": 2}},
    "evaluation": {"attacks": ["fgsm"]},
}


def main() -> None:
    args = arguments()
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        for size in WIDTHS:
            torch.save(network(size).state_dict(), Path(directory, f"{size}.pt"))
        with worker(HERE, directory) as here, worker(args.against, directory) as there:
            for section in args.sections:
                found[section] = measure(section, here, there, args.rounds)
                print(line(section, found[section]), flush=True)
    ratios.write(args.json, found)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, required=True, help="a worktree of another build")
    parser.add_argument("--json", type=Path, help="a file for the ratios")
    parser.add_argument("--rounds", type=int, default=7, help="that count, after a warm-up (7)")
    parser.add_argument("--sections", nargs="+", default=["64", "224", "train"])
    return parser.parse_args()


Rate = Callable[[str, int], float]
"""Images a second of a section at a batch."""


def measure(section: str, here: Rate, there: Rate, rounds: int) -> dict[str, Any]:
    """The ratio of the two in a section, each at its best batch."""
    batches = BATCHES.get(int(section), ()) if section.isdigit() else (TRAIN_BATCH,)
    best = [
        max(batches, key=lambda batch: max(rate(section, batch) for _ in range(2)))
        for rate in (here, there)
    ]
    rates = [(here(section, best[0]), there(section, best[1])) for _ in range(rounds)]
    ours, theirs = zip(*rates, strict=True)
    speeds = [statistics.median(ours), statistics.median(theirs)]
    return ratios.of(ours, theirs) | {"batches": best, "images_per_second": speeds}


def line(section: str, found: dict[str, Any]) -> str:
    """The result of a section for a reader."""
    ours, theirs = found["images_per_second"]
    first, second = found["batches"]
    return (
        f"{section:>5}: {ratios.text(found)}: {ours:,.1f} images/s in batches of {first}, "
        f"there {theirs:,.1f} in {second}"
    )


@contextlib.contextmanager
def worker(build: Path, directory: str) -> Iterator[Rate]:
    """A process of a build, which measures when it is asked."""
    environment = {**os.environ, "PYTHONPATH": str(build.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", str(Path(__file__).resolve()), "worker", directory]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        where = Path(process.stdout.readline().strip())
        if build.resolve() not in where.parents:
            sys.exit(f"{build} holds no advrec; found {where}")

        def rate(section: str, batch: int) -> float:
            print(section, batch, file=process.stdin, flush=True)
            return float(process.stdout.readline())

        yield rate
        process.stdin.close()


# In the worker, of either build.


def work(directory: Path) -> None:
    """Answer lines `section batch` with images a second."""
    import advrec
    from advrec.model.memory import keep_freed

    torch.set_num_threads(1)
    keep_freed()
    print(advrec.__file__, flush=True)
    steps: dict[tuple[str, int], Callable[[], object]] = {}
    for asked in sys.stdin:
        section, batch = asked.split()[0], int(asked.split()[1])
        if (section, batch) not in steps:
            make = trainer if section == "train" else stepper
            steps[section, batch] = make(
                directory, 64 if section == "train" else int(section), batch
            )
            for _ in range(2):
                steps[section, batch]()  # kernels are chosen
        print(batch * rate_of(steps[section, batch]), flush=True)


def rate_of(step: Callable[[], object]) -> float:
    """Steps a second on the processor."""
    count, start = 0, time.process_time()
    while count < 2 or time.process_time() - start < SECONDS:
        step()
        count += 1
    return count / (time.process_time() - start)


def network(size: int) -> Any:
    """A network with statistics of real activations; the same in every process."""
    from advrec.model.fashionnet import Architecture, FashionNet

    torch.manual_seed(0)
    made = FashionNet(
        Architecture(
            backbone="mobilenet_v2",
            width=WIDTHS[size],
            categories=("a", "b", "c"),
            textures=("d", "e"),
        )
    ).train()
    with torch.no_grad():
        for _ in range(3):
            made(torch.rand(8, 3, size, size))
    return made.eval()


def loaded(directory: Path, size: int) -> Any:
    made = network(size)
    made.load_state_dict(torch.load(directory / f"{size}.pt", weights_only=True))
    return made


def images_of(size: int, batch: int) -> Tensor:
    """Images (N, 3, H, W), channels last in memory."""
    random = torch.Generator().manual_seed(1)
    drawn = torch.rand(batch, 3, size, size, generator=random)
    return drawn.contiguous(memory_format=torch.channels_last)


def stepper(directory: Path, size: int, batch: int) -> Callable[[], Tensor]:
    """A gradient step of cosine distances."""
    from advrec.model.encoder import frozen

    embed, images = frozen(loaded(directory, size)).embed, images_of(size, batch)
    with torch.no_grad():
        targets = embed(images).roll(1, 0)

    def step() -> Tensor:
        start = images.detach().requires_grad_()
        distance = 1.0 - torch.nn.functional.cosine_similarity(embed(start), targets)
        return torch.autograd.grad(distance.sum(), start)[0]

    return step


class _Articles:
    """What a training asks of a catalog before its first epoch."""

    def ids_of(self, split: str) -> range:
        return range(20 * TRAIN_BATCH)


def trainer(directory: Path, size: int, batch: int) -> Callable[[], object]:
    """A step of adversarial training."""
    from advrec.training import data
    from advrec.training.loop import Training

    try:
        from advrec.spec import study
    except ImportError:  # version 0.1.0
        from advrec import config as study  # type: ignore[attr-defined, no-redef]

    spec = study.resolve(TRAINED, "bench", directory).models["at"]
    training = Training(loaded(directory, size), spec, _Articles(), seed=0)  # type: ignore[arg-type]
    training.network.train()
    labels = torch.Generator().manual_seed(2)
    made = data.Batch(
        images_of(size, batch),
        torch.randint(3, (batch,), generator=labels),
        torch.randint(2, (batch, 2), generator=labels).float(),
    )
    random = torch.Generator().manual_seed(3)
    return lambda: training.train_on(made, random, 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        work(Path(sys.argv[2]))
    else:
        main()
