"""The probes of the checks: attacks that an evaluation runs on each model to examine itself.
Free of torch.
"""

from collections.abc import Iterator
from statistics import median_low
from typing import NamedTuple

from advrec.run.cells import PROMOTION_CHECKS, Cell
from advrec.spec import chains
from advrec.spec.attacks import AttackSpec, Stop
from advrec.spec.audiences import NEIGHBOURS
from advrec.spec.deliveries import INGEST
from advrec.spec.study import Study

WHITE_BOX, LONGER, RESTARTED, BLACK_BOX = "apgd-50", "apgd-100", "apgd-50-restarted", "square-500"
BLIND = "apgd-50-blind"
"""The white-box probe that knows nothing of the model's ingest."""
# At budget 1 an attack may draw any image. APGD loses itself there, in noise that no catalog holds;
# small steps from the clean image do not: on the demo's models it solved 28 of 64 tuples where
# momentum solved all.
UNLIMITED, EVERYTHING = "mifgsm-100", 1.0


class Names(NamedTuple):
    """Probes on audiences."""

    white: str
    longer: str
    restarted: str
    black_box: str
    unlimited: str


AUDIENCE = Names("apgd-25", "apgd-50", "apgd-25-restarted", "square-200", "mifgsm-50")
"""Fewer steps than on tuples: every query has its say in each of them."""


def cells(study: Study) -> list[Cell]:
    """The cells that are measured for the checks, on the first tuples and promoted articles of the
    study: one an attack and model.
    """
    if not study.evaluation.checks:
        return []
    return [*_on_tuples(study), *_on_audiences(study)]


def _on_tuples(study: Study) -> list[Cell]:
    middle, largest = budgets(study)
    all_budgets = tuple(epsilon for epsilon in study.evaluation.epsilons if epsilon > 0) or (
        middle,
    )
    if not study.evaluation.measures(NEIGHBOURS):
        return []
    probes_of_all: list[Cell] = []
    for model in study.compared.models:
        other, ingests = other_model(study, model), chains.ingests(study.models, model)
        probes = [
            (_probe(WHITE_BOX), all_budgets),
            (_probe(LONGER), (middle,)),
            (_probe(WHITE_BOX, RESTARTED, restarts=1), (middle,)),
            (_probe(BLACK_BOX), (largest,)),
            (_probe(UNLIMITED), (EVERYTHING,)),
            (_probe("fgsm"), tuple(sorted({0.0, largest}))),
            (_probe("noise"), (largest,)),
        ]
        if ingests:
            probes.append((_probe(WHITE_BOX, BLIND, stop="never", blind=True), (largest,)))
        if other is not None:
            probes.append(
                (_probe(WHITE_BOX, transfer_name(other), source=other, stop="never"), (largest,))
            )
        probes_of_all += [
            Cell("checks", model, attack, epsilons, first=study.evaluation.checks)
            for attack, epsilons in probes
        ]
    return probes_of_all


def _on_audiences(study: Study) -> Iterator[Cell]:
    middle, largest = budgets(study)
    evaluation = study.evaluation
    all_budgets = tuple(epsilon for epsilon in evaluation.epsilons if epsilon > 0) or (middle,)
    probes = [
        (_probe(AUDIENCE.white, stop="never"), all_budgets),
        (_probe(AUDIENCE.longer, stop="never"), (middle,)),
        (_probe(AUDIENCE.white, AUDIENCE.restarted, restarts=1, stop="never"), (middle,)),
        (_probe(AUDIENCE.black_box, stop="never"), (largest,)),
        (_probe(AUDIENCE.unlimited, stop="never"), (EVERYTHING,)),
        (_probe("fgsm", stop="never"), (0.0,)),
        (_probe("noise", stop="never"), (largest,)),
    ]
    for model, spec in study.models.items():
        for attack, epsilons in probes if spec.compared else ():
            for audience in study.audiences_of(model, attack):
                if audience != NEIGHBOURS:
                    yield Cell(
                        PROMOTION_CHECKS,
                        model,
                        attack,
                        epsilons,
                        first=evaluation.checks,
                        articles=min(evaluation.checks, evaluation.num_promoted),
                        audience=audience,
                    )


def budgets(study: Study) -> tuple[float, float]:
    """The middle and the largest budget of the study that are not 0."""
    budgets = [epsilon for epsilon in study.evaluation.epsilons if epsilon > 0] or [0.03]
    return median_low(budgets), max(budgets)


def other_model(study: Study, model: str) -> str | None:
    """The model that the transferred perturbations are made on: the first other one."""
    return next((name for name in study.compared.models if name != model), None)


def transfer_name(other: str) -> str:
    """Named by its source, so that a further model in the study leaves the others' rows what they
    are.
    """
    return f"from-{other}"[:64]


def _probe(
    attack: str,
    name: str | None = None,
    *,
    restarts: int = 0,
    source: str | None = None,
    stop: Stop = "rank-1",
    blind: bool = False,
) -> AttackSpec:
    through = [] if attack == "noise" or blind else [INGEST]
    keys = {
        "name": name or attack,
        "attack": attack,
        "stop": stop,
        "nested": False,
        "restarts": restarts,
        "from": source,
        "through": through,
    }
    return AttackSpec.model_validate(keys)
