import numpy as np
import pytest
import torch

from advrec.attacks.apgd import APGD
from advrec.attacks.gradient import PGD
from advrec.attacks.objective import Misclassification
from advrec.attacks.problem import Problem
from advrec.catalog.dataset import Catalog
from advrec.model.encoder import frozen
from advrec.model.fashionnet import Logits
from advrec.training import data, loop, quality, recipe
from advrec.training.schedule import Curriculum, Fixed
from tests.conftest import small_network, study


def walk(schedule, scores):
    """k before each epoch, and the verdict after it."""
    seen = []
    for score in scores:
        k = schedule.attack_steps
        seen.append((k, *schedule.update(score)))
        if seen[-1][-1]:
            break
    return seen


def test_the_curriculum_steps_up_after_patience_and_restores_the_best():
    schedule = Curriculum(ks=(0, 1), epsilons=(0.03, 0.03), patience=2, epochs=10)
    best, restore, finished = True, True, True
    assert walk(schedule, [0.5, 0.7, 0.6, 0.7, 0.1, 0.3, 0.2, 0.3, 0.9]) == [
        (0, best, not restore, not finished),
        (0, best, not restore, not finished),
        (0, not best, not restore, not finished),
        (0, not best, restore, not finished),  # a tie is no gain
        # the best of a new k does not have to beat the last k's
        (1, best, not restore, not finished),
        (1, best, not restore, not finished),
        (1, not best, not restore, not finished),
        (1, not best, restore, finished),
    ]


def test_the_curriculum_spends_at_most_its_epochs_on_one_k():
    schedule = Curriculum(ks=(0, 2, 8), epsilons=(0.01, 0.02, 0.03), patience=5, epochs=2)
    ks = [step[0] for step in walk(schedule, [n / 100 for n in range(100)])]
    assert ks == [0, 0, 2, 2, 8, 8]


def test_a_fixed_schedule_keeps_the_best_epoch():
    seen = walk(Fixed(epochs=3, attack_steps=8, epsilon=0.03), [0.1, 0.9, 0.5])
    assert [step[1] for step in seen] == [True, True, False]
    assert seen[-1] == (8, False, True, True)


def test_all_workers_together_see_every_article_of_a_batch_once(catalog: Catalog):
    ids = catalog.ids_of("train")
    alone = list(data.shuffled(ids, 16, seed=1, epoch=2, rank=0, world=1))
    pairs = zip(
        *(data.shuffled(ids, 16, seed=1, epoch=2, rank=r, world=2) for r in range(2)), strict=True
    )
    for whole, parts in zip(alone, pairs, strict=True):
        assert sorted(whole) == sorted([*parts[0], *parts[1]])
    spec = study(models={"m": {"defense": "free", "replays": 3, "batch": 16}}).models["m"]
    assert spec.steps_an_epoch(len(ids)) == 3 * len(alone)
    assert spec.steps_an_epoch(15) == 3  # of an incomplete batch that is the only one
    assert len({int(i) for batch in alone for i in batch}) == 16 * len(alone)


@pytest.mark.parametrize("augment", [recipe.shifted, recipe.rotated])
def test_augmentation_is_seeded_and_keeps_the_box(augment):
    images = torch.rand(6, 3, 32, 32)
    first, again, other = (
        augment(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == images.shape
    assert first.min() >= 0
    assert first.max() <= 1


def test_the_learning_rate_rises_to_the_full_one_and_falls_to_nothing():
    rates = [recipe.ADVREC.rate(step, 200) for step in range(200)]
    peak = rates.index(max(rates))
    assert peak == 30  # 15 % of the steps
    assert rates[peak] == 1.0
    assert rates[0] < 0.04
    assert rates[-1] < 1e-3
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert {recipe.PUBLISHED.rate(step, 200) for step in range(200)} == {1.0}
    assert recipe.ADVREC.rate(7, None) == 1.0  # a curriculum's length is not known


def test_training_learns_selects_on_validation_and_measures_on_test(catalog: Catalog):
    network = small_network(catalog)
    spec = study(
        models={"m": {"defense": "none", "epochs": 8, "batch": 16, "learning_rate": 0.002}}
    ).models["m"]
    fitted = loop.fit(network, spec, catalog, seed=3)
    losses = [epoch.train_loss for epoch in fitted.history]
    assert losses[-1] < losses[0] * 0.8
    assert fitted.measure()["n"] == len(catalog.ids_of("test"))
    ids = catalog.ids_of("validation")
    best = max(epoch.validation_clean_accuracy for epoch in fitted.history)
    assert float(quality.count(frozen(fitted.network), catalog, ids)[1]) / len(ids) == best


def test_the_same_seed_gives_the_same_weights(catalog: Catalog):
    spec = study(
        models={"m": {"defense": "cat", "max_steps": 1, "patience": 1, "epochs": 1, "batch": 32}}
    ).models["m"]
    first, second = (loop.fit(small_network(catalog), spec, catalog, seed=3) for _ in range(2))
    assert [e.attack_steps for e in first.history] == [0, 1]
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name])


def test_accuracy_counts_against_a_plain_loop(catalog: Catalog):
    network = frozen(small_network(catalog))
    ids = catalog.ids_of("test")
    counts = quality.count(network, catalog, ids, batch=5)
    right = top5 = texture = 0
    for article in ids:
        images, categories, textures, _ = data.load(catalog, [article], torch.device("cpu"))
        logits = network(images)
        order = logits.category[0].argsort(descending=True).tolist()
        right += order[0] == categories[0]
        top5 += int(categories[0]) in order[:5]
        texture += bool(textures[0, logits.texture[0].argmax()])
    assert counts.tolist() == [len(ids), right, top5, len(ids), texture]


class Linear(torch.nn.Module):
    """A classifier by random weights: no constant prediction, and every attack finds its way."""

    def __init__(self, categories: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("weight", torch.randn(categories, 3, 32, 32))

    def forward(self, images):
        return Logits(torch.einsum("nchw,kchw->nk", images - 0.5, self.weight), None)


def test_the_strong_attack_is_made_where_the_published_one_fails(catalog: Catalog):
    """An image counts as right if it withstands both; the second is not made on the others."""
    network = Linear(len(catalog.categories)).eval()
    ids = catalog.ids_of("train")
    images, categories, textures, _ = data.load(catalog, ids, torch.device("cpu"))
    budgets = torch.full((len(ids),), 0.004, dtype=torch.float64)
    problem = Problem(Misclassification(network, categories, textures), images, budgets)
    made: list[int] = []

    class Counted(APGD):
        def __call__(self, problem):
            made.append(len(problem.images))
            return super().__call__(problem)

    def right(images):
        with torch.no_grad():
            return network(images).category.argmax(1) == categories

    weak, strong = PGD(steps=1, step_scale=0.2), Counted(steps=6)
    withstand = right(weak(problem).images)
    both = withstand & right(APGD(steps=6)(problem).images)
    counts = quality.count(network, catalog, ids, attacks=(weak, strong), epsilon=0.004)
    assert 0 < int(both.sum()) < int(withstand.sum()) < len(ids), "or nothing is tested"
    assert counts[1] == both.sum()
    assert sum(made) == withstand.sum()


def test_the_metrics_say_which_split_chose_the_best_epoch(prepared, catalog: Catalog):
    """Without a validation split the test split chooses, as the study did, and that must not pass
    unseen.
    """
    spec = study(models={"m": {"defense": "none", "epochs": 1}}).models["m"]
    assert (
        loop.fit(small_network(catalog), spec, catalog, seed=1).measure()["selected_on"]
        == "validation"
    )
    merged = Catalog(prepared)
    merged._splits = np.where(merged._splits == "validation", "train", merged._splits)
    fitted = loop.fit(small_network(merged), spec, merged, seed=1)
    assert fitted.measure()["selected_on"] == "test"
    assert fitted.history[0].validation_clean_accuracy == fitted.measure()["clean_accuracy"]
