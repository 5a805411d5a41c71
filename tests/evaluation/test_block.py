"""The harness trusts nobody: attacks that lie are projected, measured and ranked like any other."""

import dataclasses

import numpy as np
import pytest
import torch

from advrec.attacks import registry
from advrec.attacks.result import spent
from advrec.evaluation.block import Block, evaluate_block
from advrec.index.exact import ExactIndex
from advrec.model.encoder import frozen, to_images
from tests.conftest import random_network


@pytest.fixture(scope="module")
def setting(catalog):
    network = frozen(random_network())
    with torch.inference_mode():
        embeddings = network.embed(to_images(catalog.pixels(range(len(catalog))))).numpy()
    ids = catalog.ids_of("test")
    block = Block(
        tuple_ids=np.arange(4, 10, dtype=np.int32),
        target_ids=ids[:6],
        attack_ids=ids[6:12],
        pixels=catalog.pixels(ids[6:12]),
        epsilons=(0.0, 0.01, 0.05),
        batch=4,
        examples=6,
    )
    return network.embed, ExactIndex(embeddings), block


@dataclasses.dataclass(frozen=True)
class Liar:
    """Claims whatever it is told to."""

    claim: str

    def __call__(self, objective, images, epsilon, start=None):
        claims = {"white": torch.ones_like(images), "far": images + 7.0, "nan": images * float("nan"), "small": images[:, :, 1:]}
        return spent(claims[self.claim], gradient_steps=3, forward_passes=5)


@pytest.mark.parametrize("claim", ["white", "far"])
def test_an_attack_outside_its_budget_is_projected_and_its_claim_recorded(setting, claim):
    rows = evaluate_block(*setting[:2], Liar(claim), setting[2]).rows.to_pandas()
    assert (rows.linf <= rows.epsilon.astype(np.float32)).all()
    assert (rows.raw_linf > 0.05).all()
    assert (rows.gradient_steps == 3).all()
    assert (rows.forward_passes == 5).all()


@pytest.mark.parametrize(("claim", "message"), [("nan", "finite"), ("small", "shape")])
def test_an_attack_that_returns_no_image_is_refused(setting, claim, message):
    with pytest.raises(ValueError, match=message):
        evaluate_block(*setting[:2], Liar(claim), setting[2])


def test_rows_are_what_a_plain_loop_finds(setting, catalog):
    embed, index, block = setting
    outcomes = evaluate_block(embed, index, registry.by_name("pgd-2"), block)
    rows, examples = outcomes.rows.to_pylist(), outcomes.examples.to_pylist()
    assert [(r["tuple_id"], r["epsilon"]) for r in rows] == [(t, e) for t in range(4, 10) for e in (0.0, 0.01, 0.05)]
    assert [(e["tuple_id"], e["epsilon"]) for e in examples] == [(t, e) for t in (4, 5) for e in (0.0, 0.01, 0.05)]
    for row, example in zip(rows, examples, strict=False):
        image = np.frombuffer(example["pixels"], dtype="<f4").reshape(32, 32, 3)
        clean = catalog.pixels([row["attack_id"]])[0] / 255.0
        assert np.abs(image - clean).max() == pytest.approx(row["linf"], abs=1e-6)
        assert np.sqrt(((image - clean) ** 2).sum()) == pytest.approx(row["l2"], abs=1e-5)
        with torch.inference_mode():
            candidate = embed(torch.from_numpy(image.copy()).permute(2, 0, 1)[None]).numpy()[0]
        target = index.embeddings[row["target_id"]]
        assert cosine_distance(target, candidate) == pytest.approx(row["adversarial_distance"], abs=1e-5)
        others = [cosine_distance(target, e) for j, e in enumerate(index.embeddings) if j not in (row["target_id"], row["attack_id"])]
        # The image came back through a batch of one: its distance is known here to 1e-5 only.
        least, most = (sum(d < row["adversarial_distance"] + slack for d in others) for slack in (-1e-5, 1e-5))
        assert 1 + least <= row["adversarial_rank"] <= 1 + most


def cosine_distance(a, b):
    a, b = a.astype(float), b.astype(float)
    return 1 - a @ b / (a @ a * (b @ b)) ** 0.5


def test_no_budget_gives_the_clean_image(setting):
    rows = evaluate_block(*setting[:2], registry.by_name("cw-3"), setting[2]).rows.to_pandas()
    nothing = rows[rows.epsilon == 0]
    assert (nothing.linf == 0).all()
    assert nothing.adversarial_distance.to_numpy() == pytest.approx(nothing.clean_distance.to_numpy(), abs=1e-5)


def test_the_same_block_gives_the_same_rows(setting):
    first, second = (evaluate_block(*setting[:2], registry.by_name("pgd-3"), setting[2]) for _ in range(2))
    assert first.rows.drop(["seconds"]) == second.rows.drop(["seconds"])
    assert first.examples == second.examples
