"""The speed of our attack steps: python -m benchmarks.attacks. Ratios of one run, without Ray, on a
CPU or a GPU.

1. PGD against the limit (the network's gradients and nothing else), the loop of published code,
   Foolbox and torchattacks.
2. Our PGD by batch size.
3. Options that we do not use: bfloat16 and, with --compile, torch.compile.
4. With --run DIR, a finished run directory: success of the attacks with 64 steps each (square: 64
   queries), and of `auto`.

The sides of a section take turns, in an order that rotates from round to round, and ratios are
those of medians: what disturbs the machine for a while disturbs every side. All is printed, and
stored in --out.
"""

import argparse
import copy
import importlib.metadata
import importlib.util
import os
import resource
import statistics
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from advrec.attacks import registry
from advrec.catalog.dataset import Catalog
from advrec.evaluation.block import Block
from advrec.evaluation.harness import evaluate_block
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.model.memory import keep_freed
from advrec.recommenders import load
from advrec.recommenders.losses import cosine_distance
from advrec.run import schema
from advrec.run.directory import Run
from advrec.run.files import write_json
from advrec.run.provenance import describe
from advrec.run.tables import read_table
from advrec.spec import study as study_file
from benchmarks.rivals import RIVALS, Case, Side, limit, our_pgd, pgd_sides, prepare

SUCCESS_RANK, WARM_UP = 3, 2  # warm-up: rounds that do not count
say = partial(print, flush=True)
BATCHES = (1, 4, 16, 64, 256)
ATTACKS = (
    "pgd-64",
    "pgd-decay-64",
    "mifgsm-64",
    "apgd-64",
    "apgd-l2-64",
    "cw-64",
    "cw-exact-64",
    "square-64",
    "auto",
)


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    keep_freed()  # for the whole process: every side gains from it
    device = (
        args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    )
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    results: dict[str, Any] = {
        "machine": describe() | {"gpu": gpu},
        "options": {k: str(v) for k, v in vars(args).items()},
    }
    machine = gpu or results["machine"]["processor"]
    say(f"{machine}, torch {torch.__version__}, {args.threads} threads")
    case = make_case(args, device)
    results["pgd"] = against_others(case, args.rounds)
    results["batches"] = by_batch(prepare(case), args.rounds)
    results["options_not_used"] = by_option(prepare(case), args.rounds, args.compile)
    if args.run:
        write_json(args.out, results)  # the rest takes minutes
        results["run"] = on_run(Run(args.run), args.tuples, args.batch, device)
    write_json(args.out, results)
    say(f"\nstored in {args.out}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=64, help="pixels a side (64)")
    parser.add_argument("--width", type=float, default=0.5, help="of mobilenet_v2 (0.5)")
    parser.add_argument("--batch", type=int, default=64, help="images (64)")
    parser.add_argument("--steps", type=int, default=10, help="of PGD (10)")
    parser.add_argument(
        "--rounds", type=int, default=9, help=f"that count, after {WARM_UP} that do not (9)"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (auto)")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="measure torch.compile too; compiling can take a minute",
    )
    parser.add_argument("--run", type=Path, help="a finished run directory")
    parser.add_argument("--tuples", type=int, default=64, help="of the run, the first (64)")
    parser.add_argument("--out", "--json", type=Path, default=Path("results/bench/attacks.json"))
    return parser.parse_args()


def make_case(args: argparse.Namespace, device: str) -> Case:
    """A network of random weights, trainable and in the default memory format, with BatchNorm
    statistics that fit its input.
    """
    torch.manual_seed(0)
    network = FashionNet(
        Architecture(backbone="mobilenet_v2", width=args.width, categories=("a", "b"), textures=())
    )
    # Smooth images: to a random network all images of pixel noise look alike.
    drawn = nn.functional.interpolate(
        torch.rand(2 * args.batch + 64, 3, 8, 8), size=args.size, mode="bilinear"
    )
    images, others, typical = drawn.to(device).split((args.batch, args.batch, 64))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics become those of the last batch
        if getattr(module, "use_res_connect", False):
            # undamped random layers are too rough for PGD to come nearer
            nn.init.constant_(module.conv[-1].weight, 0.2)
    with torch.no_grad():
        network.to(device).train().embed(typical)
        targets = network.eval().embed(others)
    return Case(network, images, targets, args.steps)


def against_others(case: Case, rounds: int) -> dict[str, Any]:
    say(f"\n1. PGD, {case.steps} steps, batch {len(case.images)}, {case.images.shape[-1]} pixels")
    rivals = [name for name in RIVALS if importlib.util.find_spec(name)]
    if len(rivals) < len(RIVALS):
        say(
            f"{' and '.join(RIVALS.keys() - rivals)} not installed: "
            "pip install foolbox / pip install --no-deps torchattacks"
        )
    check_same(case, rivals)
    sides = pgd_sides(case, rivals)
    distances = {name: final_distance(case, side) for name, side in sides.items()}
    say(
        "final distances: "
        + ", ".join(f"{distance:.4f} {name}" for name, distance in distances.items())
    )
    result = measure(
        {"limit": partial(limit, prepare(case)), **sides},
        case.steps,
        rounds,
        base="ours",
        inverse=True,
    )
    return result | {
        "final_distance": distances,
        "versions": {name: importlib.metadata.version(name) for name in rivals},
    }


def check_same(case: Case, rivals: list[str]) -> None:
    """Refuse to compare sides that compute different things, in float64 on few images.

    In float32 rounding (BatchNorm is folded or not) turns some signs: up to 0.01 after ten steps.
    In float64 a step is slow.
    """
    few = Case(
        copy.deepcopy(case.network).double(),
        case.images[:4].double(),
        case.targets[:4].double(),
        case.steps,
    )
    distances = {name: final_distance(few, side) for name, side in pgd_sides(few, rivals).items()}
    assert max(distances.values()) - min(distances.values()) < 1e-5, (
        f"the sides compute different things: {distances}"
    )
    mean = distances["ours"]
    say(f"in float64 all sides bring the first 4 images to a mean distance of {mean:.6f}")


def final_distance(case: Case, side: Side) -> float:
    """Mean cosine distance of a side's images to the targets, by the network as a user has it."""
    images = side()
    with torch.no_grad():
        return cosine_distance(case.network.embed(images), case.targets).mean().item()


def by_batch(case: Case, rounds: int) -> dict[str, Any]:
    batches = [batch for batch in BATCHES if fits(case.images.device, batch / len(case.images))]
    left_out = sorted(set(BATCHES).difference(batches)) or "none"
    say(f"\n2. Our PGD by batch size, {case.steps} steps; left out for memory: {left_out}")
    sides: dict[str, Side] = {}
    for batch in batches:
        rows = torch.arange(batch, device=case.images.device) % len(case.images)
        images = case.images[rows].contiguous(memory_format=torch.channels_last)
        sides[f"batch {batch}"] = partial(
            our_pgd, case._replace(images=images, targets=case.targets[rows]), case.network.embed
        )
    return measure(sides, case.steps, rounds, base="batch 64" if 64 in batches else "batch 1")


def fits(device: torch.device, share: float) -> bool:
    """Tell from the peak so far whether `share` times the batch of section 1 would fit.

    Trying it could end the process.
    """
    if device.type == "cuda":
        room = torch.cuda.get_device_properties(
            device
        ).total_memory / torch.cuda.max_memory_allocated(device)
    else:
        room = (
            os.sysconf("SC_PAGE_SIZE")
            * os.sysconf("SC_PHYS_PAGES")
            / (1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        )
    return share <= max(1.0, room)


def by_option(case: Case, rounds: int, compiled: bool) -> dict[str, Any]:
    # enough for a ratio: on a CPU without its instructions bfloat16 is many times slower
    case = case._replace(steps=min(case.steps, 2))
    say(f"\n3. Options we do not use, {case.steps} steps")
    bfloat16 = torch.autocast(case.images.device.type, dtype=torch.bfloat16)(case.network.embed)
    sides = {
        "float32": partial(our_pgd, case, case.network.embed),
        "bfloat16": partial(our_pgd, case, bfloat16),
    }
    if compiled:
        side = partial(our_pgd, case, torch.compile(case.network.embed))
        try:
            side()
            sides["torch.compile"] = side
        except Exception as error:  # whatever a compiler says on a machine that lacks something
            say(f"torch.compile: not available: {str(error).strip().splitlines()[0]}")
    return measure(sides, case.steps, rounds, base="float32")


def measure(
    sides: Mapping[str, Side], steps: int, rounds: int, *, base: str, inverse: bool = False
) -> dict[str, Any]:
    """Let the sides take turns, and print the speed of each and its ratio to that of `base`.

    Args:
        inverse: print the ratio of `base` to each side.
    """
    finish = torch.cuda.synchronize if torch.cuda.is_initialized() else (lambda: None)
    names = list(sides)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(WARM_UP + rounds):
        names.append(names.pop(0))
        for name in names:
            finish()
            start = time.perf_counter()
            images = sides[name]()
            finish()
            seconds[name].append((time.perf_counter() - start) / (len(images) * steps))
    medians = {name: statistics.median(times[WARM_UP:]) for name, times in seconds.items()}
    ratios = {
        name: median / medians[base] if inverse else medians[base] / median
        for name, median in medians.items()
    }
    label = f"{base} / this" if inverse else f"this / {base}"
    for name, median in medians.items():
        say(f"{name:26} {1.0 / median:8.0f} image-steps/s, {label} {ratios[name]:5.2f}")
    return {
        "seconds_per_image_step": seconds,
        "warm_up": WARM_UP,
        "medians": medians,
        "ratios": ratios,
    }


def on_run(run: Run, count: int, batch: int, device: str) -> list[dict[str, Any]]:
    study, catalog = study_file.read(run.study), Catalog(run)
    epsilons = study.evaluation.epsilons
    tuples = read_table(run.tuples, schema.TUPLES).slice(0, count)
    ids = {
        f"{column}s": tuples[column].to_numpy() for column in ("tuple_id", "target_id", "attack_id")
    }
    # The study's harness, which projects, measures and ranks whatever an attack returns.
    make = partial(
        Block,
        **ids,
        pixels=catalog.pixels(ids["attack_ids"]),
        epsilons=epsilons,
        batch=batch,
        examples=0,
        seed=study.seed,
    )
    say(
        f"\n4. {run.directory}, {len(tuples)} tuples: success at rank <= {SUCCESS_RANK} "
        f"at {epsilons}; passes a tuple at all of them"
    )
    results = []
    for model in study.models:
        recommender = load.from_run(run, model, catalog, device)
        for name in ATTACKS:
            # It stops, and goes from budget to budget, unless a study says otherwise.
            auto = name == "auto"
            block = make(label=name, stop="rank-1" if auto else "never", nested=auto)
            rows = evaluate_block(recommender, registry.build(name, nested=auto), block).rows
            solved = (rows["adversarial_rank"].to_numpy() <= SUCCESS_RANK).reshape(
                len(tuples), len(epsilons)
            )
            success, passes = (
                solved.mean(axis=0).tolist(),
                int(rows["forward_passes"].to_numpy().sum()) / len(tuples),
            )
            say(
                f"{model:11} {name:12}"
                + "".join(f"{share:8.0%}" for share in success)
                + f"{passes:9.0f}"
            )
            results.append(
                {
                    "model": model,
                    "attack": name,
                    "epsilons": epsilons,
                    "success": success,
                    "passes": passes,
                }
            )
    return results


if __name__ == "__main__":
    main()
