"""The self-checks against models that are known to be healthy or sick, and their intervals against
brute force.
"""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from advrec.attacks import registry
from advrec.evaluation import checks, health, tuples
from advrec.evaluation.block import Block
from advrec.evaluation.harness import evaluate_block
from advrec.evaluation.probes import cells as probe_cells
from advrec.model.encoder import frozen, to_images
from tests.conftest import recommender, small_network, study
from tests.shop import kinds

EVALUATION = {
    "tuples": 40,
    "block": 40,
    "epsilons": [0.05, 0.1],
    "attacks": ["apgd-100"],
    "checks": 40,
}
TUPLES = 40


class Quantised(torch.autograd.Function):
    """Sixteen grey values, as a defense that removes small perturbations; to gradients it is a
    mirror.
    """

    @staticmethod
    def forward(context, images):
        return (images * 16).round() / 16

    @staticmethod
    def backward(context, gradient):
        return gradient.flip(2, 3)


@pytest.fixture(scope="module")
def network(catalog):
    torch.manual_seed(0)
    return frozen(small_network(catalog))


def examine(catalog, embed, other=None):
    """Every check of a model, measured in this process."""
    models = {"model": {"defense": "none"}} | ({"other": {"defense": "none"}} if other else {})
    asked = study(models=models, evaluation=EVALUATION)
    rows = tuples.sample(catalog, "test", TUPLES, seed=1)
    recommenders = {"model": recommender(catalog, embed)} | (
        {"other": recommender(catalog, other)} if other else {}
    )
    made = []
    for cell in probe_cells(asked):
        if cell.model == "model":
            attack = cell.attack
            block = Block(
                tuple_ids=rows["tuple_id"].to_numpy(),
                target_ids=rows["target_id"].to_numpy(),
                attack_ids=rows["attack_id"].to_numpy(),
                pixels=catalog.pixels(rows["attack_id"].to_numpy()),
                epsilons=cell.epsilons,
                batch=64,
                examples=0,
                label=attack.name,
                seed=1,
                stop=attack.stop,
            )
            method = registry.build(attack.attack, restarts=attack.restarts)
            sources = [recommenders[source] for source in attack.sources]
            outcomes = evaluate_block(recommenders["model"], method, block, *sources)
            made.append(outcomes.rows.to_pandas().assign(model="model", attack=attack.name))
    measured = health.measure(
        recommenders["model"], to_images(catalog.pixels(catalog.ids_of("test")[:8]))
    )
    probes = pd.concat(made)
    judged = checks.judge(
        asked, "model", 3, probes, probes[probes["attack"] == "apgd-100"], measured
    )
    return {check.name: check for check in judged}


def failed(judged):
    return {name for name, check in judged.items() if check.verdict == "failed"}


@pytest.mark.long
def test_a_healthy_model_raises_no_flag(catalog, network):
    judged = examine(catalog, network.embed, other=frozen(small_network(catalog, seed=5)).embed)
    assert failed(judged) == set()
    assert {check.verdict for check in judged.values()} == {"passed", "information"}
    assert [name for name, check in judged.items() if check.verdict == "information"] == [
        "one gradient step against noise"
    ]


@pytest.mark.long
def test_a_model_that_hides_its_gradients_is_flagged(catalog, network):
    judged = examine(catalog, lambda images: network.embed(Quantised.apply(images)))
    assert "gradients beat no gradients" in failed(judged)
    assert "masked" in judged["gradients beat no gradients"].remedy
    assert judged["gradients beat another model's"].verdict == "not measured"  # there is none


@pytest.mark.long
def test_a_model_without_gradients_is_flagged(catalog, network):
    judged = examine(catalog, lambda images: network.embed((images * 16).round() / 16))
    assert {"gradients are not zero", "gradients beat no gradients"} <= failed(judged)


@pytest.mark.long
def test_a_model_that_draws_random_numbers_is_flagged(catalog, network):
    judged = examine(
        catalog, lambda images: network.embed(images + 0.02 * torch.randn_like(images))
    )
    assert "two forward passes agree" in failed(judged)
    assert "no budget, no change" in failed(judged)


@pytest.mark.long
def test_a_model_whose_embedding_depends_on_the_batch_is_flagged(catalog, network):
    judged = examine(
        catalog, lambda images: network.embed(images - images.mean(0, keepdim=True) * 0.5)
    )
    assert "two forward passes agree" in failed(judged)


@pytest.mark.long
def test_collapsed_embeddings_are_flagged(catalog, network):
    judged = examine(catalog, lambda images: network.embed(images) + 100.0)
    assert "embeddings are spread out" in failed(judged)


def fabricated(solved, of_each_target=1):
    """Rows of 64 tuples at budgets 0.05 and 0.1, of which the first so many are solved; every probe
    solves 30 unless said otherwise.
    """
    asked = study(
        models={"model": {"defense": "none"}, "other": {"defense": "none"}},
        evaluation=EVALUATION | {"checks": 64},
    )
    rows = []
    for cell in probe_cells(asked):
        if cell.model == "model":
            for epsilon in cell.epsilons:
                first, last = solved.get(
                    (cell.attack.name, epsilon), (0, 64 if epsilon == 1.0 else 30)
                )
                rows += [
                    (cell.attack.name, epsilon, t, 1 if first <= t < last else 50)
                    for t in range(64)
                ]
    probes = pd.DataFrame(rows, columns=["attack", "epsilon", "tuple_id", "adversarial_rank"])
    probes = probes.assign(target_id=probes["tuple_id"] // of_each_target)
    probes = probes.assign(
        model="model",
        linf=np.float32(0),
        clean_rank=50,
        clean_distance=0.5,
        adversarial_distance=0.5,
    )
    first, last = solved.get("study", (0, 30))
    own = probes[(probes["attack"] == "apgd-100")].assign(
        adversarial_rank=[1 if first <= t < last else 50 for t in range(64)]
    )
    return {check.name: check.verdict for check in checks.judge(asked, "model", 3, probes, own, {})}


def test_tuples_that_repeat_each_other_do_not_decide():
    """A difference of 15 tuples of one target, as of one tuple."""
    worse, name = {("apgd-100", 0.05): (0, 15)}, "more steps are never worse"
    assert fabricated(worse)[name] == "failed"
    assert fabricated(worse, of_each_target=15)[name] == "undecided"


@pytest.mark.parametrize(
    ("name", "solved", "verdict"),
    [
        ("the study's attacks are as strong as the checks'", {}, "passed"),
        ("the study's attacks are as strong as the checks'", {"study": (0, 27)}, "undecided"),
        ("the study's attacks are as strong as the checks'", {"study": (0, 5)}, "failed"),
        ("more steps are never worse", {("apgd-100", 0.05): (0, 40)}, "passed"),
        ("more steps are never worse", {("apgd-100", 0.05): (0, 28)}, "undecided"),
        ("more steps are never worse", {("apgd-100", 0.05): (0, 15)}, "failed"),
        ("twice the steps gain nothing to speak of", {("apgd-100", 0.05): (0, 29)}, "passed"),
        ("twice the steps gain nothing to speak of", {("apgd-100", 0.05): (0, 33)}, "undecided"),
        ("twice the steps gain nothing to speak of", {("apgd-100", 0.05): (0, 45)}, "failed"),
        (
            "a restart gains nothing to speak of",
            {("apgd-50-restarted", 0.05): (0, 32)},
            "undecided",
        ),
        ("a restart gains nothing to speak of", {("apgd-50-restarted", 0.05): (0, 45)}, "failed"),
        ("success rises with the budget", {("apgd-50", 0.1): (0, 40)}, "passed"),
        ("success rises with the budget", {("apgd-50", 0.1): (0, 28)}, "undecided"),
        ("success rises with the budget", {("apgd-50", 0.1): (0, 10)}, "failed"),
        ("without a limit nearly all succeed", {("mifgsm-100", 1.0): (0, 61)}, "passed"),
        ("without a limit nearly all succeed", {("mifgsm-100", 1.0): (0, 50)}, "failed"),
        ("gradients beat no gradients", {("square-500", 0.1): (0, 20)}, "passed"),
        ("gradients beat no gradients", {("square-500", 0.1): (0, 33)}, "undecided"),
        ("gradients beat no gradients", {("square-500", 0.1): (0, 50)}, "failed"),
        (
            "gradients beat no gradients",
            {("square-500", 0.1): (0, 0), ("apgd-50", 0.1): (0, 0)},
            "information",
        ),
        ("gradients beat another model's", {("from-other", 0.1): (0, 50)}, "failed"),
        ("gradients beat another model's", {("from-other", 0.1): (20, 50)}, "passed"),
    ],
)
def test_verdicts_are_decided_by_paired_counts(name, solved, verdict):
    assert fabricated(solved)[name] == verdict


def test_an_image_beyond_its_budget_is_flagged():
    rows = pd.DataFrame(
        {"model": "m", "attack": "a", "epsilon": [0.03, 0.03], "linf": np.float32([0.03, 0.0301])}
    )
    assert checks.budget_kept(rows, rows.iloc[:0]).verdict == "failed"
    assert checks.budget_kept(rows.iloc[:1], rows.iloc[:0]).verdict == "passed"


def test_effective_rank_and_mean_cosine_of_known_embeddings(catalog):
    random = np.random.default_rng(0)
    orthonormal = np.linalg.qr(random.normal(size=(8, 8)))[0].astype(np.float32)
    spread = health._spread(orthonormal)
    assert spread["effective_rank"] == pytest.approx(8, rel=1e-5)
    assert spread["mean_cosine"] == pytest.approx(0, abs=1e-6)
    line = health._spread(
        np.outer(random.uniform(1, 2, 9), random.normal(size=5)).astype(np.float32)
    )
    assert line["effective_rank"] == pytest.approx(1, abs=1e-3)
    assert line["mean_cosine"] == pytest.approx(1, abs=1e-5)
    vectors = random.normal(size=(7, 4)).astype(np.float32)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [float(a @ b) for a, b in itertools.combinations(units, 2)]
    assert health._spread(vectors)["mean_cosine"] == pytest.approx(np.mean(pairs), abs=1e-6)


def test_gradients_that_are_not_finite_are_counted_and_fail_their_check(catalog):
    """A root of the differences of channels has none at grey pixels."""
    embed = kinds.colour().eval()
    pixels = catalog.pixels(catalog.ids_of("test")[:8])
    pixels[:3] = pixels[:3, :, :, :1]  # grey all over
    pixels[3:] = [0, 100, 200]  # nowhere grey
    measured = health.measure(recommender(catalog, embed), to_images(pixels))
    assert measured["broken_gradients"] == 3
    check = next(c for c in checks._health(measured) if c.name == "gradients are not zero")
    assert check.verdict == "failed"
    assert "3 of 8 images with gradients that are not finite" in check.measured
    safe = health.measure(recommender(catalog, kinds.colour_safe().eval()), to_images(pixels))
    assert safe["broken_gradients"] == 0
