import numpy as np
import torch

from advrec.attacks.budget import linf
from advrec.catalog.dataset import Catalog
from advrec.model.encoder import frozen
from advrec.training import data, defenses, loop, quality
from advrec.training.curriculum import Curriculum, Fixed
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
    schedule = Curriculum(max_steps=1, patience=2, epochs=10)
    best, restore, finished = True, True, True
    assert walk(schedule, [0.5, 0.7, 0.6, 0.7, 0.1, 0.3, 0.2, 0.3, 0.9]) == [
        (0, best, not restore, not finished),
        (0, best, not restore, not finished),
        (0, not best, not restore, not finished),
        (0, not best, restore, not finished),  # a tie is no gain
        (1, best, not restore, not finished),  # the best of a new k does not have to beat the last k's
        (1, best, not restore, not finished),
        (1, not best, not restore, not finished),
        (1, not best, restore, finished),
    ]


def test_the_curriculum_spends_at_most_its_epochs_on_one_k():
    ks = [step[0] for step in walk(Curriculum(max_steps=2, patience=5, epochs=2), [n / 100 for n in range(100)])]
    assert ks == [0, 0, 1, 1, 2, 2]


def test_a_fixed_schedule_keeps_the_best_epoch():
    seen = walk(Fixed(epochs=3, attack_steps=8), [0.1, 0.9, 0.5])
    assert [step[1] for step in seen] == [True, True, False]
    assert seen[-1] == (8, False, True, True)


def test_a_mixed_batch_has_equal_shares_of_every_k():
    assert defenses.shares(32, 8) == [8] * 8 + [k for k in range(7, -1, -1) for _ in range(3)]
    assert defenses.shares(4, 0) == [0] * 4
    for images in range(1, 40):
        for steps in range(9):
            ks = defenses.shares(images, steps)
            assert len(ks) == images
            assert ks == sorted(ks, reverse=True)


def test_crafting_stays_in_budget_and_hurts_and_leaves_the_network_alone(catalog: Catalog):
    network = small_network(catalog).train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    batch = data.load(catalog, catalog.ids_of("train")[:12], torch.device("cpu"))
    objective = defenses._problem(frozen(network), batch, 0.05).objective
    for defense in (
        defenses.Adversarial(epochs=1, epsilon=0.05, steps=4),
        defenses.Mixed(epochs=1, epsilon=0.05, max_steps=4, patience=1),
    ):
        images = defense.craft(frozen(network), batch, 4, torch.Generator().manual_seed(0))
        assert (linf(batch.images, images) <= 0.05).all()
        assert objective(images).mean() < objective(batch.images).mean() - 0.01
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())


def test_all_workers_together_see_every_article_of_a_batch_once(catalog: Catalog):
    ids = catalog.ids_of("train")
    alone = list(data.shuffled(ids, 16, seed=1, epoch=2, rank=0, world=1))
    pairs = zip(*(data.shuffled(ids, 16, seed=1, epoch=2, rank=r, world=2) for r in range(2)), strict=True)
    for whole, parts in zip(alone, pairs, strict=True):
        assert sorted(whole) == sorted([*parts[0], *parts[1]])
    assert len(alone) == data.num_batches(len(ids), 16)
    assert len({int(i) for batch in alone for i in batch}) == 16 * len(alone)


def test_augmentation_is_seeded_and_keeps_the_box():
    images = torch.rand(6, 3, 32, 32)
    first, again, other = (data.augment(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.min() >= 0
    assert first.max() <= 1


def test_training_learns_selects_on_validation_and_measures_on_test(catalog: Catalog):
    network = small_network(catalog)
    spec = study(models={"m": {"defense": "none", "epochs": 8, "batch": 16, "learning_rate": 0.002}}).models["m"]
    fitted = loop.fit(network, spec, catalog, seed=3)
    losses = [epoch.train_loss for epoch in fitted.history]
    assert losses[-1] < losses[0] * 0.8
    assert fitted.metrics["n"] == len(catalog.ids_of("test"))
    ids = catalog.ids_of("validation")
    best = max(epoch.validation_clean_accuracy for epoch in fitted.history)
    assert float(quality.count(frozen(fitted.network), catalog, ids)[1]) / len(ids) == best


def test_the_same_seed_gives_the_same_weights(catalog: Catalog):
    spec = study(models={"m": {"defense": "cat", "max_steps": 1, "patience": 1, "epochs": 1, "batch": 32}}).models["m"]
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
        images, categories, textures = data.load(catalog, [article], torch.device("cpu"))
        logits = network(images)
        order = logits.category[0].argsort(descending=True).tolist()
        right += order[0] == categories[0]
        top5 += int(categories[0]) in order[:5]
        texture += bool(textures[0, logits.texture[0].argmax()])
    assert counts.tolist() == [len(ids), right, top5, len(ids), texture]


def test_the_metrics_say_which_split_chose_the_best_epoch(prepared, catalog: Catalog):
    """Without a validation split the test split chooses, as the study did, and that must not pass unseen."""
    spec = study(models={"m": {"defense": "none", "epochs": 1}}).models["m"]
    assert loop.fit(small_network(catalog), spec, catalog, seed=1).metrics["selected_on"] == "validation"
    merged = Catalog(prepared)
    merged._splits = np.where(merged._splits == "validation", "train", merged._splits)
    fitted = loop.fit(small_network(merged), spec, merged, seed=1)
    assert fitted.metrics["selected_on"] == "test"
    assert fitted.history[0].validation_clean_accuracy == fitted.metrics["clean_accuracy"]
