"""The harness trusts nobody: attacks that lie are projected, measured and ranked like any other."""

import dataclasses

import numpy as np
import pytest
import torch

from advrec.attacks import registry
from advrec.attacks.result import spent
from advrec.evaluation.block import Block
from advrec.evaluation.harness import evaluate_block
from advrec.model.encoder import frozen
from tests.conftest import random_network, recommender


@pytest.fixture(scope="module")
def setting(catalog):
    ids = catalog.ids_of("test")
    block = Block(
        tuple_ids=np.arange(4, 10, dtype=np.int32),
        target_ids=ids[:6],
        attack_ids=ids[6:12],
        pixels=catalog.pixels(ids[6:12]),
        epsilons=(0.0, 0.01, 0.05),
        batch=4,
        examples=6,
        label="named",
        seed=7,
    )
    return recommender(catalog, frozen(random_network()).embed), block


@dataclasses.dataclass(frozen=True)
class Liar:
    """Claims whatever it is told to."""

    claim: str

    def __call__(self, problem):
        images = problem.images
        claims = {
            "white": torch.ones_like(images),
            "far": images + 7.0,
            "nan": images * float("nan"),
            "small": images[:, :, 1:],
        }
        return spent(claims[self.claim], gradient_steps=3, forward_passes=5)


@pytest.mark.parametrize("claim", ["white", "far"])
def test_an_attack_outside_its_budget_is_projected_and_its_claim_recorded(setting, claim):
    rows = evaluate_block(setting[0], Liar(claim), setting[1]).rows.to_pandas()
    assert (rows.linf <= rows.epsilon.astype(np.float32)).all()
    assert (rows.raw_linf > 0.05).all()
    assert (rows.gradient_steps == 3).all()
    assert (rows.forward_passes == 5).all()


@pytest.mark.parametrize(("claim", "message"), [("nan", "finite"), ("small", "shape")])
def test_an_attack_that_returns_no_image_is_refused(setting, claim, message):
    with pytest.raises(ValueError, match=message):
        evaluate_block(setting[0], Liar(claim), setting[1])


def test_rows_are_what_a_plain_loop_finds(setting, catalog):
    recommender, block = setting
    embed, index = recommender.embed, recommender.index
    outcomes = evaluate_block(recommender, registry.by_name("pgd-2"), block)
    rows, examples = outcomes.rows.to_pylist(), outcomes.examples.to_pylist()
    assert [(r["tuple_id"], r["epsilon"]) for r in rows] == [
        (t, e) for t in range(4, 10) for e in (0.0, 0.01, 0.05)
    ]
    assert [(e["tuple_id"], e["epsilon"]) for e in examples] == [
        (t, e) for t in (4, 5) for e in (0.0, 0.01, 0.05)
    ]
    for row, example in zip(rows, examples, strict=False):
        image = np.frombuffer(example["pixels"], dtype="<f4").reshape(32, 32, 3)
        clean = catalog.pixels([row["attack_id"]])[0] / 255.0
        assert np.abs(image - clean).max() == pytest.approx(row["linf"], abs=1e-6)
        assert np.sqrt(((image - clean) ** 2).sum()) == pytest.approx(row["l2"], abs=1e-5)
        with torch.inference_mode():
            candidate = embed(torch.from_numpy(image.copy()).permute(2, 0, 1)[None]).numpy()[0]
        target = index.bank.items[row["target_id"]]
        assert cosine_distance(target, candidate) == pytest.approx(
            row["adversarial_distance"], abs=1e-5
        )
        others = [
            cosine_distance(target, e)
            for j, e in enumerate(index.bank.items)
            if j not in (row["target_id"], row["attack_id"])
        ]
        # The image came back through a batch of one: its distance is known here to 1e-5 only.
        least, most = (
            sum(d < row["adversarial_distance"] + slack for d in others) for slack in (-1e-5, 1e-5)
        )
        assert 1 + least <= row["adversarial_rank"] <= 1 + most


def cosine_distance(a, b):
    a, b = a.astype(float), b.astype(float)
    return 1 - a @ b / (a @ a * (b @ b)) ** 0.5


def test_no_budget_gives_the_clean_image(setting):
    rows = evaluate_block(setting[0], registry.by_name("cw-3"), setting[1]).rows.to_pandas()
    nothing = rows[rows.epsilon == 0]
    assert (nothing.linf == 0).all()
    assert nothing.adversarial_distance.to_numpy() == pytest.approx(
        nothing.clean_distance.to_numpy(), abs=1e-5
    )


def test_the_same_block_gives_the_same_rows(setting):
    first, second = (
        evaluate_block(setting[0], registry.by_name("apgd-3"), setting[1]) for _ in range(2)
    )
    assert first.rows.drop(["seconds"]) == second.rows.drop(["seconds"])
    assert first.examples == second.examples


def attacked(setting, name, **changes):
    build = {key: changes.pop(key) for key in ("restarts",) if key in changes}
    block = dataclasses.replace(setting[1], **changes)
    method = registry.build(name, nested=block.nested, **build)
    return evaluate_block(setting[0], method, block).rows.to_pandas()


def test_a_stopped_tuple_has_rank_1_and_costs_less(setting):
    epsilons = (0.05, 0.2)
    stopped, never = (
        attacked(setting, "apgd-40", epsilons=epsilons, stop=stop) for stop in ("rank-1", "never")
    )
    early = stopped.gradient_steps < 40
    assert early.any()
    assert (stopped.adversarial_rank[early] == 1).all()
    assert (never.gradient_steps == 40).all()
    assert set(never.tuple_id[never.adversarial_rank == 1]) <= set(
        stopped.tuple_id[stopped.adversarial_rank == 1]
    )


def test_a_nested_budget_goes_on_from_the_smaller_one_and_skips_what_is_solved(setting):
    rows = attacked(
        setting, "apgd-20", epsilons=(0.02, 0.1, 0.3), stop="rank-1", nested=True, batch=6
    )
    for _, one in rows.groupby("tuple_id"):
        ranks, inherited = one.adversarial_rank.tolist(), one.inherited.tolist()
        assert not inherited[0]
        for place in (1, 2):
            assert inherited[place] == (ranks[place - 1] == 1)
            assert ranks[place] <= ranks[place - 1]
            if inherited[place]:
                assert one.forward_passes.iloc[place] == 0
                assert one.linf.iloc[place] == one.linf.iloc[place - 1]
    assert rows.inherited.any()
    assert (rows.linf <= rows.epsilon.astype(np.float32)).all()


def test_nested_results_depend_on_neither_the_batch_nor_the_block(setting):
    together, apart = (
        attacked(setting, "apgd-10", nested=True, stop="rank-1", batch=batch) for batch in (6, 2)
    )
    assert together.adversarial_distance.to_numpy() == pytest.approx(
        apart.adversarial_distance.to_numpy(), abs=2e-3
    )


def test_the_row_names_the_member_that_won(setting):
    rows = attacked(setting, "apgd-2", restarts=2, epsilons=(0.05,))
    assert set(rows.winner) <= {"apgd-2", "apgd-2 restart 1", "apgd-2 restart 2"}
    assert len(set(rows.winner)) > 1
    assert set(attacked(setting, "pgd-2").winner) == {"named"}


def test_a_delivered_image_is_ranked_as_the_shop_stores_it(setting):
    rows = attacked(setting, "pgd-8", epsilons=(0.0, 0.05), deliveries=("png", "jpeg-30"))
    clean = rows[rows.epsilon == 0.0]
    # the catalog holds 8 bits already
    assert (clean.adversarial_rank_png == clean.clean_rank).all()
    assert (rows.adversarial_distance_jpeg_30 != rows.adversarial_distance).all()
    moved = rows[rows.epsilon > 0]
    assert (moved.adversarial_distance_png - moved.adversarial_distance).abs().max() < 0.05
    assert (moved.adversarial_distance_png != moved.adversarial_distance).any()


def test_with_a_delivery_the_stop_tests_the_delivered_image(setting):
    rows = attacked(setting, "apgd-60", epsilons=(0.1, 0.2), deliveries=("png",), stop="rank-1")
    early = rows.gradient_steps < 60
    assert early.any()
    assert (rows.adversarial_rank_png[early] == 1).all()


def test_a_transfer_is_made_on_one_model_and_measured_on_another(setting, catalog):
    source = recommender(catalog, frozen(random_network(seed=3)).embed)
    white, transferred, same = (
        evaluate_block(setting[0], registry.by_name("pgd-8"), setting[1], *made_on).rows.to_pandas()
        for made_on in ((), (source,), (setting[0],))
    )
    assert transferred.adversarial_distance.mean() > white.adversarial_distance.mean()
    assert same.drop(columns="seconds").equals(white.drop(columns="seconds"))
    on_source = evaluate_block(source, registry.by_name("pgd-8"), setting[1]).rows.to_pandas()
    assert (transferred.l2 == on_source.l2).all()
