"""Entries of hybrid recommenders: what a study takes, and what it says of a wrong one."""

import pytest

from advrec.errors import ConfigError
from advrec.run import cells
from advrec.spec.hybrids import Amr, Vbpr
from tests import conftest
from tests.conftest import STUDY

ENCODER = {"defense": "none", "epochs": 1}


BOUGHT = {"interactions": {"source": "synthetic"}}


def study(**changes):
    return conftest.study(**(BOUGHT | changes))


def hybrid(**keys):
    return {"recommender": "vbpr", "encoder": "unsecured", **keys}


def test_hybrids_stand_beside_the_encoders_and_are_not_attacked_as_they_are():
    entries = {"unsecured": ENCODER, "vbpr": hybrid(), "amr": hybrid(recommender="amr")}
    made = study(models=entries)
    assert list(made.encoders) == ["unsecured"]
    assert list(made.hybrids) == ["vbpr", "amr"]
    assert list(made.compared.models) == ["unsecured"]
    assert isinstance(made.models["vbpr"], Vbpr)
    assert isinstance(made.models["amr"], Amr)
    assert made.evaluation.at_once == study().evaluation.at_once


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (hybrid(recommender="vpbr"), "models.h.recommender is vpbr; did you mean vbpr?"),
        (hybrid(recommender=["vbpr"]), "models.h.recommender is .*allowed: vbpr, amr, bpr"),
        (hybrid(encoder="unsecure"), "models.h.encoder is unsecure, .*did you mean unsecured?"),
        (hybrid(encoder="h"), "models.h.encoder is h, which is not a model above it"),
        (hybrid(encoder="h"), "h is a hybrid recommender, which embeds no image"),
        (hybrid(recommender="bpr", visual_factors=4), "models.h.visual_factors is not a known key"),
        (hybrid(recommender="amr", bias_decay=0.1), "models.h.bias_decay is not a known key"),
        (hybrid(epochs=0), "models.h.epochs is 0"),
        (hybrid(decay=-1.0), "models.h.decay is -1.0"),
        ({"recomender": "vbpr", "encoder": "unsecured"}, "did you mean recommender?"),
        ({"recommender": "vbpr"}, "models.h.encoder is missing"),
    ],
)
def test_a_wrong_entry_is_told(entry, said):
    with pytest.raises(ConfigError, match=said):
        study(models={"unsecured": ENCODER, "h": entry})


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"models": {"u": ENCODER, "h": hybrid(encoder="u"), "g": hybrid(encoder="h")}}, "encoder"),
        (
            {"models": {"u": ENCODER, "h": hybrid(encoder="u"), "v": ENCODER | {"init": "h"}}},
            "init",
        ),
    ],
)
def test_nothing_stands_on_a_hybrid(section, said):
    with pytest.raises(ConfigError, match=f"{said} is h, which is not a.* model"):
        study(**section)


def test_a_hybrid_needs_interactions():
    with pytest.raises(
        ConfigError, match=r"models.vbpr: vbpr recommends by .*section interactions"
    ):
        conftest.study(models={"unsecured": ENCODER, "vbpr": hybrid()})


def test_an_attack_is_made_on_a_model_that_has_the_same_audience():
    models = {"unsecured": ENCODER, "vbpr": hybrid(), "bpr": {"recommender": "bpr"} | hybrid()}
    attacks = [
        {"name": "users", "attack": "pgd-2", "from": "vbpr"},
        {"name": "lists", "attack": "pgd-2", "from": "unsecured"},
    ]
    found = study(models=models, evaluation=STUDY["evaluation"] | {"attacks": attacks})
    made = [(cell.part, cell.model, cell.attack.name) for cell in cells.cells(found)]
    assert made == [
        ("attacks", "unsecured", "lists"),
        ("promotions", "vbpr", "users"),
        ("promotions", "bpr", "users"),
    ]
