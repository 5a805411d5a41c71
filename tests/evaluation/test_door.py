"""Attacks on a model behind a door: those that pass it, and those that are blind to it."""

import dataclasses

import numpy as np
import pytest

from advrec.attacks import registry
from advrec.delivery.chain import Chain
from advrec.delivery.door import Door
from advrec.evaluation import checks, health
from advrec.evaluation.block import Block
from advrec.evaluation.harness import evaluate_block
from advrec.model.encoder import frozen, to_images
from advrec.recommenders import load
from tests.conftest import random_network

SPENT = ["gradient_steps", "forward_passes", "seconds"]


def guarded(catalog, ingest):
    network = random_network()
    network.behind(None if ingest is None else Door(ingest=ingest, seed=7))
    return load.from_catalog(frozen(network), catalog)


@pytest.fixture(scope="module")
def block(catalog):
    ids = catalog.ids_of("test")
    return Block(
        tuple_ids=np.arange(6, dtype=np.int32),
        target_ids=ids[:6],
        attack_ids=ids[6:12],
        pixels=catalog.pixels(ids[6:12]),
        epsilons=(0.0, 0.1),
        batch=12,
        examples=100,
        label="named",
        seed=7,
    )


def attacked(made, block, name="apgd-12", **changes):
    return evaluate_block(made, registry.build(name), dataclasses.replace(block, **changes))


def test_a_blind_attack_is_that_on_the_network_without_its_door_and_the_verdict_is_with_it(
    catalog, block
):
    behind, network = guarded(catalog, "bits-2"), frozen(random_network())
    blind = attacked(behind, block, ingest=False)
    # The clean catalog is the shop's: what a target looks like, everybody sees.
    without = dataclasses.replace(behind, embed=network.embed, views=None)
    alone = evaluate_block(without, registry.build("apgd-12"), block)
    assert blind.examples.equals(alone.examples)
    rows = blind.rows.to_pandas()
    for row, example in zip(rows.to_dict("records"), blind.examples.to_pylist(), strict=True):
        image = np.frombuffer(example["pixels"], "<f4").reshape(1, 32, 32, 3)
        embedding = behind.embeddings(to_images(image.copy()))
        ranked = behind.index.ranks(
            np.array([row["target_id"]]), np.array([row["attack_id"]]), embedding
        )
        assert row["adversarial_rank"] == ranked[0]
    assert not np.allclose(rows["adversarial_distance"], alone.rows["adversarial_distance"])


@pytest.mark.parametrize("ingest", ["jpeg-50", "smooth-0.1-4"])
def test_without_a_budget_a_rank_is_the_clean_one_and_who_knows_the_door_comes_nearer(
    catalog, block, ingest
):
    behind = guarded(catalog, ingest)
    knowing = attacked(behind, block).rows.to_pandas()
    blind = attacked(behind, block, ingest=False).rows.to_pandas()
    none = knowing[knowing["epsilon"] == 0.0]
    assert (none["adversarial_rank"] == none["clean_rank"]).all()
    assert np.allclose(none["adversarial_distance"], none["clean_distance"], atol=1e-6)
    far = {id(rows): rows[rows["epsilon"] > 0]["adversarial_distance"] for rows in (knowing, blind)}
    assert far[id(knowing)].mean() < far[id(blind)].mean() - 0.005


def test_rows_of_a_noisy_model_are_equal_for_any_batch(catalog, block):
    behind = guarded(catalog, "smooth-0.1-3")
    together, alone = (
        attacked(behind, block, "pgd-4", batch=batch).rows.drop(["seconds", "batch"]).to_pandas()
        for batch in (12, 1)
    )
    assert (together["adversarial_rank"] == alone["adversarial_rank"]).all()
    assert np.allclose(together["adversarial_distance"], alone["adversarial_distance"], atol=1e-5)


def test_the_stop_of_a_blind_attack_tests_what_is_measured(catalog, block):
    behind = guarded(catalog, "bits-1")
    one = {"epsilons": (0.3,), "stop": "rank-1", "ingest": False}
    rows = attacked(behind, block, "apgd-20", **one).rows.to_pandas()
    stopped = rows["gradient_steps"] < 20
    assert (rows[stopped]["adversarial_rank"] == 1).all()
    without = dataclasses.replace(behind, embed=behind.views.blind, views=None)
    alone = attacked(without, block, "apgd-20", **one).rows.to_pandas()
    assert (alone["gradient_steps"] < rows["gradient_steps"]).any()


def test_deliveries_come_before_the_door(catalog, block):
    """A delivery with two levels leaves a door of two levels nothing to do."""
    one = {"epsilons": (0.1,), "deliveries": ("bits-1",), "through": ("bits-1",)}
    behind, open_house = guarded(catalog, "bits-1"), guarded(catalog, None)
    first = attacked(behind, block, **one).examples.to_pandas()
    views = dataclasses.replace(open_house, index=behind.index)
    second = attacked(views, block, **one).examples.to_pandas()
    made = [each[each["delivery"] == "bits-1"]["pixels"] for each in (first, second)]
    assert made[0].tolist() == made[1].tolist()


def test_a_slope_of_zero_raises_the_flag_of_zero_gradients(catalog, monkeypatch):
    behind = guarded(catalog, "bits-2")
    images = to_images(catalog.pixels(catalog.ids_of("test")[:8]))
    found = {check.name: check for check in checks._health(health.measure(behind, images))}
    assert found["gradients are not zero"].verdict == "passed"
    assert found["two forward passes agree"].verdict == "passed"
    monkeypatch.setattr(Chain, "slope", lambda self, images: images * 0.0)
    found = {check.name: check for check in checks._health(health.measure(behind, images))}
    assert found["gradients are not zero"].verdict == "failed"
