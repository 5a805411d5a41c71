"""Each defense against what its paper says, on networks small enough to compute it by hand."""

import copy
import dataclasses

import pytest
import torch
from torch.nn import functional

from advrec.attacks.budget import linf
from advrec.model.encoder import frozen
from advrec.model.fashionnet import Logits
from advrec.recommenders.losses import cosine_distance
from advrec.training import data, judges, loop, recipe
from advrec.training.defenses import adversarial, curriculum, trades
from advrec.training.defenses.base import Outputs, build, misclassification
from advrec.training.schedule import Curriculum, Stage
from tests.conftest import small_network, study

EPSILON = 0.05
STAGE = Stage(4, EPSILON)


def defense(**entry):
    spec = study(models={"m": {"epochs": 1, **entry}}).models["m"]
    return build(spec, recipe.RECIPES[spec.recipe])


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def network(catalog):
    return small_network(catalog)


@pytest.fixture
def batch(catalog):
    return data.load(catalog, catalog.ids_of("train")[:12], torch.device("cpu"))


def loss_of(network, batch, images):
    return -misclassification(network, batch)(images)


def test_a_mixed_batch_has_equal_shares_of_every_k():
    assert curriculum.shares(32, 8) == [8] * 8 + [k for k in range(7, -1, -1) for _ in range(3)]
    assert curriculum.shares(4, 0) == [0] * 4
    for images in range(1, 40):
        for steps in range(9):
            ks = curriculum.shares(images, steps)
            assert len(ks) == images
            assert ks == sorted(ks, reverse=True)


@pytest.mark.parametrize(
    ("entry", "hurts", "furthest"),
    [
        ({"defense": "at"}, True, EPSILON),
        ({"defense": "cat"}, True, EPSILON),
        ({"defense": "cat", "mixing": False}, True, EPSILON),
        ({"defense": "trades"}, False, EPSILON),
        ({"defense": "n-fgsm"}, True, 3 * EPSILON),
        ({"defense": "fat", "tau": 4}, True, EPSILON),
        ({"defense": "act"}, False, EPSILON),
    ],
    ids=str,
)
def test_crafting_stays_in_budget_and_hurts_and_leaves_the_network_alone(
    network, batch, entry, hurts, furthest
):
    network.train()
    attacked = frozen(network)
    before = {name: value.clone() for name, value in attacked.state_dict().items()}
    (images,) = defense(**entry).craft(attacked, batch, STAGE, stream())
    assert (linf(batch.images, images) <= furthest).all()
    assert linf(batch.images, images).max() > 0.5 * EPSILON
    if hurts:
        assert (
            loss_of(attacked, batch, images).mean()
            > loss_of(attacked, batch, batch.images).mean() + 0.01
        )
    assert all(torch.equal(before[name], value) for name, value in attacked.state_dict().items())
    assert all(parameter.grad is None for parameter in attacked.parameters())


def test_adversarial_training_as_published_is_the_plain_loop_in_training_mode(network, batch):
    """k steps of epsilon / k from the clean image; dropout acts and running statistics move with
    every step.
    """
    network.train()
    plain, images = copy.deepcopy(network), batch.images
    torch.manual_seed(1)
    (crafted,) = defense(defense="at", recipe="published", steps=4).craft(
        network, batch, STAGE, stream()
    )
    torch.manual_seed(1)
    for _ in range(4):
        images = images.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss_of(plain, batch, images).sum(), images)
        moved = images.detach() + EPSILON / 4 * gradient.sign()
        images = torch.max(torch.min(moved, batch.images + EPSILON), batch.images - EPSILON).clamp(
            0, 1
        )
    assert torch.allclose(crafted, images, atol=1e-6)
    for name, value in network.state_dict().items():
        assert torch.allclose(value, plain.state_dict()[name], atol=1e-6), name


def test_the_published_curriculum_attacks_each_share_as_a_batch_of_its_own(network, batch):
    """Which the running statistics tell: each step of each share moves them."""
    network.train()
    counted = next(
        module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)
    )
    before = int(counted.num_batches_tracked)
    (images,) = defense(defense="cat", recipe="published", max_steps=3).craft(
        network, batch, Stage(3, EPSILON), stream()
    )
    assert int(counted.num_batches_tracked) - before == 3 + 2 + 1
    assert torch.equal(images[9:], batch.images[9:])  # k = 0 has the last three
    assert (linf(batch.images[:9], images[:9]) > 0).all()


def test_workers_share_out_the_mix_of_the_whole_batch(network, batch):
    entry = defense(defense="cat", max_steps=3)
    halves = [data.Batch(*(part[rank::2] for part in batch[:3])) for rank in range(2)]
    attacked = frozen(network)
    for rank, half in enumerate(halves):
        (images,) = entry.craft(attacked, half, Stage(3, EPSILON, rank, 2), stream())
        changed = (linf(half.images, images) > 0).tolist()
        assert changed == [k > 0 for k in curriculum.shares(12, 3)[rank::2]]


@pytest.mark.parametrize(
    ("entry", "ramp"), [({"ramp": 0.5}, 0.5), ({}, 0.7), ({"recipe": "published"}, 0.0)]
)
def test_the_budget_of_adversarial_training_grows_while_epochs_are_compared_under_all_of_it(
    catalog, monkeypatch, entry, ramp
):
    spec = study(
        models={
            "m": {
                "defense": "at",
                "steps": 1,
                "epochs": 2,
                "batch": 16,
                "epsilon": EPSILON,
                **entry,
            }
        }
    ).models["m"]
    trained, compared = [], []

    def craft(self, network, batch, stage, generator):
        trained.append(stage.epsilon)
        yield batch.images

    def count(*arguments, attacks=(), epsilon=None):
        compared.append(epsilon)
        return torch.tensor([1, 1, 1, 1, 1])

    monkeypatch.setattr(adversarial.Adversarial, "craft", craft)
    monkeypatch.setattr(judges.quality, "count", count)
    training = loop.Training(small_network(catalog), spec, catalog, seed=3)
    training.epoch()
    training.epoch()
    steps = len(trained)
    assert trained == pytest.approx(
        [
            EPSILON * min((step + 1) / (ramp * steps), 1.0) if ramp else EPSILON
            for step in range(steps)
        ]
    )
    assert trained[-1] == EPSILON
    assert compared == [0.0, EPSILON] * 2


def test_a_curriculum_may_skip_steps_and_ramp_its_budget():
    schedule = defense(defense="cat", ks=[0, 2, 8], ramp=True, epsilon=0.03).schedule()
    assert schedule == Curriculum(ks=(0, 2, 8), epsilons=(0.01, 0.02, 0.03), patience=10, epochs=1)
    assert defense(defense="cat", max_steps=2, epsilon=0.03).schedule().ks == (0, 1, 2)


def test_noisy_fgsm_is_one_step_from_noise_twice_the_budget(network, batch):
    attacked = frozen(network)
    noisy = (
        batch.images + 2 * EPSILON * (2 * torch.rand(batch.images.shape, generator=stream()) - 1)
    ).clamp(0, 1)
    asked = noisy.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss_of(attacked, batch, asked).sum(), asked)
    (images,) = defense(defense="n-fgsm").craft(attacked, batch, STAGE, stream())
    assert torch.allclose(images, (noisy + EPSILON * gradient.sign()).clamp(0, 1), atol=1e-6)


def test_free_training_moves_images_by_the_gradient_of_the_training_step(network, batch):
    free = dataclasses.replace(defense(defense="free", replays=3), recipe=recipe.PUBLISHED)
    network.eval()
    expected, seen = batch.images, 0
    for images in free.craft(network, batch, STAGE, stream()):
        assert torch.allclose(images, expected, atol=1e-6)
        free.loss(lambda x: Outputs(network(x), x), batch, images).backward()
        assert network.category_head.weight.grad is not None  # one backward pass for both
        stepped = images.detach() + EPSILON * images.grad.sign()
        expected = torch.max(
            torch.min(stepped, batch.images + EPSILON), batch.images - EPSILON
        ).clamp(0, 1)
        seen += 1
    assert seen == free.replays == 3


def test_friendly_training_stops_where_an_image_is_misclassified(network, batch):
    attacked = frozen(network)
    # all are right before
    batch = batch._replace(categories=attacked(batch.images).category.argmax(1))
    for tau in (0, 1):
        friendly = dataclasses.replace(
            defense(defense="fat", tau=tau), recipe=recipe.PUBLISHED, epsilon=EPSILON, steps=6
        )
        (found,) = friendly.craft(attacked, batch, Stage(6, EPSILON), stream())
        stopped = 0
        for place in range(len(found)):
            one = data.Batch(*(part[place : place + 1] for part in batch[:3]))
            image, left = one.images, tau
            for _ in range(6):
                asked = image.clone().requires_grad_(True)
                (gradient,) = torch.autograd.grad(loss_of(attacked, one, asked).sum(), asked)
                if attacked(image).category.argmax(1) != one.categories:
                    if not left:
                        stopped += 1
                        break
                    left -= 1
                moved = image + EPSILON / 6 * gradient.sign()
                image = torch.max(
                    torch.min(moved, one.images + EPSILON), one.images - EPSILON
                ).clamp(0, 1)
            assert torch.allclose(found[place : place + 1], image, atol=1e-5)
        assert stopped


def test_the_divergence_of_trades_is_kullback_leibler():
    from torch.distributions import Bernoulli, Categorical, kl_divergence

    clean, attacked = (Logits(torch.randn(5, 4), torch.randn(5, 3)) for _ in range(2))
    expected = kl_divergence(
        Categorical(logits=clean.category), Categorical(logits=attacked.category)
    )
    expected += kl_divergence(
        Bernoulli(logits=clean.texture), Bernoulli(logits=attacked.texture)
    ).mean(1)
    assert torch.allclose(trades.divergence(clean, attacked), expected, atol=1e-6)
    assert torch.allclose(trades.divergence(clean, clean), torch.zeros(5), atol=1e-6)


def test_trades_attacks_agreement_and_weighs_it_by_beta(network, batch):
    attacked = frozen(network)
    (images,) = defense(defense="trades").craft(attacked, batch, STAGE, stream())
    random = batch.images + EPSILON * (2 * torch.rand(batch.images.shape, generator=stream()) - 1)
    clean = attacked(batch.images)
    assert (
        trades.divergence(clean, attacked(images)) > 2 * trades.divergence(clean, attacked(random))
    ).all()
    network.eval()
    moved = (batch.images + 0.05).clamp(0, 1)

    def loss(beta):
        return defense(defense="trades", beta=beta).loss(
            lambda x: Outputs(network(x), x), batch, moved
        )

    weight = recipe.ADVREC.texture_weight(batch)
    divergence = trades.divergence(network(batch.images), network(moved), weight).mean()
    assert torch.allclose(loss(6.0) - loss(1.0), 5.0 * divergence, atol=1e-4)
    assert torch.allclose(
        loss(1.0) - divergence, recipe.ADVREC.loss(network(batch.images), batch), atol=1e-4
    )


def test_anti_collapse_moves_images_towards_other_articles_and_asks_to_stay_by_a_margin(
    network, batch
):
    attacked = frozen(network)
    act = defense(defense="act", margin=0.2, weight=4.0)
    (images,) = act.craft(attacked, batch, STAGE, stream())
    targets = attacked.embed(batch.images).roll(1, 0)
    assert (
        cosine_distance(attacked.embed(images), targets)
        < cosine_distance(attacked.embed(batch.images), targets)
    ).all()

    # Embeddings by hand: the first image lies between itself (1, 0) and the other (0, 1), the
    # second has not moved.
    two = data.Batch(batch.images[:2], torch.tensor([0, 1]), None)
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    logits = Logits(torch.zeros(4, 2), None)
    loss = act.loss(lambda x: Outputs(logits, embeddings), two, two.images)
    classes = functional.cross_entropy(torch.zeros(2, 2), two.categories)
    assert torch.allclose(loss, classes + 4.0 * (0.2 + 0.0) / 2)
    # of one category: no tuple, so nothing to keep apart
    same = two._replace(categories=torch.tensor([1, 1]))
    assert torch.allclose(
        act.loss(lambda x: Outputs(logits, embeddings), same, two.images), classes
    )
