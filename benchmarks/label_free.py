"""A step of fare against the bare loop, on one thread: python -m benchmarks.label_free [ROUNDS].

The bare loop has k forward and backward passes of a frozen copy with respect to the images, and one
of the trained network with respect to its weights: no original, no projection, no optimizer. The
sides take turns; a ratio is seconds of the step over seconds of the loop, on the processor. The
encoder is mobilenet_v2 with random weights, at 128 pixels. --json FILE gets the ratio.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from advrec.model import own
from advrec.model.memory import keep_freed
from advrec.model.own import OwnArchitecture, OwnNetwork
from advrec.spec import study
from advrec.training import data
from advrec.training.copies import Copy
from advrec.training.loop import Training
from benchmarks import ratios

PIXELS, BATCH, STEPS = 128, 16, 3
STUDY = {
    "name": "bench",
    "catalog": {"source": "folder", "root": "photos", "image_size": PIXELS},
    "models": {
        "shop": {"model": "mobilenet_v2", "checkpoint": "weights.pt"},
        "fare": {"defense": "fare", "init": "shop", "steps": STEPS, "batch": BATCH},
    },
    "evaluation": {"attacks": ["auto"]},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", type=int, nargs="?", default=7)
    parser.add_argument("--json", type=Path, help="a file for the ratio")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed()
    sides = step(), bare()
    for side in sides:
        for _ in range(2):
            side()  # kernels are chosen
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(args.rounds):
        for side, measured in zip(sides, seconds, strict=True):
            start = time.process_time()
            side()
            measured.append(time.process_time() - start)
    found = ratios.of(*seconds)
    print(f"fare with {STEPS} steps / bare loop: {ratios.text(found)}")
    ratios.write(args.json, found)


def encoder() -> OwnNetwork:
    """An encoder with random weights; the same each time."""
    torch.manual_seed(0)
    architecture = OwnArchitecture(
        model="mobilenet_v2",
        image_size=PIXELS,
        dimension=1280,
        with_weights=True,
        form="fused",
    )
    return own.build(architecture).eval()


def images() -> Tensor:
    """Images (N, 3, H, W), channels last in memory."""
    drawn = torch.rand(BATCH, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(1))
    return drawn.contiguous(memory_format=torch.channels_last)


class _Articles:
    """The parts of a catalog that a training asks for before its first epoch."""

    def ids_of(self, split: str) -> range:
        return range(20 * BATCH)


def step() -> Callable[[], object]:
    """A step of fare as a training takes it."""
    spec = study.resolve(STUDY, "bench", Path.cwd()).models["fare"]
    training = Training(encoder(), spec, _Articles(), seed=0)  # type: ignore[arg-type]
    batch = data.Batch(images(), torch.zeros(BATCH, dtype=torch.int64), None)
    random = torch.Generator().manual_seed(3)
    return lambda: training.train_on(batch, random, 1)


def bare() -> Callable[[], object]:
    """The passes of such a step alone."""
    network, given = encoder(), images()
    network.requires_grad_(True)
    copied = Copy(network).network

    def loop() -> None:
        for _ in range(STEPS):
            start = given.detach().requires_grad_()
            torch.autograd.grad(copied.embed(start).square().sum(), start)
        network.plain(given).square().sum().backward()
        network.zero_grad(set_to_none=True)

    return loop


if __name__ == "__main__":
    main()
