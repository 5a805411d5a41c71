"""Prints by how many MiB an evaluation raises the peak: python -m tests.evaluation.peak_memory
TUPLES EPSILONS BATCH. Blocks of 128.

The catalog is random and the same for all numbers, so that only the work differs.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from advrec.attacks import registry
from advrec.evaluation.block import Block
from advrec.evaluation.harness import evaluate_block
from advrec.model.encoder import frozen
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.model.memory import keep_freed
from advrec.recommenders.ranks import similar_articles
from advrec.recommenders.recommender import Recommender

ARTICLES, SIZE, BLOCK = 128, 64, 128


def main(tuples: int, epsilons: int, batch: int) -> None:
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (ARTICLES, SIZE, SIZE, 3), dtype=np.uint8)
    keep_freed()  # as the attackers do
    network = frozen(
        FashionNet(
            Architecture(backbone="mobilenet_v2", width=0.5, categories=("a", "b"), textures=())
        )
    )
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255.0
    with torch.inference_mode():
        embeddings = torch.cat([network.embed(image[None]) for image in images]).numpy()
    recommender = Recommender(embed=network.embed, index=similar_articles(embeddings))
    before = peak()
    for start in range(0, tuples, BLOCK):
        ids = np.arange(start, start + BLOCK, dtype=np.int32)
        block = Block(
            tuple_ids=ids,
            target_ids=ids % ARTICLES,
            attack_ids=(ids + 1) % ARTICLES,
            pixels=pixels[(ids + 1) % ARTICLES],
            epsilons=tuple(0.01 * (n + 1) for n in range(epsilons)),
            batch=batch,
            examples=2,
            label="pgd-1",
            seed=0,
        )
        evaluate_block(recommender, registry.by_name("pgd-1"), block)
    print(peak() - before)


def peak() -> float:
    """Of this program; what getrusage says would be that of the process which started it, if that
    was larger.
    """
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
