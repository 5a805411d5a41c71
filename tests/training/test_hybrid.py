"""Trainings of hybrids: their losses by the formula, AMR's perturbation, planted tastes that only
images can tell, and a training that was killed.
"""

import numpy as np
import pytest
import torch

from advrec.recommenders.hybrid import SHAPES
from advrec.recommenders.purchases import Purchases
from advrec.spec.hybrids import Amr, Bpr, Vbpr
from advrec.training import hybrid
from advrec.training.hybrid import Training, Triple

KINDS = {"vbpr": Vbpr, "amr": Amr, "bpr": Bpr}


def entry(kind, **keys):
    return KINDS[kind](recommender=kind, encoder="e", **keys)


def bought(seed=0, users=9, articles=14, each=4):
    random = np.random.default_rng(seed)
    lists = np.array([random.permutation(articles)[:each] for _ in range(users)])
    owners = np.repeat(np.arange(users), each)
    return Purchases(
        owners.astype(np.int32),
        lists.ravel().astype(np.int32),
        num_users=users,
        num_articles=articles,
    )


def training(kind, **keys):
    """A training in the midst of its work, in float64."""
    embeddings = np.random.default_rng(1).normal(size=(14, 6)).astype(np.float32)
    spec = entry(kind, factors=3, epochs=2, batch=8, **keys)
    made = Training(spec, embeddings, bought(), seed=5)
    while not made.finished:
        made.epoch()
    made.preferences.double()
    made._features = made._features.double()
    return made


DISTINCT = Triple(*(torch.tensor(each) for each in ([0, 3, 3, 8], [1, 2, 5, 0], [7, 9, 13, 6])))
"""Articles of one pair each: in a batch, AMR moves an article that two pairs share for both."""
TRIPLE = Triple(*(torch.tensor(each) for each in ([0, 3, 3, 8], [1, 2, 5, 0], [7, 7, 13, 6])))


def expected_score(kind, weights, user, article, feature):
    """The score by the formula of its kind, one at a time."""
    own = weights["user_factors"][user]
    total = own @ weights["item_factors"][article]
    if kind != "amr":
        total = total + weights["item_bias"][article]
    if kind == "vbpr":
        total = total + weights["user_visual"][user] @ (weights["projection"] @ feature)
        total = total + weights["visual_bias"] @ feature
    if kind == "amr":
        total = total + own @ (weights["projection"] @ feature)
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_05_losses_are_one_value_a_triple_and_those_of_the_formula(kind):
    keys = {"decay": 0.3} if kind == "amr" else {"decay": 0.3, "bias_decay": 0.2}
    keys |= {} if kind == "bpr" else {"visual_decay": 0.1}
    keys |= {"epsilon": 0.1, "weight": 0.7, "clean_epochs": 0} if kind == "amr" else {}
    made = training(kind, **keys)
    together = made.losses(DISTINCT)
    assert together.shape == (4,)
    alone = [made.losses(Triple(*(each[[n]] for each in DISTINCT))) for n in range(4)]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-12)
    weights = {name: value.detach() for name, value in made.preferences.named_parameters()}
    for n, (user, first, second) in enumerate(
        zip(*(each.tolist() for each in DISTINCT), strict=True)
    ):
        features = made._features[first], made._features[second]
        pairs = [features]
        if kind == "amr":
            direction = weights["projection"].T @ weights["user_factors"][user]
            step = 0.1 * direction / direction.norm()
            pairs.append((features[0] - step, features[1] + step))
        losses = [
            -torch.nn.functional.logsigmoid(
                expected_score(kind, weights, user, first, pair[0])
                - expected_score(kind, weights, user, second, pair[1])
            )
            for pair in pairs
        ]
        squares = weights["user_factors"][user].square().sum()
        squares += weights["item_factors"][[first, second]].square().sum()
        if kind == "vbpr":
            squares += weights["user_visual"][user].square().sum()
        loss = losses[0] + 0.3 * squares + (0.7 * losses[1] if kind == "amr" else 0.0)
        if kind != "amr":
            loss += 0.2 * weights["item_bias"][[first, second]].square().sum()
        if kind != "bpr":
            loss += 0.1 * weights["projection"].square().sum()
        if kind == "vbpr":
            loss += 0.1 * weights["visual_bias"].square().sum()
        assert torch.allclose(together[n], loss, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_05_gradients_are_finite_differences(kind):
    made = training(kind)
    parameters = dict(made.preferences.named_parameters())
    made.preferences.zero_grad()
    made.losses(DISTINCT).sum().backward()
    random = np.random.default_rng(0)
    for name, parameter in parameters.items():
        place = tuple(random.integers(size) for size in parameter.shape)
        place = (3, *place[1:]) if name.startswith("user") else place
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter[place] += step
                ends.append(float(made.losses(DISTINCT).sum()))
                parameter[place] -= step
        slope = float(parameter.grad[place])
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope, rel=1e-5, abs=1e-7), name


def test_06_amr_adds_what_raises_the_loss():
    made = training("amr", clean_epochs=0)
    features, weights = made._features, made.preferences
    moved = hybrid.perturbed(weights, TRIPLE, features, 0.1)
    clean = features[TRIPLE.bought], features[TRIPLE.others]
    for before, after in zip(clean, moved, strict=True):
        assert (after - before).norm(dim=1) == pytest.approx(torch.full((4,), 0.1).double())
    raised = hybrid.ranking_losses(weights, TRIPLE, moved).sum()
    assert raised > hybrid.ranking_losses(weights, TRIPLE, clean).sum()
    assert (moved[1][0] == moved[1][1]).all()  # one article, one perturbation
    for number in range(50):  # and no other perturbation of that length raises it more
        noise = torch.randn(features.shape, generator=torch.Generator().manual_seed(number))
        other = features + 0.1 * noise.double() / noise.double().norm(dim=1, keepdim=True)
        pair = other[TRIPLE.bought], other[TRIPLE.others]
        assert hybrid.ranking_losses(weights, TRIPLE, pair).sum() < raised


def test_06_the_perturbation_is_that_of_finite_differences_and_no_gradient_flows_through_it():
    made = training("amr", clean_epochs=0)
    features, weights = made._features, made.preferences
    moved = hybrid.perturbed(weights, TRIPLE, features, 0.1)
    assert not any(each.requires_grad for each in moved)
    slope = torch.zeros(6).double()
    for value in range(6):
        losses = []
        for step in (1e-5, -1e-5):
            changed = features.clone()
            changed[7, value] += step
            pair = changed[TRIPLE.bought], changed[TRIPLE.others]
            losses.append(hybrid.ranking_losses(weights, TRIPLE, pair).sum().item())
        slope[value] = (losses[0] - losses[1]) / 2e-5
    assert torch.allclose(moved[1][0] - features[7], 0.1 * slope / slope.norm(), atol=1e-6)


def test_amr_is_trained_on_clean_features_first():
    embeddings = np.random.default_rng(1).normal(size=(14, 6)).astype(np.float32)
    runs = {}
    for epsilon in (0.1, 5.0):
        spec = entry("amr", factors=3, epochs=1, clean_epochs=2, epsilon=epsilon)
        made = hybrid.fit(spec, embeddings, bought(), seed=0)
        runs[epsilon] = [epoch.train_loss for epoch in made.history]
        assert [epoch.attack_steps for epoch in made.history] == [0, 0, 1]
    assert runs[0.1][:2] == runs[5.0][:2]
    assert runs[0.1][2] < runs[5.0][2]


def planted(seed, users=200, articles=240, each=14, groups=5):
    """Tastes for labels, purchases by them among the warm articles, and embeddings that tell labels
    through a random mixture: truth (U, N), cold (N,), purchases, embeddings (N, 40).
    """
    random = np.random.default_rng(seed)
    labels = np.hstack([np.eye(7)[random.integers(7, size=articles)] for _ in range(2)])
    tastes = 1.2 * random.normal(size=(groups, 14))
    group = random.integers(groups, size=users)
    truth = (tastes[group] + 0.2 * random.normal(size=(users, 14))) @ labels.T
    cold = random.permutation(articles) < 0.3 * articles
    drawn = np.where(cold, -np.inf, truth + random.gumbel(size=truth.shape))
    lists = np.argsort(-drawn, axis=1)[:, :each]
    owners = np.repeat(np.arange(users), each)
    purchases = Purchases(
        owners.astype(np.int32),
        lists.ravel().astype(np.int32),
        num_users=users,
        num_articles=articles,
    )
    seen = np.maximum(labels @ random.normal(size=(14, 40)), 0.0)
    embeddings = 3.0 + 20.0 * (seen + 0.3 * random.normal(size=seen.shape))
    return truth, cold, purchases, embeddings.astype(np.float32)


def cold_correlation(kind, embeddings, truth, cold, purchases):
    spec = entry(kind)
    made = hybrid.fit(spec, embeddings, purchases, seed=3)
    factors = made.factors()
    ids = np.arange(len(cold), dtype=np.int32)
    scores = factors.queries() @ factors.candidates(embeddings, ids).T
    pairs = zip(scores[:, cold], truth[:, cold], strict=True)
    return np.mean([np.corrcoef(own, true)[0, 1] for own, true in pairs])


def test_08_planted_tastes_for_what_images_show_are_found_for_cold_articles():
    truth, cold, purchases, embeddings = planted(0)
    shuffled = np.random.default_rng(1).permutation(embeddings)
    world = (truth, cold, purchases)
    assert cold_correlation("vbpr", embeddings, *world) >= 0.6
    assert cold_correlation("amr", embeddings, *world) >= 0.6
    assert abs(cold_correlation("vbpr", shuffled, *world)) <= 0.1
    assert abs(cold_correlation("bpr", embeddings, *world)) <= 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_09_a_training_that_was_killed_ends_with_the_same_factors(kind, tmp_path):
    embeddings = np.random.default_rng(1).normal(size=(14, 6)).astype(np.float32)
    keys = {"clean_epochs": 2} if kind == "amr" else {}
    spec = entry(kind, factors=3, epochs=4, batch=8, **keys)

    def stop(epoch):
        if epoch.epoch == 3:
            raise KeyboardInterrupt

    path = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        hybrid.fit(spec, embeddings, bought(), seed=0, checkpoint=path, on_epoch=stop)
    made = [
        hybrid.fit(spec, embeddings, bought(), seed=0, checkpoint=path),
        hybrid.fit(spec, embeddings, bought(), seed=0),
    ]
    assert [len(each.history) for each in made] == [spec.total_epochs] * 2
    first, second = (each.factors() for each in made)
    for name in SHAPES:
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [8, 256])
def test_a_training_that_diverges_leaves_no_checkpoint(kind, batch, tmp_path):
    """Of one batch an epoch the loss is finite still, and the values are not."""
    embeddings = np.random.default_rng(1).normal(size=(14, 6)).astype(np.float32)
    path = tmp_path / "state.safetensors"
    spec = entry(kind, factors=3, epochs=4, batch=batch, learning_rate=1e39)
    with pytest.raises(FloatingPointError, match="after epoch 1 its values are not finite"):
        hybrid.fit(spec, embeddings, bought(), seed=0, checkpoint=path)
    assert not path.exists()


def test_every_epoch_and_every_seed_draws_anew(monkeypatch):
    met, epoch = [], Purchases.epoch
    embeddings = np.random.default_rng(1).normal(size=(14, 6)).astype(np.float32)

    def noted(self, random, batch):
        for each in epoch(self, random, batch):
            met.append(np.stack(each).tobytes())
            yield each

    monkeypatch.setattr(Purchases, "epoch", noted)
    for seed in (0, 1, 0):
        hybrid.fit(entry("bpr", epochs=3), embeddings, bought(), seed=seed)
    assert len({*met[:6]}) == 6
    assert met[6:] == met[:3]


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_of_embeddings_changes_no_score(kind):
    embeddings = np.random.default_rng(1).normal(size=(14, 6)).astype(np.float32)
    ids, scores = np.arange(14, dtype=np.int32), []
    for scale in (1.0, 1024.0):
        made = hybrid.fit(entry(kind, epochs=3), embeddings * scale, bought(), seed=0)
        factors = made.factors()
        scores.append(factors.queries() @ factors.candidates(embeddings * scale, ids).T)
    assert np.allclose(*scores, rtol=1e-4, atol=1e-5)


def test_what_all_embeddings_have_in_common_changes_no_order():
    embeddings = np.random.default_rng(1).integers(-8, 9, size=(14, 6)).astype(np.float32)
    scores = []
    for shift in (0.0, 2.0**22):  # sums that float32 holds
        shifted = embeddings + np.float32(shift)
        made = hybrid.fit(entry("vbpr", epochs=9, batch=8), shifted, bought(), seed=0).factors()
        visual = made.user_visual.astype(np.float64) @ made.projection + made.visual_bias
        own = made.item_bias + made.user_factors @ made.item_factors.T + visual @ shifted.T
        scores.append(own - own.mean(axis=1, keepdims=True))
    assert np.allclose(*scores, atol=1e-4 * np.abs(scores[0]).max())


def test_factors_of_amr_are_those_of_both_parts_and_bpr_has_zeros():
    embeddings = np.random.default_rng(1).normal(size=(14, 6)).astype(np.float32)
    made = {kind: hybrid.fit(entry(kind, epochs=1), embeddings, bought(), seed=0) for kind in KINDS}
    found = {kind: each.factors() for kind, each in made.items()}
    assert (found["amr"].user_factors == found["amr"].user_visual).all()
    assert not found["amr"].item_bias.any()
    assert not found["amr"].visual_bias.any()
    bpr = found["bpr"]
    assert not any(each.any() for each in (bpr.user_visual, bpr.projection, bpr.visual_bias))
    assert found["vbpr"].item_bias.any()


def test_others_are_uniform_among_what_a_user_has_not_bought():
    purchases = bought(users=3, articles=10, each=7)
    users = np.repeat(np.arange(3, dtype=np.int32), 6000)
    drawn = purchases.others(users, np.random.default_rng(0))
    for user in range(3):
        counts = np.bincount(drawn[users == user], minlength=10)
        own = purchases.articles[purchases.users == user]
        assert not counts[own].any()
        assert np.allclose(np.delete(counts, own), 2000, atol=200)


def test_every_purchase_is_met_once_an_epoch_but_those_of_who_has_everything():
    users = np.array([0, 0, 1, 1, 1, 2], dtype=np.int32)
    articles = np.array([0, 2, 0, 1, 2, 1], dtype=np.int32)
    purchases = Purchases(users, articles, num_users=3, num_articles=3)
    triples = list(purchases.epoch(np.random.default_rng(0), batch=2))
    met = {pair for each in triples for pair in zip(each.users, each.bought, strict=True)}
    assert met == {(0, 0), (0, 2), (2, 1)}
    assert len(purchases) == 3
