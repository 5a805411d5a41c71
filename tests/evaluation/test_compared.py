"""A model that is left out of the comparison is trained, and that is all."""

from advrec.evaluation import probes
from advrec.run import cells
from tests.conftest import study

MODELS = {
    "start": {"defense": "none", "compared": False},
    "unsecured": {"defense": "none", "init": "start"},
    "at": {"defense": "at", "init": "start"},
}
ATTACKS = {
    "attacks": ["fgsm", {"name": "transfer", "attack": "pgd-2", "from": "start"}],
    "tuples": 12,
    "checks": 4,
}


def test_only_compared_models_are_attacked_and_examined():
    asked = study(models=MODELS, evaluation=ATTACKS)
    assert [(cell.model, cell.attack.name) for cell in cells.cells(asked)] == [
        (model, attack) for model in ("unsecured", "at") for attack in ("fgsm", "transfer")
    ]
    assert cells.cells(asked)[1].attack.source == "start"
    examined = probes.cells(asked)
    assert {cell.model for cell in examined} == {"unsecured", "at"}
    sources = {(cell.model, cell.attack.source) for cell in examined if cell.attack.source}
    assert sources == {("unsecured", "at"), ("at", "unsecured")}
