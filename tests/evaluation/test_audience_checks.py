"""The self-checks on whole audiences, against recommenders and attacks that are healthy or sick."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from advrec.evaluation import audience_checks, probes
from advrec.evaluation.block import method_of
from advrec.evaluation.harness import evaluate_block
from advrec.run.cells import PROMOTION_CHECKS
from tests.conftest import study
from tests.docs import pages
from tests.evaluation.test_promotions import USERS, block, hybrid, linear

ARTICLES = 16
ASKED = study(
    models={
        "unsecured": {"defense": "none"},
        "vbpr": {"recommender": "vbpr", "encoder": "unsecured"},
    },
    interactions={"source": "synthetic", "users": USERS},
    evaluation={
        "epsilons": [0.01, 0.05],
        "ranks": [1, 10],
        "attacks": [{"name": "hit", "attack": "apgd-50"}],
        "promoted": ARTICLES,
        "checks": ARTICLES,
    },
)


class Mirror(torch.autograd.Function):
    """Nothing to the eye; gradients come back turned around."""

    @staticmethod
    def forward(context, images):
        return images.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient.flip(2, 3)


def attacked(shop, attack, epsilons, **changes):
    wanted = block(range(ARTICLES), epsilons=epsilons, ranks=(1, 10), batch=ARTICLES, **changes)
    found = evaluate_block(shop, method_of(attack), wanted).rows.to_pandas()
    return found.assign(model="vbpr", attack=attack.name)


def measured(shop, **changes):
    """Rows of all probes, and of the study's own attack."""
    (own,) = ASKED.evaluation.attacks
    found = [
        attacked(shop, cell.attack, cell.epsilons, **changes)
        for cell in probes.cells(ASKED)
        if cell.part == PROMOTION_CHECKS
    ]
    own = attacked(shop, own, ASKED.evaluation.epsilons, **changes)
    return pd.concat(found, ignore_index=True), own


def verdicts(found, own):
    return {check.name: check.verdict for check in audience_checks.judge(ASKED, found, own)}


@pytest.fixture(scope="module")
def healthy():
    torch.set_num_threads(1)
    return measured(hybrid())


def test_a_healthy_recommender_raises_nothing(healthy):
    found = verdicts(*healthy)
    assert not {name for name, verdict in found.items() if verdict in ("failed", "not measured")}
    assert found["the attack beats noise"] == "passed"
    assert found["gradients beat no gradients"] == "passed"


def test_every_check_before_an_audience_stands_in_the_documents(healthy):
    text = pages.sources()["docs/concepts/checks.md"].partition("## Before an audience")[2]
    for name in verdicts(*healthy):
        assert f"| {name} |" in text


def test_an_objective_of_the_wrong_sign_is_raised():
    found = verdicts(*measured(hybrid(), goal="demote"))
    assert found["the attack beats noise"] == "failed"


def test_masked_gradients_are_raised():
    shop = hybrid()
    shop = dataclasses.replace(shop, embed=lambda images: linear(Mirror.apply(images)))
    found = verdicts(*measured(shop))
    assert found["gradients beat no gradients"] == "failed"


def test_a_recommender_that_looks_at_no_image_is_no_fault():
    found = verdicts(*measured(hybrid(visual=0.0)))
    compared = {"the attack beats noise", "without a limit more are reached"}
    assert {found[name] for name in compared} == {"information"}
    assert not {"failed", "undecided"} & {*found.values()}


def changed(rows, attack, epsilon, hr):
    """The same rows with another HR@10 after an attack."""
    there = (rows["attack"] == attack) & (rows["epsilon"] == epsilon)
    return rows.assign(hr_after_10=rows["hr_after_10"].mask(there, hr))


@pytest.mark.parametrize(
    ("name", "attack", "epsilon", "hr"),
    [
        ("exposure rises with the budget", "apgd-25", 0.05, 0.0),
        ("more steps are never worse", "apgd-50", 0.01, 0.0),
        ("twice the steps gain nothing to speak of", "apgd-50", 0.01, 1.0),
        ("a restart gains nothing to speak of", "apgd-25-restarted", 0.01, 1.0),
        ("without a limit more are reached", "mifgsm-50", 1.0, 0.2),
        ("gradients beat no gradients", "square-200", 0.05, 1.0),
        ("the attack beats noise", "noise", 0.05, 1.0),
    ],
)
def test_a_probe_that_does_otherwise_raises_its_check(healthy, name, attack, epsilon, hr):
    found, own = healthy
    assert verdicts(changed(found, attack, epsilon, hr), own)[name] == "failed"


def test_what_the_study_itself_measured_is_examined(healthy):
    found, own = healthy
    weak = verdicts(found, own.assign(hr_after_10=0.0))
    assert weak["the study's attacks are as strong as the checks'"] == "failed"
    beyond = own.assign(linf=own["linf"] + np.float32(0.001))
    assert verdicts(found, beyond)["budget and box are kept"] == "failed"
    nothing = found["epsilon"] == 0.0
    idle = changed(changed(found, "apgd-25", 0.05, 0.3), "mifgsm-50", 1.0, 0.3)
    assert verdicts(idle, own)["without a limit more are reached"] == "failed"
    moved = found.assign(hr_after_1=found["hr_after_1"].mask(nothing, 0.9))
    assert verdicts(moved, own)["no budget, no change"] == "failed"


def test_probes_that_are_not_there_are_not_measured(healthy):
    found, own = healthy
    left = verdicts(found[found["attack"] == "noise"], own)
    assert left["a restart gains nothing to speak of"] == "not measured"
    assert left["without a limit more are reached"] == "not measured"
    assert left["exposure rises with the budget"] == "not measured"


def test_cells_are_few_articles_of_each_model_before_its_audience():
    cells = [cell for cell in probes.cells(ASKED) if cell.part == PROMOTION_CHECKS]
    assert {(cell.model, cell.audience, cell.articles) for cell in cells} == {
        ("vbpr", "users", ARTICLES)
    }
    fewer = ASKED.evaluation.model_copy(update={"checks": 3})
    few = probes.cells(ASKED.model_copy(update={"evaluation": fewer}))
    assert {cell.articles for cell in few if cell.part == PROMOTION_CHECKS} == {3}
    off = ASKED.evaluation.model_copy(update={"checks": 0})
    assert probes.cells(ASKED.model_copy(update={"evaluation": off})) == []
