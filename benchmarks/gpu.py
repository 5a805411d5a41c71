"""The gradient step on a GPU, without Ray: python -m benchmarks.gpu [--json FILE].

Sides: eager (as an attacker takes it), torch.compile, CUDA graphs; each in float32 and in bfloat16,
whose images a search may take while float32 passes the verdict: the share of gradient signs that
agree is printed. Beside the rate stands the share of the limit of memory: bytes that activations
and weights must move at least, over the bandwidth that a copy reaches here.

Without a GPU it says so and runs eager steps on the processor: a smoke test, no measurement.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advrec.distributed import memory
from advrec.model.encoder import frozen
from advrec.model.fashionnet import FashionNet
from benchmarks import ratios
from benchmarks.step import WIDTHS, images_of, network

STREAMS = 4
"""Times that a kept value crosses memory: written and read forward, read backward, its gradient."""
Step = Callable[[], Tensor]


def main() -> None:
    args = arguments()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
        print("no GPU: eager steps on the processor, as a smoke test", flush=True)
    ready = frozen(network(args.size))
    moved = args.batch * memory.activations(ready, args.size) * STREAMS + memory.weights(ready)
    ready = ready.to(device)
    images = images_of(args.size, args.batch).to(device)
    sides = made(ready, images, device)
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, step in sides.items():
            rates[name].append(args.batch * rate(step, args.steps, device))
    limit = args.batch * bandwidth(device) / moved
    found: dict[str, Any] = {}
    for name, values in rates.items():
        found[name] = ratios.of(values, rates["eager float32"])
        share = sorted(values)[len(values) // 2] / limit
        found[name] |= {"images_per_second": max(values), "share_of_memory_limit": share}
        print(f"{name}: {ratios.text(found[name])} of eager float32, {share:.0%} of the limit")
    exact = sides["eager float32"]().sign()
    for name, step in sides.items():
        agree = float((step().sign() == exact).float().mean())
        found[name]["signs_agree"] = agree
        print(f"{name}: {agree:.2%} of the gradient's signs are those of eager float32")
    ratios.write(args.json, {"device": device, **found})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, choices=sorted(WIDTHS), default=64)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10, help="of a round (10)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="a file for the ratios")
    return parser.parse_args()


def made(ready: FashionNet, images: Tensor, device: str) -> dict[str, Step]:
    """The sides by their names, warmed up."""
    sides = {"eager float32": eager(ready.embed, images)}
    if device == "cuda":
        compiled = torch.compile(ready.plain)
        for kind in (torch.float32, torch.bfloat16):
            name = str(kind).removeprefix("torch.")
            if kind is torch.bfloat16:
                sides[f"eager {name}"] = eager(ready.embed, images, kind)
            sides[f"compiled {name}"] = eager(compiled, images, kind)
            sides[f"graph {name}"] = graph(eager(ready.embed, images, kind))
    for step in sides.values():
        for _ in range(2):
            step()
    return sides


def eager(
    embed: Callable[[Tensor], Tensor], images: Tensor, kind: torch.dtype = torch.float32
) -> Step:
    """A gradient step, under autocast for another kind than float32."""

    def step() -> Tensor:
        start = images.detach().requires_grad_()
        lower = kind is not torch.float32
        with torch.autocast(images.device.type, torch.bfloat16, enabled=lower):
            values = embed(start).float().square().sum()
        return torch.autograd.grad(values, start)[0]

    return step


def graph(step: Step) -> Step:
    """The step, captured once and replayed."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        gradient = step()

    def replay() -> Tensor:
        captured.replay()
        return gradient

    return replay


def rate(work: Callable[[], object], times: int, device: str) -> float:
    """How often a second it is done."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    for _ in range(times):
        work()
    wait()
    return times / (time.perf_counter() - start)


def bandwidth(device: str) -> float:
    """Bytes a second that a copy reads and writes."""
    values = torch.empty(2**26 if device == "cuda" else 2**24, device=device)
    into = torch.empty_like(values)
    into.copy_(values)
    return 2 * values.nbytes * rate(lambda: into.copy_(values), 10, device)


if __name__ == "__main__":
    main()
