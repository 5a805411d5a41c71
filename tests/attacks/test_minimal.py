"""The smallest budgets of a linear encoder are known; those of a network are what a row says."""

import dataclasses

import numpy as np
import pytest
import torch

from advrec.attacks import budget
from advrec.attacks.minimal import MinimalBudget
from advrec.attacks.problem import Goal
from advrec.recommenders.losses import CosineDistance
from tests.attacks.problems import LinearEncoder, Problem, centred, problem_of

BUDGETS = torch.tensor([0.01, 0.02, 0.05, 0.1], dtype=torch.float64)


def linear(smallest, most=0.1):
    """A problem whose image n is solved from budget smallest[n] on: w.x grows by epsilon |w|."""
    encoder = LinearEncoder()
    needed = torch.as_tensor(smallest, dtype=torch.float64)
    images = centred(len(needed))
    below = encoder.optimum(images, needed).float()
    return Problem(
        CosineDistance(encoder, torch.tensor([[1.0, 0.0]] * len(needed))),
        images,
        torch.full_like(needed, most),
        goal=Goal(below=below),
    )


def budgets_of(problem):
    return BUDGETS[:, None].expand(len(BUDGETS), len(problem.images))


@pytest.mark.parametrize("steps", [100, 400])
def test_the_smallest_budgets_of_a_linear_encoder_are_found_within_three_percent(steps):
    smallest = np.geomspace(0.0005, 0.099, 24)
    problem = linear(smallest)
    reached = MinimalBudget(steps=steps).reach(problem, budgets_of(problem))
    found = reached.smallest.high.numpy()
    assert (found >= smallest * 0.9999).all()  # of float32 sums
    assert found == pytest.approx(smallest, rel=0.03)
    assert (reached.smallest.low.numpy() < found).all()
    assert reached.smallest.low.numpy() == pytest.approx(smallest, rel=0.03)
    assert budget.linf(problem.images, reached.smallest.images).numpy() == pytest.approx(found)
    assert reached.gradient_steps.sum(0).tolist() == [steps] * 24


def test_a_tuple_beyond_the_largest_budget_is_infinite_and_one_that_is_solved_already_0():
    problem = linear([0.2, 0.05])
    problem = dataclasses.replace(
        problem, goal=Goal(below=problem.goal.below + torch.tensor([0.0, 1.0]))
    )
    reached = MinimalBudget(steps=30).reach(problem, budgets_of(problem))
    assert reached.smallest.high.tolist() == [torch.inf, 0.0]
    assert reached.smallest.low.tolist() == [0.1, 0.0]
    assert torch.equal(reached.smallest.images, problem.images)


def test_each_budget_holds_the_largest_solved_one_else_the_best_image_projected():
    problem = problem_of(12, epsilon=0.1)
    scores = problem.objective(problem.images)
    problem = dataclasses.replace(problem, goal=Goal(below=scores - 0.05))
    reached = MinimalBudget(steps=60).reach(problem, budgets_of(problem))
    high = reached.smallest.high
    assert (high <= 0.1).sum() > 0
    assert (high > BUDGETS[0]).any()
    for allowed, images in zip(BUDGETS, reached.images, strict=True):
        assert (budget.linf(problem.images, images) <= allowed).all()
        solved = problem.objective(images) < problem.goal.below
        assert solved[high <= allowed].all()
        assert not solved[high > allowed].any()
    largest = budget.linf(problem.images, reached.images[-1])
    for place, allowed in enumerate(BUDGETS):
        here = budget.linf(problem.images, reached.images[place])
        rows = largest <= allowed  # the largest solved of all lies within this budget too
        assert torch.equal(here[rows & (high <= allowed)], largest[rows & (high <= allowed)])


def test_a_budget_of_its_own_is_the_same_search():
    problem = problem_of(5, epsilon=[0.01, 0.02, 0.05, 0.1, 0.0])
    problem = dataclasses.replace(
        problem, goal=Goal(below=problem.objective(problem.images) - 0.05)
    )
    attack = MinimalBudget(steps=20)
    alone = attack(problem)
    assert torch.equal(alone.images, attack.reach(problem, problem.epsilon[None]).images[0])
