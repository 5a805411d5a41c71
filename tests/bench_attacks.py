"""Benchmark (`make bench`), not a test: our PGD step against the limit of this machine, forward + input gradient and nothing else.

The two sides alternate in one run; what counts is the ratio of their medians.
"""

import statistics
import time
from collections.abc import Callable

import torch

from advrec.attacks.budget import ball
from advrec.attacks.gradient import signed_step
from advrec.attacks.objective import CosineDistance
from advrec.model.encoder import frozen
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.model.memory import keep_freed

BATCH, SIZE, ROUNDS = 64, 64, 15


def main() -> None:
    torch.set_num_threads(1)
    keep_freed()
    torch.manual_seed(0)
    architecture = Architecture(backbone="mobilenet_v2", width=0.5, categories=("a", "b"), textures=())
    network = frozen(FashionNet(architecture))
    images = torch.rand(BATCH, 3, SIZE, SIZE).to(memory_format=torch.channels_last)
    objective = CosineDistance(network.embed, network.embed(torch.rand_like(images)))
    allowed = ball(images, torch.full((BATCH,), 0.03, dtype=torch.float64))
    step = torch.full((BATCH, 1, 1, 1), 0.001)

    def limit() -> None:
        leaf = images.detach().requires_grad_(True)
        torch.autograd.grad(network.embed(leaf).sum(), leaf)

    def ours() -> None:
        signed_step(objective, allowed, images, step)

    seconds: dict[Callable[[], None], list[float]] = {limit: [], ours: []}
    for round_number in range(ROUNDS + 3):
        for side in (limit, ours):
            start = time.perf_counter()
            side()
            if round_number >= 3:  # the first rounds warm up
                seconds[side].append(time.perf_counter() - start)
    medians = {side.__name__: statistics.median(times) for side, times in seconds.items()}
    for name, median in medians.items():
        print(f"{name:6} {BATCH / median:7.0f} image-steps/s (mobilenet_v2 x 0.5, {SIZE} pixels, batch {BATCH}, one thread)")
    print(f"our PGD step runs at {medians['limit'] / medians['ours']:.2f} of the limit")


if __name__ == "__main__":
    main()
