"""The attack on a whole category, against closed forms and against one article at a time."""

import numpy as np
import pytest
import torch

from advrec.attacks import registry
from advrec.attacks.objective import evaluate
from advrec.evaluation.block import CategoryBlock
from advrec.evaluation.categories import Swapped, evaluate_category
from advrec.evaluation.categories import _aim as aim_of
from advrec.evaluation.harness import attack_all
from advrec.model.encoder import to_images
from advrec.recommenders import losses, places
from advrec.recommenders.bank import Seen
from advrec.recommenders.recommender import Recommender
from tests.evaluation.test_promotions import (
    EVERYONE,
    PIXELS,
    SIDE,
    USERS,
    D,
    N,
    block,
    factors,
    hybrid,
    rows,
)

ORIGIN = np.arange(12, dtype=np.int32)
TARGET = np.arange(20, 30, dtype=np.int32)


def category(towards="hit", **changes):
    usual = {
        "attack_ids": ORIGIN,
        "pixels": PIXELS[ORIGIN],
        "keeps_ranks": np.zeros(len(ORIGIN), dtype=bool),
        "loss": towards,
        "origin": "hats",
        "target": "shoes",
        "label_of_target": 1,
        "resembled": TARGET,
        "piece": 5,
    }
    shared = {key: value for key, value in vars(block()).items() if key not in usual}
    return CategoryBlock(**shared | usual | changes)


HEAD = torch.from_numpy(np.random.default_rng(2).normal(size=(3, D))).float()


def shop(**sizes):
    made = hybrid(**sizes)
    return Recommender(
        embed=made.embed,
        index=made.index,
        factors=made.factors,
        embedded=made.embedded,
        category_head=lambda embeddings: embeddings @ HEAD.T / 100,
    )


def found(towards, attack="pgd-4", of=None, **changes):
    outcomes = evaluate_category(of or shop(), registry.build(attack), category(towards, **changes))
    return outcomes.rows.to_pandas()


@pytest.mark.parametrize("towards", ["class", "centroid", "hit"])
@pytest.mark.parametrize("attack", ["fgsm", "pgd-3", "apgd-4", "auto", "square-4"])
def test_01_a_budget_of_nothing_changes_nothing_to_the_last_bit(towards, attack):
    table = found(towards, attack)
    assert table.epsilon.tolist() == [0.0, 0.01, 0.05]
    nothing = table.iloc[0]
    for name in ("chr", "ndcg"):
        for rank in (1, 10, 1000):
            assert nothing[f"{name}_before_{rank}"] == nothing[f"{name}_after_{rank}"]
    assert (table.linf_max <= table.epsilon + 1e-7).all()
    assert (table.linf_max[1:] > 0).all()
    assert (table.articles == len(ORIGIN)).all()
    assert (table.users == USERS).all()


def test_01_pieces_and_batches_change_nothing():
    whole, cut = found("hit", piece=len(ORIGIN), batch=100), found("hit", piece=3, batch=2)
    for column in whole.columns.drop(["origin", "target", "seconds", "batch"]):
        assert cut[column].to_numpy() == pytest.approx(whole[column].to_numpy(), rel=1e-4)


def apart():
    """A linear encoder, each of whose values has pixels of its own, and its shop."""
    weights = np.zeros((D, 3 * SIDE * SIDE), dtype=np.float32)
    rng = np.random.default_rng(4)
    for value, own in enumerate(np.array_split(np.arange(weights.shape[1]), D)):
        weights[value, own] = rng.normal(size=len(own))
    turned = torch.from_numpy(weights)

    def embed(images):
        return images.flatten(1) @ turned.T

    embeddings = embed(to_images(PIXELS)).numpy()
    seen = Seen.of([rng.choice(N, 5, replace=False) for _ in range(USERS)])
    return weights, Recommender.hybrid(embed, embeddings, factors(rng), seen)


def test_a_centroid_attack_gains_what_the_closed_form_says():
    weights, made = apart()
    epsilon = 0.01
    wanted = category("centroid", epsilons=(epsilon,), piece=len(ORIGIN))
    measure = Swapped(made, wanted)
    attack_all(aim_of(made, wanted), measure, registry.by_name("fgsm"))
    clean = made.embedded[ORIGIN].astype(np.float64)
    gap = made.embedded[TARGET].mean(axis=0) - clean
    moved = clean + epsilon * np.abs(weights).sum(axis=1) * np.sign(gap)
    items = made.factors.candidates(moved.astype(np.float32), ORIGIN)
    assert measure.items[0, 0] == pytest.approx(items, abs=1e-4)
    # what it holds of the lists is that of these items
    swapped = made.bank.items.copy()
    swapped[ORIGIN] = items
    scores = made.bank.queries.astype(np.float64) @ swapped.T
    scores[np.repeat(np.arange(USERS), 5), made.bank.seen.articles] = -np.inf
    lists = np.argsort(-scores, axis=1)[:, :10]
    table = found("centroid", "fgsm", made, epsilons=(epsilon,))
    assert table.chr_after_10[0] == pytest.approx(np.isin(lists, ORIGIN).mean())
    assert table.chr_after_10[0] != table.chr_before_10[0]


def test_articles_that_move_at_once_compete_as_those_that_move_alone_do_not():
    made = shop()
    together = found("hit", "pgd-4", made, epsilons=(0.05,), piece=len(ORIGIN)).iloc[0]
    alone = rows(made, "pgd-4", block(ORIGIN, epsilons=(0.05,)))

    def sum_of_shares(when):
        reached = alone[f"hr_{when}_10"] * alone.audience_size
        return reached.sum() / (10 * USERS)

    assert together.chr_before_10 == pytest.approx(sum_of_shares("before"))
    assert together.linf_max == pytest.approx(alone.linf.max())
    assert together.l2_mean == pytest.approx(alone.l2.mean())
    # each by itself would hold places that only one of them can have
    assert together.chr_before_10 < together.chr_after_10 < sum_of_shares("after") - 0.01


def test_towards_a_class_more_images_are_taken_for_it():
    made = shop()
    wanted = category("class", epsilons=(0.05,), piece=len(ORIGIN))
    objective = aim_of(made, wanted).objective(np.arange(len(ORIGIN)))
    images = to_images(PIXELS[ORIGIN])
    together = evaluate(objective, images)
    logits = made.category_head(made.embed(images))
    expected = torch.logsumexp(logits, 1) - logits[:, 1]
    assert torch.allclose(together.score, expected, atol=1e-5)
    alone = evaluate(objective.select(torch.tensor([3])), images[3:4])
    assert torch.allclose(alone.gradient[0], together.gradient[3], atol=1e-6)
    stepped = (images - 0.05 * together.gradient.sign()).clamp(0, 1)
    assert (objective(stepped) < together.score).all()


def test_an_encoder_without_a_head_has_no_class():
    with pytest.raises(ValueError, match="no category head"):
        found("class", of=hybrid())


def test_the_loss_of_a_point_is_a_share_of_its_square_length():
    point = torch.tensor([3.0, 4.0])
    loss = losses.Point(lambda images: images.flatten(1), point)
    images = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]]).view(3, 1, 1, 2)
    assert loss(images).tolist() == pytest.approx([1.0, 0.0, 16 / 25])


def test_it_is_the_audience_of_all_users():
    made = shop()
    members, target = (np.isin(np.arange(N), ids) for ids in (ORIGIN, TARGET))
    held = places.held(made.index, EVERYONE.query_ids, members, target, (10,))
    table = found("hit")
    assert table.chr_before_10[0] == held.chr[0]
    assert table.target_chr_before_10[0] == held.target_chr[0]


def test_intervals_are_of_users_and_hold_what_they_are_of():
    table = found("hit", epsilons=(0.0, 0.05))
    for when in ("before", "after", "change"):
        value, low, high = (table[f"chr_{when}_10{end}"] for end in ("", "_low", "_high"))
        assert (low <= value).all()
        assert (value <= high).all()
    change = table.chr_after_10 - table.chr_before_10
    assert table.chr_change_10.to_numpy() == pytest.approx(change.to_numpy())
    # the same users are drawn before and after: nothing has changed for any of them
    assert table.chr_change_10_low[0] == table.chr_change_10_high[0] == 0.0
    # a naive bootstrap, user by user
    made, swapped = shop(), category("hit", epsilons=(0.05,), piece=len(ORIGIN))
    measure = Swapped(made, swapped)
    attack_all(aim_of(made, swapped), measure, registry.build("pgd-4"))
    shares = []
    for items in (made.bank.items[ORIGIN], measure.items[0, 0]):
        whole = made.bank.items.copy()
        whole[ORIGIN] = items
        scores = made.bank.queries.astype(np.float64) @ whole.T
        scores[np.repeat(np.arange(USERS), 5), made.bank.seen.articles] = -np.inf
        shares.append(np.isin(np.argsort(-scores, axis=1)[:, :10], ORIGIN).mean(axis=1))
    rng = np.random.default_rng(1)
    drawn = (shares[1] - shares[0])[rng.integers(USERS, size=(4000, USERS))].mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    width = high - low
    assert table.chr_change_10_low[1] == pytest.approx(low, abs=0.15 * width)
    assert table.chr_change_10_high[1] == pytest.approx(high, abs=0.15 * width)


def test_deliveries_are_columns_of_their_own():
    ways = {"deliveries": ("png", "jpeg-90"), "through": ("jpeg-90",), "epsilons": (0.0, 0.02)}
    table = found("hit", "apgd-3", **ways)
    assert {"chr_after_10_png", "ndcg_after_10_jpeg_90", "linf_max_jpeg_90"} <= {*table.columns}
    assert {"linf_max_png", "chr_before_10_png"} & {*table.columns} == set()
    alone = found("hit", "apgd-3", epsilons=(0.0, 0.02))
    assert table[alone.columns[:-4]].equals(alone[alone.columns[:-4]])
    assert (table.gradient_steps == [1, 2] * alone.gradient_steps).all()  # of 0 nothing is made
    # eight bits of an image of eight bits are that image
    assert table.chr_after_10_png[0] == table.chr_before_10[0]
    assert table.linf_max_jpeg_90[1] == pytest.approx(5 / 255)  # the whole levels within 0.02
