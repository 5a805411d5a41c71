"""Attacks against a closed-form optimum."""

import pytest
import torch

from advrec.attacks import registry
from advrec.attacks.problem import Problem
from advrec.recommenders.losses import CosineDistance
from tests.attacks.problems import LinearEncoder, centred

EPSILONS = [0.0, 0.001, 0.01, 0.03, 0.1, 0.2]
FAR = (100.0, 2.0)
"""A target of the encoder's own second coordinate: the squared distance to it is (w.x - 100)^2,
which falls, as the cosine distance does, with w.x wherever w.x < 100. So the best image is the same
for both. For (1, 0) it is not: (w.x - 1)^2 is least at w.x = 1.
"""


def problem_towards(target, encoder, shape=(3, 4, 4)):
    images = centred(len(EPSILONS), shape=shape)
    objective = CosineDistance(encoder, torch.tensor([target]).expand(len(images), 2))
    return Problem(
        objective,
        images,
        torch.tensor(EPSILONS, dtype=torch.float64),
        seeds=torch.arange(len(images)),
    )


def share_of_optimum(name, target, shape=(3, 4, 4)):
    """Final distance over the least possible."""
    encoder = LinearEncoder(shape)
    problem = problem_towards(target, encoder, shape)
    optimum = encoder.optimum(problem.images, problem.epsilon, target)
    return encoder.distance(registry.by_name(name)(problem).images, target) / optimum


@pytest.mark.parametrize(
    "name",
    [
        "fgsm",
        "pgd-8",
        "pgd-128",
        "apgd-100",
        "pgd-decay-64",
        "pgd-momentum-64",
        "mifgsm-64",
        "cw-exact-100",
        "cw-exact-1000",
    ],
)
def test_gradient_attacks_reach_the_closed_form_optimum(name):
    share = share_of_optimum(name, (1.0, 0.0))
    assert (share <= 1.05).all()
    assert (share >= 1.0 - 1e-4).all()


def test_exact_cw_makes_nearly_all_of_the_possible_gain_in_100_steps():
    encoder = LinearEncoder()
    problem = problem_towards((1.0, 0.0), encoder)
    clean, best = encoder.distance(problem.images), encoder.optimum(problem.images, problem.epsilon)
    gained = (clean - encoder.distance(registry.by_name("cw-exact-100")(problem).images)) / (
        clean - best
    )
    assert (gained[1:] > 0.995).all()


@pytest.mark.parametrize("name", ["apgd-100", "apgd-l2-100"])
def test_both_losses_reach_the_optimum_where_it_is_the_same(name):
    share = share_of_optimum(name, FAR)
    assert (share <= 1.05).all()
    assert (share >= 1.0 - 1e-4).all()


def test_the_squared_distance_does_not_lead_to_the_optimum_of_the_cosine():
    assert (share_of_optimum("apgd-l2-100", (1.0, 0.0))[4:] > 1.5).all()


def test_square_reaches_the_optimum_of_a_linear_encoder_with_enough_queries():
    """On 4 x 4 grey pixels all windows are single pixels after 2 % of the queries, 392 here. Each
    then proposes 1 of 16 pixels and 1 of 2 signs, and keeps the right sign for ever. So a pixel
    stays wrong with probability (1 - 1 / 32)^392, about 4e-6.
    """
    share = share_of_optimum("square-400", (1.0, 0.0), shape=(1, 4, 4))
    assert (share <= 1.05).all()
    assert (share >= 1.0 - 1e-4).all()


def test_square_with_few_queries_does_not():
    share = share_of_optimum("square-10", (1.0, 0.0), shape=(1, 4, 4))
    assert (share[3:] > 1.05).all()
