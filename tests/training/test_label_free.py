"""Defenses without labels, against the papers written out naively, on encoders of a few layers."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from advrec.attacks.budget import linf
from advrec.errors import ConfigError
from advrec.model import checkpoint, own
from advrec.model.encoder import FORMS, frozen, in_form, refresh
from advrec.model.own import OwnArchitecture, OwnNetwork
from advrec.recommenders.drift import drift
from advrec.recommenders.losses import cosine_distance
from advrec.run.directory import Run
from advrec.training import data, judges, loop, recipe, start, trainable
from advrec.training.copies import Copy
from advrec.training.defenses import fare
from advrec.training.defenses.base import Outputs, build
from advrec.training.drift import squared_drift
from advrec.training.judges import Drifts
from advrec.training.schedule import Stage
from advrec.training.workers import Workers
from tests.conftest import study
from tests.training.test_resume import together

EPSILON = 8 / 255
DEFENSES = [{"defense": "fare"}, {"defense": "lore"}, {"defense": "act-fare"}]
RHO = 0.05


def stream(seed):
    return torch.Generator().manual_seed(seed)


def entry(**keys):
    models = {
        "shop": {"model": "tests.shop.encoders:normed"},
        "m": {"defense": "fare", "init": "shop", "epsilon": EPSILON, **keys},
    }
    return study(models=models).models["m"]


def encoder(name="normed", form="plain"):
    architecture = OwnArchitecture(
        model=f"tests.shop.encoders:{name}", image_size=32, dimension=0, form=form
    )
    built = own.build(architecture).eval()
    dimension = built.plain(torch.rand(1, 3, 32, 32)).shape[1]
    return OwnNetwork(dataclasses.replace(architecture, dimension=dimension), built.module).eval()


def batch_of(catalog, network, count=6):
    batch = data.load(catalog, catalog.ids_of("train")[:count], torch.device("cpu"))
    with torch.no_grad():
        return batch._replace(originals=network.embed(batch.images))


def test_for_a_linear_encoder_of_one_value_the_inner_maximum_is_all_of_the_budget_along_its_signs(
    catalog,
):
    network = encoder("linear")
    with torch.no_grad():
        network.module[1].weight[1:] = 0.0
    batch = batch_of(catalog, network)
    batch = batch._replace(images=batch.images.clamp(0.1, 0.9))
    with torch.no_grad():
        batch = batch._replace(originals=network.embed(batch.images))
    defense = build(entry(steps=4), recipe.FINE_TUNING)
    (found,) = defense.craft(frozen(network), batch, Stage(4, EPSILON), stream(1))
    assert (linf(batch.images, found) <= EPSILON).all()
    moved = (network.embed(found) - batch.originals)[:, 0].abs()
    most = EPSILON * network.module[1].weight[0].abs().sum()
    assert moved == pytest.approx(torch.full_like(moved, float(most)).tolist(), rel=1e-4)


def test_the_loss_of_fare_is_that_of_a_naive_loop(catalog):
    network, changed = encoder(), encoder()
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.mul_(1.1)
    batch = batch_of(catalog, network)
    images = (batch.images + 0.03 * torch.rand(batch.images.shape)).clamp(0, 1)
    defense = build(entry(), recipe.FINE_TUNING)
    found = defense.loss(lambda x: Outputs(None, changed.embed(x)), batch, images)
    naive = []
    for image, clean in zip(images, batch.images, strict=True):
        original = network.embed(clean[None])[0].detach()
        apart = (changed.embed(image[None])[0] - original).detach()
        naive.append(float(sum(a * a for a in apart) / sum(o * o for o in original)))
    assert float(found.detach()) == pytest.approx(np.mean(naive), rel=1e-4)


def test_an_original_of_nearly_no_length_counts_as_a_hundredth_of_the_mean_square_length():
    originals = torch.tensor([[3.0, 4.0], [1e-6, 0.0]])
    embeddings = (originals + torch.tensor([0.5, 0.0])).requires_grad_()
    found = squared_drift(embeddings, originals)
    assert found.tolist() == pytest.approx([0.25 / 25.0, 0.25 / 0.125], rel=1e-4)
    found.sum().backward()
    assert embeddings.grad[1].tolist() == pytest.approx([2 * 0.5 / 0.125, 0.0], rel=1e-4)


def test_the_multipliers_of_lore_ascend_where_an_image_drifts_too_far_and_weigh_its_drift(catalog):
    network = encoder()
    batch = batch_of(catalog, network, 2)
    defense = build(entry(defense="lore", rho=0.5), recipe.FINE_TUNING)
    # Squared drifts of 4 and of 0.01 against a rho squared of 0.25.
    clean = batch.originals * torch.tensor([[3.0], [1.1]])
    attacked = batch.originals * torch.tensor([[2.0], [1.0]])
    embeddings = torch.cat([clean, attacked]).detach().requires_grad_()
    multipliers = torch.tensor([1.5, 0.5], requires_grad=True)
    loss = defense.loss(
        lambda x, originals: Outputs(None, embeddings, multipliers), batch, batch.images
    )
    excess = [4.0 / 0.25 - 1.0, 0.01 / 0.25 - 1.0]
    assert float(loss.detach()) == pytest.approx(
        ((1.0 + 1.5 * excess[0]) + (0.0 + 0.5 * excess[1])) / 2, rel=1e-4
    )
    loss.backward()
    assert (-2.0 * multipliers.grad).tolist() == pytest.approx(excess, rel=1e-3)
    lengths = batch.originals.square().sum(1)
    weights = torch.tensor([[1.5], [0.5]]) / 0.25
    expected = weights * (clean - batch.originals) / lengths[:, None]
    assert torch.allclose(embeddings.grad[:2], expected, rtol=1e-3, atol=1e-6)


def test_anti_collapse_without_labels_moves_each_image_towards_the_one_before(catalog):
    network = encoder("linear")
    batch = batch_of(catalog, network)
    defense = build(entry(defense="act-fare", steps=3), recipe.FINE_TUNING)
    (found,) = defense.craft(frozen(network), batch, Stage(3, EPSILON), stream(1))
    assert (linf(batch.images, found) <= EPSILON).all()
    targets = batch.originals.roll(1, 0)
    before = cosine_distance(batch.originals, targets)
    assert cosine_distance(network.embed(found), targets).mean() < before.mean()

    # PGD written out, from the same start.
    noise, current = torch.rand(batch.images.shape, generator=stream(1)) * 2 - 1, batch.images
    low, high = (batch.images - EPSILON).clamp_min(0), (batch.images + EPSILON).clamp_max(1)
    current = (current + EPSILON * noise).clamp(low, high)
    for _ in range(3):
        current = current.detach().requires_grad_()
        distance = cosine_distance(network.embed(current), targets).sum()
        (gradient,) = torch.autograd.grad(distance, current)
        current = (current - 2.5 * EPSILON / 3 * gradient.sign()).clamp(low, high)
    assert torch.allclose(found, current, atol=1e-6)


def test_the_loss_of_anti_collapse_without_labels_is_that_of_a_naive_loop(catalog):
    network = encoder()
    batch = batch_of(catalog, network, 4)
    defense = build(entry(defense="act-fare", margin=0.3, weight=2.0), recipe.FINE_TUNING)
    near, far = torch.rand(2, 4, 16)
    clean, moved = batch.originals + near, batch.originals.roll(1, 0) + far
    outputs = Outputs(None, torch.cat([clean, moved]))
    found = defense.loss(lambda x: outputs, batch, batch.images)
    naive = []
    for i in range(4):
        original, before = batch.originals[i].double(), clean[i - 1].double()
        own, attacked = clean[i].double(), moved[i].double()
        kept = [float((each - original).norm() / original.norm()) ** 2 for each in (own, attacked)]
        cosine = [float(attacked @ to / attacked.norm() / to.norm()) for to in (own, before)]
        naive.append(sum(kept) / 2 + 2.0 * max(0.0, cosine[1] - cosine[0] + 0.3))
    assert len({value > 0 for value in naive}) == 1
    assert float(found) == pytest.approx(np.mean(naive), rel=1e-4)


def trained(catalog, network, **keys):
    spec = entry(**keys)
    return loop.fit(network, spec, catalog, seed=3)


def test_fare_makes_an_encoder_withstand_its_attack_and_keeps_its_statistics_and_mode(catalog):
    network = encoder(form="fused")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    training = trained(catalog, network, epochs=4, learning_rate=0.01, steps=2)
    first, last = training.history[0], training.history[-1]
    assert last.validation_attacked_drift < 0.8 * first.validation_attacked_drift
    assert last.validation_clean_accuracy is None
    after = network.state_dict()
    for name, value in before.items():
        same = torch.equal(value, after[name])
        assert same == ("running" in name or "num_batches" in name), name
    metrics = training.measure()
    assert set(metrics) == {
        *("n", "drift_median", "drift_95", "attacked_drift_median", "attacked_drift_95"),
        *("attack_steps", "attack_epsilon"),
    }
    images = data.load(catalog, catalog.ids_of("test"), torch.device("cpu")).images
    with torch.no_grad():
        naive = [
            float((network.embed(i[None]) - encoder().embed(i[None])).norm())
            / float(encoder().embed(i[None]).norm())
            for i in images
        ]
    assert metrics["n"] == len(naive)
    assert metrics["drift_median"] == pytest.approx(np.median(naive), rel=1e-3)
    assert metrics["drift_95"] == pytest.approx(np.quantile(naive, 0.95), rel=1e-3)


def test_anti_collapse_without_labels_makes_an_encoder_withstand_images_moved_to_others(catalog):
    network, original = encoder(form="fused"), encoder()
    keys = {"defense": "act-fare", "epsilon": 0.1, "steps": 2}
    training = trained(catalog, network, **keys, epochs=4, learning_rate=0.01)
    assert training.history[-1].train_loss < 0.8 * training.history[0].train_loss
    batch = batch_of(catalog, original, 24)
    defense, shares = build(entry(**keys), recipe.FINE_TUNING), []
    for each in (original, training.network):
        (moved,) = defense.craft(frozen(each), batch, Stage(10, 0.1), stream(1))
        with torch.no_grad():
            clean, found = each.embed(batch.images), each.embed(moved)
        nearer = cosine_distance(found, clean) < cosine_distance(found, clean.roll(1, 0))
        shares.append(float(nearer.float().mean()))
    assert shares[1] > shares[0] + 0.3


def test_batch_norm_updates_its_statistics_if_it_is_to(catalog):
    network = encoder()
    before = network.module[1].running_mean.clone()
    trained(catalog, network, epochs=1, batch_norm="updated")
    assert not torch.equal(before, network.module[1].running_mean)


def test_statistics_of_blocks_that_are_not_trained_stay(catalog, tmp_path):
    network = started(catalog, tmp_path, "normed", trainable=1, batch_norm="updated")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trained(catalog, network, epochs=1, trainable=1, batch_norm="updated")
    moved = {
        name for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert {name.removeprefix("module.") for name in moved} == {
        *("3.weight", "4.weight", "4.bias"),
        *("4.running_mean", "4.running_var", "4.num_batches_tracked"),
    }


@pytest.mark.parametrize("keys", DEFENSES, ids=lambda keys: keys["defense"])
def test_drifts_are_the_same_for_any_number_of_workers_and_batches(catalog, monkeypatch, keys):
    network, original = encoder(), encoder()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
    network, defense = frozen(network), build(entry(**keys), recipe.FINE_TUNING)
    gathered, shares = Workers.gathered, []

    def kept(self, values, places, size):
        shares.append(gathered(self, values, places, size))
        return shares[-1]

    monkeypatch.setattr(Workers, "gathered", kept)

    def drifts(world):
        """Clean and attacked, of test images, by these workers one after the other."""
        shares.clear()
        for rank in range(world):
            workers = Workers(rank, world, torch.device("cpu"))
            defense.judge(catalog, workers, original).metrics(network, Stage(2, EPSILON))
        return torch.stack([sum(shares[0::2]), sum(shares[1::2])])

    alone = drifts(1)
    assert alone.shape == (2, len(catalog.ids_of("test")))
    assert torch.equal(drifts(3), alone)
    for at_once in (1, 7):  # an article alone in its batch is not its own partner
        monkeypatch.setattr(judges, "AT_ONCE", at_once)
        assert torch.allclose(drifts(3), alone, rtol=1e-3)


def test_lore_counts_the_test_images_that_moved_by_more_than_rho(catalog):
    network, original = encoder(), encoder()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
        images = data.load(catalog, catalog.ids_of("test"), torch.device("cpu")).images
        found = [(original.embed(i[None]), network.embed(i[None])) for i in images]
    drifts = [float((new - old).norm() / old.norm()) for old, new in found]
    rho = float(np.quantile(drifts, 0.7))
    alone = Workers.of(torch.device("cpu"))
    defense = build(entry(defense="lore", rho=rho), recipe.FINE_TUNING)
    metrics = defense.judge(catalog, alone, original).metrics(network, Stage(1, EPSILON))
    assert metrics["rho"] == rho
    assert metrics["above_rho"] == pytest.approx(np.mean([each > rho for each in drifts]))
    assert 0.2 < metrics["above_rho"] < 0.4


def test_lore_keeps_clean_images_within_rho_where_fare_does_not(catalog):
    images = data.load(catalog, catalog.ids_of("train"), torch.device("cpu")).images
    far = {}
    for keys in ({"defense": "fare"}, {"defense": "lore", "rho": RHO}):
        network, original = encoder(), encoder()
        trained(catalog, network, **keys, epochs=12, learning_rate=0.003, steps=1, epsilon=0.2)
        with torch.no_grad():
            drifts = drift(network.embed(images).numpy(), original.embed(images).numpy())
        far[keys["defense"]] = float(np.quantile(drifts, 0.9))
    assert far["lore"] < RHO
    assert far["fare"] > 2 * RHO


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: encoder().module, ["0", "3"]),
        (
            lambda: nn.Sequential(torchvision.models.resnet18()),  # in a hull
            [f"0.layer{stage}.{place}" for stage in range(1, 5) for place in range(2)],
        ),
        (
            lambda: nn.Sequential(encoder("tower").module, nn.Linear(6, 2)),
            [f"0.encoder.layers.{place}" for place in range(3)],
        ),
        (
            lambda: pytest.importorskip("timm").models.VisionTransformer(
                img_size=32, embed_dim=8, depth=3, num_heads=2, num_classes=0
            ),
            [f"blocks.{place}" for place in range(3)],
        ),
        (
            lambda: pytest.importorskip("timm").models.SwinTransformer(
                img_size=32, patch_size=2, embed_dim=8, depths=(1, 2), num_heads=(1, 2)
            ),
            ["layers.0", "layers.1.blocks.0", "layers.1.blocks.1"],
        ),
        (
            lambda: torchvision.models.efficientnet_b0().features,
            [
                f"{stage}.{place}"
                for stage, count in enumerate((1, 2, 2, 3, 3, 4, 1), 1)
                for place in range(count)
            ],
        ),
    ],
    ids=["plain", "resnet", "tower", "vit", "swin", "efficientnet"],
)
def test_blocks_are_the_members_of_the_innermost_lists_of_blocks(make, names):
    made = make()
    of = {module: name for name, module in made.named_modules()}
    assert [of[block] for block in trainable.blocks(made)] == names


def started(catalog, directory, name, **keys):
    run = Run(directory)
    checkpoint.save(run.weights("shop"), encoder(name))
    return start.initial_network(run, entry(**keys), catalog, seed=1)


@pytest.mark.parametrize("count", [1, 2, "all"])
def test_what_comes_before_the_last_blocks_stays_and_so_does_what_nothing_uses(
    catalog, tmp_path, count
):
    network = started(catalog, tmp_path, "tower", trainable=count)
    asks = {
        name.removeprefix("module.") for name, w in network.named_parameters() if w.requires_grad
    }
    every = {name for name, _ in encoder("tower").module.named_parameters()}
    beginnings = ["norm.", "projection", "encoder.layers.2."]
    beginnings += {1: [], 2: ["encoder.layers.1."]}.get(
        count, ["encoder.layers.1.", "encoder.layers.0.", "patches.", "class_token"]
    )
    assert asks == {name for name in every if name.startswith(tuple(beginnings))}
    assert network.state_dict().keys() == encoder("tower").state_dict().keys()


KINDS = [{"defense": "fare"}, {"defense": "lore", "rho": 0.1}]


def losses(catalog, directory, keys):
    spec = entry(**keys, steps=1, epochs=2, batch=16)
    network = started(catalog, directory, "tower", **keys)
    plain = dataclasses.replace(recipe.FINE_TUNING, augment=lambda images, generator: images)
    training = loop.Training(network, spec, catalog, 3, plain)
    found = [training.epoch().train_loss for _ in range(2)]
    for name in ("mask_token", "classifier.weight"):
        assert torch.equal(
            network.state_dict()[f"module.{name}"], encoder("tower").state_dict()[f"module.{name}"]
        )
    return found


def without_chance(patch):
    patch(fare, "uniform_noise", lambda images, generator: torch.full_like(images, 0.5))


def write_losses(rank, catalog, directory):
    without_chance(setattr)
    found = [losses(catalog, directory / str(rank), keys) for keys in KINDS]
    (directory / f"losses{rank}").write_text(json.dumps(found))


@pytest.mark.long
def test_two_workers_defend_as_one_does_an_encoder_that_does_not_use_all_its_weights(
    prepared, catalog, tmp_path, monkeypatch
):
    together(write_losses, prepared, tmp_path)
    without_chance(monkeypatch.setattr)
    expected = [losses(catalog, tmp_path / "alone", keys) for keys in KINDS]
    for rank in range(2):
        found = json.loads((tmp_path / f"losses{rank}").read_text())
        assert found == [pytest.approx(each, rel=1e-3) for each in expected]


def test_what_is_not_trainable_stays_and_more_blocks_than_there_are_are_refused(catalog, tmp_path):
    run = Run(tmp_path)
    checkpoint.save(run.weights("shop"), encoder())
    spec = entry(trainable=1, epochs=1)
    network = start.initial_network(run, spec, catalog, seed=1)
    loop.fit(network, spec, catalog, seed=3)
    first, after = encoder().state_dict(), network.state_dict()
    moved = {name for name in first if not torch.equal(first[name], after[name])}
    assert moved == {"module.3.weight", "module.4.weight", "module.4.bias"}
    with pytest.raises(ConfigError, match="trainable is 3, and shop has 2 blocks"):
        start.initial_network(run, entry(trainable=3), catalog, seed=1)


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("keys", DEFENSES, ids=lambda keys: keys["defense"])
def test_a_training_that_is_stopped_after_every_epoch_ends_with_the_weights_of_an_undisturbed_one(
    catalog, tmp_path, keys
):
    spec, saved = entry(**keys, epochs=3, steps=1), tmp_path / "state.safetensors"
    undisturbed = loop.fit(encoder(form="fused"), spec, catalog, seed=3)

    def stop(epoch):
        torch.rand(3)  # what else happens in the process
        raise StoppedError

    for _ in range(3):
        with pytest.raises(StoppedError):
            loop.fit(encoder(form="fused"), spec, catalog, seed=3, checkpoint=saved, on_epoch=stop)
    ended = loop.fit(encoder(form="fused"), spec, catalog, seed=3, checkpoint=saved)
    assert [e._replace(seconds=0) for e in ended.history] == [
        e._replace(seconds=0) for e in undisturbed.history
    ]
    assert ended.measure() == undisturbed.measure()
    for name, value in undisturbed.network.state_dict().items():
        assert torch.equal(value, ended.network.state_dict()[name]), name


@pytest.mark.parametrize("name", ["normed", "linear", "computed"])
@pytest.mark.parametrize("form", FORMS)
def test_a_copy_in_any_form_follows_its_network_and_shares_nothing_with_it(name, form):
    network = encoder(name, form)
    images = torch.rand(4, 3, 32, 32)
    followed = Copy(network)
    first = network.plain(images)
    assert torch.allclose(followed.network.embed(images), first, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.mul_(1.3)
    assert torch.allclose(followed.network.embed(images), first, rtol=1e-4, atol=1e-5)
    followed.follow(network)
    expected = network.plain(images)
    assert torch.allclose(followed.network.embed(images), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, first, rtol=1e-2)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_copy_whose_norms_are_not_folded_takes_the_weights_as_they_are():
    network = encoder()
    copied = in_form(copy.deepcopy(network), FORMS["unfolded"])
    assert isinstance(copied.module[1], nn.BatchNorm2d)
    with torch.no_grad():
        network.module[0].weight.mul_(2.0)
    refresh(copied, network)
    assert torch.equal(copied.module[0].weight, network.module[0].weight)


def test_drifts_of_few_images_are_measured_by_more_workers_than_there_are_images(catalog):
    """The second of two workers has no image; the first has sent its own."""
    network = encoder()

    class Second(Workers):
        def total(self, values):
            return values

    attacked = build(entry(), recipe.FINE_TUNING).attacked
    judge = Drifts(catalog, Second(1, 2, torch.device("cpu")), encoder(), attacked)
    clean, attacked = judge._drifts(network, catalog.ids_of("test")[:1], Stage(1, EPSILON))
    assert clean.tolist() == attacked.tolist() == [0.0]


def test_drift_above_the_limit_is_of_articles_of_the_whole_split(catalog, monkeypatch):
    """Not of its first ones, which are of the first categories of a folder."""
    measured = []

    class Seen(Drifts):
        def _drifts(self, network, ids, stage):
            measured.append(ids.tolist())
            return np.ones(len(ids)), np.ones(len(ids))

    monkeypatch.setattr("advrec.training.judges.VALIDATED_IMAGES", 4)
    monkeypatch.setattr("advrec.training.judges.MEASURED_IMAGES", 6)
    network = encoder()
    judge, stage = (
        Seen(catalog, Workers.of(torch.device("cpu")), network, None),
        Stage(steps=1, epsilon=EPSILON),
    )
    judge.validate(network, stage, 1)
    assert judge.metrics(network, stage)["n"] == len(measured[1])
    for ids, split, most in zip(measured, ("validation", "test"), (4, 6), strict=True):
        every = catalog.ids_of(split).tolist()
        assert len(every) > most
        assert ids == every[:: -(-len(every) // most)]
