"""A whole audience against one target: the price of an attack step, and of the ranks of all users.

    python -m benchmarks.audience [--users U] [--articles N] [--rounds R] [--json FILE]

MobileNetV2 of width 1.0 at 64 pixels with random weights, a hybrid of 64 factors and as many visual
ones, drawn at random. A step is a forward and a backward pass of a batch; the sides take turns.
Ranks are those of 32 articles at three budgets, unchanged and attacked, before all users.
"""

import argparse
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from advrec.attacks.objective import Objective, evaluate
from advrec.evaluation.block import PromotionBlock
from advrec.evaluation.promotions import Wishes
from advrec.model.arithmetic import exact_arithmetic
from advrec.model.encoder import frozen, to_images
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.recommenders import audience
from advrec.recommenders.audience import Audience
from advrec.recommenders.bank import Seen
from advrec.recommenders.hybrid import Factors
from advrec.recommenders.recommender import Recommender
from benchmarks import ratios

FACTORS, BOUGHT, BATCH, PROMOTED, BUDGETS, STEPS = 64, 10, 64, 32, 3, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--articles", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parsed = parser.parse_args()
    with exact_arithmetic(1):
        found = measure(parsed.users, parsed.articles, parsed.rounds)
    print(f"step, whole audience / one target: {ratios.text(found['step'])}")
    print(
        f"{found['seconds_an_article']:.2f} s an article for the ranks of {parsed.users:,} users "
        f"among {parsed.articles:,} articles; thresholds {found['thresholds_s']:.1f} s, once; "
        f"{found['peak_mib']:,.0f} MiB at most"
    )
    ratios.write(parsed.json, found)


def measure(users: int, articles: int, rounds: int) -> dict[str, Any]:
    """The ratio of the steps, seconds of ranks and thresholds, and the memory of this process."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    network = FashionNet(
        Architecture(backbone="mobilenet_v2", width=1.0, categories=("a", "b"), textures=())
    )
    embed = frozen(network).embed
    embeddings = rng.random((articles, 1280), dtype=np.float32)
    factors, seen = _factors(rng, users, articles), _seen(rng, users, articles)
    hybrid = Recommender.hybrid(embed, embeddings, factors, seen)
    single = Recommender.similar_articles(embed, embeddings)
    ids = rng.permutation(articles)[: BATCH * 2].astype(np.int32)
    pixels = rng.integers(0, 256, (BATCH, 64, 64, 3), dtype=np.uint8)
    everyone = Audience("users", np.arange(users, dtype=np.int32), np.ones(users))
    block = PromotionBlock(
        attack_ids=ids[:BATCH],
        pixels=pixels,
        epsilons=(0.01,),
        batch=BATCH,
        examples=0,
        label="hit",
        seed=0,
        audience=everyone,
        ranks=(10,),
        aim=10,
        loss="hit",
        keeps_ranks=np.zeros(BATCH, dtype=bool),
    )
    start = time.monotonic()
    wishes = Wishes(hybrid, block)
    thresholds = time.monotonic() - start
    sides = {
        "one": single.objective(ids[BATCH:]),
        "all": wishes.objective(np.arange(BATCH, dtype=np.int64)),
    }
    images = to_images(pixels)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, objective in sides.items():
            spent = _seconds(objective, images)
            if number:  # the first warms up
                times[name].append(spent)
    candidates = hybrid.bank.items[ids[:PROMOTED], None].repeat(1 + BUDGETS, axis=1)
    candidates += 0.1 * rng.standard_normal(candidates.shape, dtype=np.float32)
    clock, start = time.monotonic(), time.process_time()
    audience.ranks_for_all(hybrid.index, everyone.query_ids, ids[:PROMOTED], candidates)
    return {
        "step": ratios.of(times["all"], times["one"]),
        "seconds_an_article": (time.monotonic() - clock) / PROMOTED,
        "cpu_seconds_an_article": (time.process_time() - start) / PROMOTED,
        "thresholds_s": thresholds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _seconds(objective: Objective, images: torch.Tensor) -> float:
    start = time.process_time()
    for _ in range(STEPS):
        evaluate(objective, images)
    return time.process_time() - start


def _factors(rng: np.random.Generator, users: int, articles: int) -> Factors:
    def drawn(*shape: int) -> np.ndarray:
        return 0.1 * rng.standard_normal(shape, dtype=np.float32)

    return Factors(
        item_bias=drawn(articles),
        user_factors=drawn(users, FACTORS),
        item_factors=drawn(articles, FACTORS),
        user_visual=drawn(users, FACTORS),
        projection=0.1 * drawn(FACTORS, 1280),
        visual_bias=0.1 * drawn(1280),
    )


def _seen(rng: np.random.Generator, users: int, articles: int) -> Seen:
    bought = rng.integers(0, articles - BOUGHT, (users, 1)) + np.arange(BOUGHT)
    starts = np.arange(users + 1, dtype=np.int64) * BOUGHT
    return Seen(starts, bought.ravel().astype(np.int32))


if __name__ == "__main__":
    main()
