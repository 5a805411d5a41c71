"""Promotions: attacks on whole audiences, against closed forms, brute force and today's tuples."""

import dataclasses

import numpy as np
import pytest
import torch

from advrec.attacks import registry
from advrec.attacks.objective import evaluate
from advrec.evaluation import promotions
from advrec.evaluation.block import Block, PromotionBlock
from advrec.evaluation.harness import evaluate_block
from advrec.evaluation.promotions import Wishes
from advrec.model.encoder import to_images
from advrec.recommenders.audience import Audience
from advrec.recommenders.bank import Seen
from advrec.recommenders.hybrid import Factors
from advrec.recommenders.recommender import Recommender

N, USERS, SIDE, D = 40, 30, 6, 8
RNG = np.random.default_rng(5)
PIXELS = RNG.integers(90, 166, (N, SIDE, SIDE, 3), dtype=np.uint8)  # the box is out of reach
WEIGHTS = torch.from_numpy(RNG.normal(size=(D, 3 * SIDE * SIDE)).astype(np.float32))


def linear(images):
    """A linear encoder A."""
    return images.flatten(1) @ WEIGHTS.T


def factors(rng, *, visual=1.0, interactions=1.0):
    def drawn(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return Factors(
        item_bias=interactions * drawn(N),
        user_factors=interactions * drawn(USERS, 3),
        item_factors=interactions * drawn(N, 3),
        user_visual=visual * drawn(USERS, 4),
        projection=drawn(4, D),
        visual_bias=visual * drawn(D),
    )


def hybrid(**sizes):
    rng = np.random.default_rng(7)
    embeddings = linear(to_images(PIXELS)).numpy()
    seen = Seen.of([rng.choice(N, 5, replace=False) for _ in range(USERS)])
    return Recommender.hybrid(linear, embeddings, factors(rng, **sizes), seen)


EVERYONE = Audience("users", np.arange(USERS, dtype=np.int32), np.ones(USERS))


def block(articles=range(6), **changes):
    ids = np.array(articles, dtype=np.int32)
    usual = {
        "attack_ids": ids,
        "pixels": PIXELS[ids],
        "epsilons": (0.0, 0.01, 0.05),
        "batch": 4,
        "examples": 0,
        "label": "hit",
        "seed": 3,
        "audience": EVERYONE,
        "ranks": (1, 10, 1000),
        "aim": 10,
        "loss": "hit",
        "keeps_ranks": np.zeros(len(ids), dtype=bool),
    }
    return PromotionBlock(**usual | changes)


def rows(recommender, attack, wanted, *sources):
    outcomes = evaluate_block(recommender, registry.by_name(attack), wanted, *sources)
    return outcomes.rows.to_pandas()


AFTER = ("hr_{}_1", "ndcg_{}_1", "hr_{}_10", "ndcg_{}_10", "median_rank_{}")


@pytest.mark.parametrize("attack", ["pgd-3", "apgd-5", "square-8", "noise"])
def test_01_a_budget_of_nothing_changes_nothing_to_the_last_bit(attack):
    found = rows(hybrid(), attack, block())
    nothing = found[found.epsilon == 0.0]
    for column in AFTER:
        assert (nothing[column.format("before")] == nothing[column.format("after")]).all()
    assert (nothing.score_shift == 0.0).all()
    assert (nothing.improved == 0.0).all()
    assert (found.linf <= found.epsilon + 1e-7).all()
    assert (found.hr_after_1000 == 1.0).all()  # K above the catalog


def test_02_an_audience_of_one_target_equals_todays_tuple():
    embeddings = linear(to_images(PIXELS)).numpy()
    shop = Recommender.similar_articles(linear, embeddings)
    articles = np.arange(6, dtype=np.int32)
    target = np.full(6, 20, dtype=np.int32)
    shared = {
        name: getattr(block(), name)
        for name in ("attack_ids", "pixels", "epsilons", "batch", "label", "seed")
    }
    tuples = Block(tuple_ids=articles, target_ids=target, examples=6, **shared)
    one = Audience("targets", target[:1], np.ones(1))
    wanted = block(audience=one, loss="score", keeps_ranks=np.ones(6, dtype=bool))
    for attack in ("pgd-5", "apgd-5", "mifgsm-4", "noise"):
        today = rows(shop, attack, tuples)
        outcomes = evaluate_block(shop, registry.by_name(attack), wanted)
        ranks = outcomes.ranks.to_pandas()
        assert (ranks.rank_after.to_numpy() == today.adversarial_rank.to_numpy()).all()
        assert (ranks.rank_before.to_numpy() == today.clean_rank.to_numpy()).all()
        assert (ranks.query_id == 20).all()
        promoted = outcomes.rows.to_pandas()
        assert promoted.l2.to_numpy() == pytest.approx(today.l2.to_numpy(), rel=1e-5)
        shift = today.clean_distance - today.adversarial_distance
        assert promoted.score_shift.to_numpy() == pytest.approx(shift.to_numpy(), abs=1e-5)
        assert (promoted.hr_after_10 == (today.adversarial_rank <= 10)).all()


def mean_query(shop, article):
    """Gradient (pixels,) of the mean score of the article's audience, by float64."""
    made = shop.factors
    members = EVERYONE.members(shop.bank, np.array([article], dtype=np.int32))[0]
    visual = made.user_visual.astype(np.float64) @ made.projection + made.visual_bias
    return members @ visual / members.sum() @ WEIGHTS.double().numpy()


def test_03_the_loss_score_gains_what_the_closed_form_says():
    shop = hybrid()
    for attack in ("fgsm", "pgd-4"):
        found = rows(shop, attack, block(loss="score", epsilons=(0.02,)))
        for article, shift in zip(found.article_id, found.score_shift, strict=True):
            gain = 0.02 * np.abs(mean_query(shop, article)).sum()
            assert shift == pytest.approx(gain, rel=1e-4)


def test_03_no_user_is_hit_whose_ceiling_lies_below_the_threshold():
    shop = hybrid()
    wanted = block(epsilons=(0.02,), keeps_ranks=np.ones(6, dtype=bool))
    made = shop.factors
    visual = made.user_visual.astype(np.float64) @ made.projection + made.visual_bias
    reach = 0.02 * np.abs(visual @ WEIGHTS.double().numpy()).sum(axis=1)
    ranks = evaluate_block(shop, registry.by_name("apgd-20"), wanted).ranks.to_pandas()
    scores = shop.bank.queries.astype(np.float64) @ shop.bank.items.T
    hits = 0
    for row in ranks.itertuples():
        competes = np.ones(N, dtype=bool)
        start, end = shop.bank.seen.starts[row.query_id : row.query_id + 2]
        competes[shop.bank.seen.articles[start:end]] = False
        competes[row.article_id] = False
        threshold = np.sort(scores[row.query_id, competes])[-10]
        reached = scores[row.query_id, row.article_id] + reach[row.query_id]
        if row.rank_after <= 10:
            hits += 1
            assert reached >= threshold - 1e-4
    assert hits > 20


@pytest.mark.parametrize("loss", ["hit", "score", "embedding"])
@pytest.mark.parametrize("share", [None, 0.4])
def test_05_a_loss_is_one_value_an_image_and_its_gradient_that_of_finite_differences(loss, share):
    shop = hybrid()
    aim = Wishes(shop, block(loss=loss, share=share))
    places = np.arange(6)
    images = to_images(PIXELS[:6])
    together = evaluate(aim.objective(places), images)
    for place in places:
        alone = evaluate(aim.objective(places[place : place + 1]), images[place : place + 1])
        assert torch.allclose(alone.loss, together.loss[place], rtol=1e-4, atol=1e-5)
        assert torch.allclose(alone.gradient[0], together.gradient[place], rtol=1e-3, atol=1e-5)
    direction = torch.from_numpy(RNG.normal(size=images.shape)).float()
    step = 1e-3
    objective = aim.objective(places)
    ahead, behind = (objective.losses(images + s * direction).descended for s in (step, -step))
    slope = (together.gradient * direction).flatten(1).sum(1)
    assert torch.allclose((ahead - behind) / (2 * step), slope, rtol=0.05, atol=0.02)


def test_hit_is_descended_where_its_own_gradient_has_died_away():
    """Queries that an article misses by many temperatures still draw it."""
    objective = Wishes(hybrid(), block()).objective(np.arange(6))
    images = to_images(PIXELS[:6])
    asked = objective.asked
    higher = asked.thresholds - 50.0 * objective.temperature[:, None]
    far = dataclasses.replace(objective, asked=asked._replace(thresholds=higher))

    def steepness(loss):
        return evaluate(loss, images).gradient.flatten(1).norm(dim=1)

    own = steepness(dataclasses.replace(far, descended="hit"))
    assert (steepness(far) > 1e6 * own).all()
    near = steepness(dataclasses.replace(objective, descended="hit"))
    assert (steepness(far) > 1e-3 * near).all()
    assert torch.equal(far(images), dataclasses.replace(far, descended="hit")(images))


def test_07_pixels_do_not_move_users_who_do_not_look_at_them():
    blind = hybrid(visual=0.0)
    found = rows(blind, "apgd-5", block())
    for column in AFTER:
        assert (found[column.format("before")] == found[column.format("after")]).all()
    # and without interactions the score is that of the images alone
    shop = hybrid(interactions=0.0)
    made = shop.factors
    visual = made.user_visual.astype(np.float64) @ made.projection + made.visual_bias
    expected = visual @ (shop.embedded - shop.embedded.mean(axis=0, dtype=np.float64)).T
    assert shop.bank.queries @ shop.bank.items.T == pytest.approx(expected, abs=1e-3)


def test_a_share_that_is_reached_stops_the_attack_and_no_other_does():
    shop = hybrid()
    open_end = rows(shop, "apgd-20", block(stop="rank-1"))
    assert (open_end.gradient_steps == 20).all()
    stopped = rows(shop, "apgd-20", block(stop="rank-1", share=0.3))
    early = stopped.gradient_steps < 20
    assert early.any()
    assert (stopped[early].hr_after_10 >= 0.3).all()


def test_minimal_k_finds_the_smallest_budget_of_a_share():
    shop = hybrid()
    epsilons = (0.01, 0.05, 0.1)
    found = rows(shop, "minimal-60", block(share=0.5, epsilons=epsilons)).groupby("article_id")
    fixed = rows(shop, "apgd-60", block(share=0.5, stop="rank-1", epsilons=epsilons))
    for article, each in found:
        high = each.epsilon_high.iloc[0]
        reached = each[each.epsilon >= high]
        assert (reached.hr_after_10 >= 0.5).all()
        same = fixed[fixed.article_id == article]
        solved = same[same.hr_after_10 >= 0.5].epsilon.min()
        assert high <= solved * 1.05 or np.isnan(solved)


@pytest.mark.parametrize("attack", ["minimal-60", "apgd-20"])
def test_a_share_is_of_all_where_a_sample_guides(attack, monkeypatch):
    """What the sample alone says of a share is no verdict, and no reason to stop."""
    shop, wanted = hybrid(), block(range(12), share=0.5, stop="rank-1", epsilons=(0.05, 0.1))
    whole = rows(shop, attack, wanted)
    monkeypatch.setattr(promotions, "SAMPLE", 10)
    sampled = rows(shop, attack, wanted)
    assert not (whole.score_shift == sampled.score_shift).all()
    if attack == "minimal-60":
        found = np.isfinite(sampled.epsilon_high)
        assert (found == np.isfinite(whole.epsilon_high)).all()
        assert found.any()
        assert (sampled.epsilon_high <= 2.0 * whole.epsilon_high).all()
        assert (sampled.hr_after_10 >= 0.5)[sampled.epsilon >= sampled.epsilon_high].all()
        assert not (sampled.hr_after_10 >= 0.5)[sampled.epsilon < sampled.epsilon_low].any()
    else:
        stopped = sampled.gradient_steps < 20
        assert stopped.any()
        assert (sampled.hr_after_10 >= 0.5)[stopped].all()


def test_a_smallest_budget_that_reaches_no_share_is_taken_back():
    """Users who do not look at pixels are not reached by what was made on those who do."""
    shop, blind = hybrid(), hybrid(visual=0.0)
    wanted = block(range(12), share=0.5, epsilons=(0.05, 0.1))
    own, transferred = rows(shop, "minimal-60", wanted), rows(blind, "minimal-60", wanted, shop)
    assert (transferred.epsilon_low == own.epsilon_low).all()
    before = transferred.hr_before_10 >= 0.5
    assert before.any()
    assert np.isfinite(own.epsilon_high)[~before].any()
    assert np.isinf(transferred.epsilon_high)[~before].all()
    assert (transferred.epsilon_high == own.epsilon_high)[before].all()


def test_every_attack_of_the_registry_promotes_and_keeps_its_budget():
    shop = hybrid()
    for name in ("auto", "auto-1", "cw-4", "cw-exact-4", "apgd-l2-5", "pgd-decay-3", "square-5"):
        nested = name.startswith("auto")
        method = registry.build(name, nested=nested)
        wanted = block(nested=nested, stop="rank-1" if nested else "never", share=0.9)
        found = evaluate_block(shop, method, wanted).rows.to_pandas()
        assert len(found) == 18
        assert (found.linf <= found.epsilon + 1e-7).all()


def test_the_loss_hit_beats_the_loss_score_in_what_it_is_made_for():
    shop = hybrid()
    hit, score = (
        rows(shop, "apgd-20", block(range(20), loss=loss, epsilons=(0.01,)))
        for loss in ("hit", "score")
    )
    assert hit.hr_after_10.mean() > score.hr_after_10.mean()
    assert hit.score_shift.mean() < score.score_shift.mean()


def test_demotion_pushes_down_what_promotion_lifts():
    shop = hybrid()
    up, down = (
        rows(shop, "apgd-20", block(range(20), goal=goal, epsilons=(0.02,)))
        for goal in ("promote", "demote")
    )
    assert down.hr_after_10.mean() < down.hr_before_10.mean() < up.hr_after_10.mean()
    # of the mean score demotion is promotion's mirror image
    up, down = (
        rows(shop, "fgsm", block(loss="score", goal=goal, epsilons=(0.02,)))
        for goal in ("promote", "demote")
    )
    assert down.score_shift.to_numpy() == pytest.approx(-up.score_shift.to_numpy(), rel=1e-3)


def test_demotion_raises_no_article_where_it_has_steps_enough():
    """Those in many lists fall, those in none stay there; one long step may overshoot."""
    shop = hybrid()
    wanted = block(range(N), goal="demote", epsilons=(0.01, 0.05, 0.2), batch=N)
    found = rows(shop, "apgd-20", wanted)
    assert (found.hr_after_10 <= found.hr_before_10).all()
    many = found[(found.hr_before_10 >= 0.5) & (found.epsilon >= 0.05)]
    assert len(many) >= 4
    assert (many.hr_after_10 < many.hr_before_10).all()
    assert (many.median_rank_after > many.median_rank_before).all()
    assert (found.hr_before_10 == 0.0).any()
    # the loss is that of promotion with the other sign
    places, images = np.arange(6), to_images(PIXELS[:6])
    up, down = (
        Wishes(shop, block(goal=goal)).objective(places)(images) for goal in ("promote", "demote")
    )
    assert (down == -up).all()
    assert (up < 0.0).all()
    # on the way to the last iterate of few steps it may rise: the attack is weak, not the sign
    jump = rows(shop, "fgsm", wanted)
    assert jump.hr_after_10.mean() < jump.hr_before_10.mean()
    assert (jump.hr_after_10 > jump.hr_before_10).any()


def test_deliveries_are_columns_of_their_own():
    wanted = block(deliveries=("png", "jpeg-90"), through=("jpeg-90",), epsilons=(0.02,))
    found = rows(hybrid(), "apgd-5", wanted)
    assert {"hr_after_10_png", "hr_after_10_jpeg_90", "linf_jpeg_90"} <= {*found.columns}
    assert "linf_png" not in found.columns
    assert (found.gradient_steps == 10).all()


def test_a_sample_of_queries_guides_and_all_judge(monkeypatch):
    shop = hybrid()
    whole = rows(shop, "apgd-5", block(epsilons=(0.02,)))
    monkeypatch.setattr(promotions, "SAMPLE", 10)
    sampled = rows(shop, "apgd-5", block(epsilons=(0.02,)))
    assert (whole.audience_size == sampled.audience_size).all()
    assert (whole.hr_before_10 == sampled.hr_before_10).all()
    assert not (whole.score_shift == sampled.score_shift).all()


def test_the_queries_of_a_sample_keep_their_weights(monkeypatch):
    monkeypatch.setattr(promotions, "SAMPLE", 10)
    shop, own = hybrid(), np.arange(1.0, USERS + 1)
    weighted = Audience("users", EVERYONE.query_ids, own)
    asked = Wishes(shop, block(audience=weighted)).objective(np.arange(6)).asked
    assert len(asked.queries) == 10
    (same,) = np.nonzero((shop.bank.queries[:, None] == asked.queries.numpy()).all(2).any(1))
    members = weighted.members(shop.bank, np.arange(6, dtype=np.int32))[:, same]
    expected = members / members.sum(axis=1, keepdims=True)
    assert asked.weights.numpy() == pytest.approx(expected)


def test_improved_is_the_share_of_the_audience_that_sees_the_article_higher():
    shop, own = hybrid(), np.arange(1.0, USERS + 1)
    wanted = block(audience=Audience("users", EVERYONE.query_ids, own), epsilons=(0.01,))
    wanted = dataclasses.replace(wanted, keeps_ranks=np.ones(6, dtype=bool))
    outcomes = evaluate_block(shop, registry.by_name("apgd-3"), wanted)
    found = outcomes.rows.to_pandas().set_index("article_id").improved
    for article, ranks in outcomes.ranks.to_pandas().groupby("article_id"):
        weights = wanted.audience.members(shop.bank, np.array([article], dtype=np.int32))[0]
        higher = (ranks.rank_after < ranks.rank_before).to_numpy()
        assert found[article] == pytest.approx(weights[higher].sum() / weights.sum())
        assert (ranks.rank_after == ranks.rank_before).any()
    assert (found > 0.0).all()


def test_the_loss_embedding_goes_to_the_best_seller():
    shop = hybrid()
    best = np.bincount(shop.bank.seen.articles).argmax()
    assert best > 0
    hook = Wishes(shop, block(loss="embedding")).objective(np.arange(6)).hook
    assert torch.equal(hook, torch.from_numpy(shop.embedded[best]))
    # before targets to the heaviest of them
    similar = Recommender.similar_articles(linear, shop.embedded)
    targets = Audience("targets", np.array([9, 17, 30], np.int32), np.array([1.0, 3.0, 2.0]))
    wanted = block(loss="embedding", audience=targets)
    hook = Wishes(similar, wanted).objective(np.arange(6)).hook
    assert torch.equal(hook, torch.from_numpy(shop.embedded[17]))


def test_rows_do_not_depend_on_the_batch():
    shop = hybrid()
    one, four = (rows(shop, "apgd-5", block(batch=batch)) for batch in (1, 4))
    for column in AFTER:
        assert (one[column.format("after")] == four[column.format("after")]).all()


def test_an_article_that_all_have_bought_has_no_audience():
    shop = hybrid()
    bank = dataclasses.replace(shop.bank, seen=Seen.of([[0]] * USERS))
    shop = dataclasses.replace(shop, index=type(shop.index)(bank))
    found = rows(shop, "pgd-2", block(range(2), epsilons=(0.02,)))
    assert found.audience_size.tolist() == [0, USERS]
