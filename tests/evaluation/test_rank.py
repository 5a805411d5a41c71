"""rank-Q in blocks and studies: what its rows say, through deliveries too."""

import dataclasses

import numpy as np
import pytest
import torch

import advrec
from advrec.attacks import registry
from advrec.errors import ConfigError
from advrec.evaluation.block import Block
from advrec.evaluation.harness import evaluate_block
from advrec.recommenders.recommender import Recommender
from advrec.run import cells
from tests.conftest import STUDY, study

SIDE, ARTICLES, QUERIES = 16, 60, 40


@pytest.fixture(scope="module")
def setting():
    generator = np.random.default_rng(3)
    pixels = generator.integers(0, 256, (ARTICLES, SIDE, SIDE, 3), dtype=np.uint8)
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 8, 5, stride=2), torch.nn.Tanh(), torch.nn.Flatten()
    network = torch.nn.Sequential(*layers, torch.nn.LazyLinear(12)).eval()
    ids = np.arange(6, dtype=np.int32)
    block = Block(
        tuple_ids=ids,
        target_ids=ids,
        attack_ids=ids + 6,
        pixels=pixels[6:12],
        epsilons=(0.002, 0.1),
        batch=5,
        examples=0,
        label=f"rank-{QUERIES}",
        seed=7,
        deliveries=("png", "jpeg-90"),
        through=("png",),
    )
    return Recommender.of(network, pixels), block


def rows(setting, **changes):
    block = dataclasses.replace(setting[1], **changes)
    made = evaluate_block(setting[0], registry.by_name(f"rank-{QUERIES}"), block)
    return made.rows.to_pandas().drop(columns="seconds")


def test_rows_count_the_lists_of_each_image_that_is_made(setting):
    made = rows(setting)
    assert not made.gradient_steps.any()
    # Below one level of 255 nothing changes in a PNG, and nothing is asked.
    asked = made.groupby("epsilon").forward_passes.unique().map(list).to_dict()
    assert asked == {0.002: [QUERIES], 0.1: [2 * QUERIES]}
    assert (made.linf <= made.epsilon.astype(np.float32)).all()
    assert (made.linf_png[made.epsilon == 0.1] <= 25 / 255 + 1e-6).all()
    assert not (made.l2 == made.l2_png)[made.epsilon == 0.1].any()


def test_rows_are_the_same_in_any_batch(setting):
    assert rows(setting, batch=12).drop(columns="batch").equals(rows(setting).drop(columns="batch"))


def test_lists_are_of_an_article_and_not_of_a_user_or_a_list_of_targets(tmp_path):
    (tmp_path / "best.csv").write_text("target_name,weight\na,1\n")
    both = ["neighbours", {"targets": str(tmp_path / "best.csv")}]
    evaluation = STUDY["evaluation"] | {"attacks": ["pgd-2", "rank-9"], "audience": both}
    wanted = cells.cells(study(evaluation=evaluation))
    assert {cell.part for cell in wanted if cell.attack.name == "rank-9"} == {"attacks"}
    with pytest.raises(ConfigError, match="rank-9 asks for lists of similar articles; add neigh"):
        study(evaluation=evaluation | {"audience": both[1:]})


def test_it_is_asked_of_the_shop_itself(setting):
    with pytest.raises(ConfigError, match="rank-9 asks for the lists of the recommender itself"):
        advrec.attack(
            setting[0], target=0, article=1, attack="rank-9", epsilon=0.1, source=setting[0]
        )
    made = advrec.attack(setting[0], target=0, article=7, attack="rank-9", epsilon=0.1)
    assert made.rows["forward_passes"].to_pylist() == [9]
