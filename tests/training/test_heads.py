"""Networks with one head: what they train on, what is measured, and what stays as it was."""

import pytest
import torch
from torch.nn import functional

from advrec.attacks.objective import classification_loss
from advrec.errors import ConfigError, StudyError
from advrec.model import checkpoint
from advrec.model.encoder import frozen
from advrec.run import identity
from advrec.run.directory import Run
from advrec.run.own_columns import TEXTURE_HISTORY
from advrec.stages import plan
from advrec.training import data, loop, quality
from advrec.training.defenses.base import halves
from advrec.training.defenses.trades import divergence
from advrec.training.start import initial_network
from tests.conftest import small_network, study

KEYS = {"defense": "none", "epochs": 4, "batch": 16, "learning_rate": 0.002}


def with_heads(catalog, heads, **keys):
    """A small network with these heads, and its entry."""
    network = small_network(catalog)
    if "category" not in heads:
        network.category_head = None
        network.architecture = network.architecture.__class__(
            **vars(network.architecture) | {"categories": ()}
        )
    if "texture" not in heads:
        network.texture_head = None
    return network, study(models={"m": KEYS | {"heads": heads} | keys}).models["m"]


def test_a_network_of_textures_learns_them_and_is_judged_by_them(catalog):
    network, spec = with_heads(catalog, ["texture"], epochs=8)
    before = quality.count(frozen(network), catalog, catalog.ids_of("train"))

    fitted = loop.fit(network, spec, catalog, seed=3)

    losses = [epoch.train_loss for epoch in fitted.history]
    assert losses[-1] < losses[0] * 0.8
    ready = frozen(fitted.network)
    assert quality.count(ready, catalog, catalog.ids_of("train"))[4] > before[4]
    counts = quality.count(ready, catalog, catalog.ids_of("validation"))
    best = max(epoch.validation_texture_precision for epoch in fitted.history)
    assert float(counts[4] / counts[3]) == best
    assert {epoch.validation_clean_accuracy for epoch in fitted.history} == {None}
    measured = fitted.measure()
    assert measured["clean_accuracy"] is measured["robust_accuracy"] is None
    assert measured["top5_accuracy"] is measured["adversarial_accuracy"] is None
    assert 0.0 < measured["texture_top1_precision"] <= 1.0
    assert measured["adversarial_texture_top1_precision"] <= measured["texture_top1_precision"]
    assert {*TEXTURE_HISTORY.names} <= {*fitted.history[0]._fields}


@pytest.mark.parametrize("defense", [{"defense": "at"}, {"defense": "trades"}, {"defense": "act"}])
def test_defenses_train_networks_of_textures(catalog, defense):
    network, spec = with_heads(catalog, ["texture"], epochs=1, steps=1, **defense)

    fitted = loop.fit(network, spec, catalog, seed=3)

    assert fitted.history[0].validation_adversarial_texture_precision is not None
    assert fitted.history[0].train_loss > 0


def test_a_loss_is_that_of_the_heads_that_there_are(catalog):
    batch = data.load(catalog, catalog.ids_of("train")[:6], torch.device("cpu"))
    network = small_network(catalog)
    category, texture = network(batch.images)
    smooth = functional.cross_entropy(category, batch.categories, reduction="none")
    binary = functional.binary_cross_entropy_with_logits(texture, batch.textures, reduction="none")
    labels = batch.categories, batch.textures

    of_categories = classification_loss(category, None, *labels)
    of_textures = classification_loss(None, texture, *labels)
    both = classification_loss(category, texture, *labels)

    torch.testing.assert_close(of_categories, smooth)
    torch.testing.assert_close(of_textures, binary.mean(1))
    torch.testing.assert_close(both, of_categories + of_textures)
    clean, attacked = halves(network(torch.cat([batch.images, batch.images.flip(3)])))
    parts = [
        divergence(clean._replace(**{other: None}), attacked._replace(**{other: None}))
        for other in ("category", "texture")
    ]
    torch.testing.assert_close(divergence(clean, attacked), parts[0] + parts[1])


@pytest.mark.parametrize(("head", "other"), [("category", "texture"), ("texture", "category")])
def test_a_network_has_the_heads_that_are_said(ready, catalog, tmp_path, head, other):
    spec = study(models={"m": KEYS | {"heads": [head], "width": 0.35}}).models["m"]

    network = initial_network(ready, spec, catalog, seed=0)
    checkpoint.save(tmp_path / "m.safetensors", network)
    loaded = checkpoint.load(tmp_path / "m.safetensors")

    logits = loaded(torch.rand(2, 3, 32, 32))
    assert getattr(logits, other) is None
    assert getattr(logits, head) is not None
    assert not any(name.startswith(other) for name in loaded.state_dict())


def test_studies_without_the_key_mean_what_they_meant():
    plain, both, one = (
        study(models={"unsecured": {"defense": "none", "epochs": 1} | keys})
        for keys in ({}, {"heads": ["texture", "category"]}, {"heads": ["category"]})
    )

    made = [identity.identities(each).models["unsecured"] for each in (plain, both, one)]

    assert made[0] == made[1] == {key: made[2][key] for key in made[2] if key != "heads"}
    assert made[2]["heads"] == ["category"]


def test_a_run_is_not_gone_on_with_by_other_heads(tmp_path):
    plain, one = (
        study(models={"m": {"defense": "none"} | keys}) for keys in ({}, {"heads": ["category"]})
    )
    for made, wanted in ((plain, one), (one, plain)):
        run = Run(tmp_path / str(made is plain))
        run.weights("m").parent.mkdir(parents=True)
        run.weights("m").touch()
        run.claim("models/m", identity.identities(made).models["m"], made=False)
        plan.refuse(run, made, identity.identities(made))
        with pytest.raises(ConfigError, match="models/m made with heads = "):
            plan.refuse(run, wanted, identity.identities(wanted))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"heads": ["colour"]}, "models.m.heads.0 is colour"),
        ({"heads": []}, "models.m.heads"),
        ({"heads": ["texture", "texture"]}, "heads lists texture twice"),
        ({"heads": ["texture"], "defense": "fat"}, "fat goes on until the category is wrong"),
    ],
)
def test_heads_that_cannot_be_are_refused(keys, said):
    with pytest.raises(ConfigError, match=r"^test: ") as refused:
        study(models={"m": {"defense": "none"} | keys})
    assert said in str(refused.value)


def test_a_catalog_without_the_labels_of_a_head_is_refused():
    textures, categories = (
        study(models={"m": {"defense": "none", "heads": [head]}})
        for head in ("texture", "category")
    )

    plan.check_labels(textures, labelled=False, textured=True)
    plan.check_labels(categories, labelled=True, textured=False)
    with pytest.raises(StudyError, match=r"heads is .texture., and the catalog has no textures"):
        plan.check_labels(textures, labelled=True, textured=False)
    with pytest.raises(StudyError, match="trains on categories"):
        plan.check_labels(categories, labelled=False, textured=True)
