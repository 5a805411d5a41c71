"""Memory that does not suffice: half the batch, and rows that say so. The device's allocator raises
torch.OutOfMemoryError, as here.
"""

import numpy as np
import pytest
import torch

from advrec.attacks import registry
from advrec.distributed.attacker import fitting
from advrec.evaluation.block import Block
from advrec.evaluation.harness import evaluate_block
from advrec.model.encoder import embed_all, frozen
from advrec.recommenders.ranks import similar_articles
from advrec.recommenders.recommender import Recommender
from tests.conftest import random_network


class Small:
    """An embedding that holds so many images at once."""

    def __init__(self, most):
        self.most, self.network = most, frozen(random_network())

    def __call__(self, images):
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.network.embed(images)


def evaluate(catalog, most, batch):
    attack_ids = catalog.ids_of("test")[:8]
    target_ids = np.roll(attack_ids, 1)
    embed = Small(most)
    index = similar_articles(embed_all(embed.network.embed, catalog.pixels(range(len(catalog)))))

    def work(batch):
        block = Block(
            tuple_ids=np.arange(8, dtype=np.int32),
            target_ids=target_ids,
            attack_ids=attack_ids,
            pixels=catalog.pixels(attack_ids),
            epsilons=(0.01, 0.05),
            batch=batch,
            examples=0,
            label="pgd-3",
            seed=0,
        )
        return evaluate_block(
            Recommender(embed=embed, index=index), registry.by_name("pgd-3"), block
        ).rows.to_pandas()

    return fitting(work, batch)


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_the_rows_say_so(catalog):
    scarce, four = evaluate(catalog, 5, 16), evaluate(catalog, 16, 4)
    assert set(evaluate(catalog, 16, 16).batch) == {16}
    assert set(scarce.batch) == {4}
    assert scarce.drop(columns="seconds").equals(four.drop(columns="seconds"))


def test_an_image_that_does_not_fit_alone_is_an_error(catalog):
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(catalog, 0, 16)


def test_other_errors_are_not_tried_again():
    batches = []

    def work(batch):
        batches.append(batch)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fitting(work, 8)
    assert batches == [8]
