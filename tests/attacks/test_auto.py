"""`auto` at all budgets at once: who is attacked where, what it costs, and whose image counts."""

import dataclasses

import pytest
import torch

from advrec.attacks import budget, names, registry
from advrec.attacks.objective import score
from advrec.attacks.problem import Goal, Problem
from advrec.recommenders.losses import CosineDistance
from tests.attacks.problems import LinearEncoder, centred, problem_of

BUDGETS = torch.tensor([0.01, 0.02, 0.05, 0.1], dtype=torch.float64)
COUNT = 6
AUTO = registry.build("auto", nested=True)
PROBE, FIRST, ONWARD, DOWNWARD = map(names.most_steps, names.AUTO_MEMBERS)


def reach(problem, budgets=BUDGETS):
    """What auto reaches at budgets (E,), and the scores (E, N) of its images."""
    reached = AUTO.reach(problem, budgets[:, None].expand(-1, len(problem.images)))
    return reached, torch.stack([score(problem.objective, images) for images in reached.images])


def linear(smallest):
    """A problem whose image n is solved from budget smallest[n] on: w.x grows by epsilon |w|."""
    encoder = LinearEncoder()
    needed = torch.as_tensor(smallest, dtype=torch.float64)
    images = centred(len(needed))
    return Problem(
        CosineDistance(encoder, torch.tensor([[1.0, 0.0]] * len(needed))),
        images,
        torch.full_like(needed, 0.1),
        goal=Goal(below=encoder.optimum(images, needed).float(), stop="rank-1"),
    )


def hopeless(problem, rows):
    """The same problem, no image solved and those of `rows` hopeless at any budget."""
    bound = torch.full((len(problem.images),), 3.0)
    bound[rows] = -1.0
    goal = Goal(below=torch.full_like(bound, -2.0), stop="rank-1", hopeless=bound)
    return dataclasses.replace(problem, goal=goal)


def test_images_of_a_linear_encoder_fall_from_their_smallest_budget_on():
    problem = linear([0.0009, 0.012, 0.022, 0.049, 0.052, 0.099, 0.11])
    reached, scores = reach(problem)
    solved = scores < problem.goal.below
    assert solved.sum(0).tolist() == [4, 3, 2, 2, 1, 1, 0]
    # Unsolved ones come as near as the budget allows.
    optimum = torch.stack([
        LinearEncoder().optimum(problem.images, budgets.expand(7)) for budgets in BUDGETS
    ])  # fmt: skip
    assert scores[~solved].numpy() == pytest.approx(optimum[~solved].numpy(), abs=1e-4)
    assert reached.inherited[1:, 0].all()  # the probe solved it
    assert reached.forward_passes[1:, 0].tolist() == [0, 0, 0]
    assert reached.inherited.sum() == 3


def test_a_larger_budget_is_never_worse_and_every_image_is_within_its_own():
    problem = problem_of(32)
    reached, scores = reach(problem)
    assert (scores[1:] <= scores[:-1]).all()
    for allowed, images in zip(BUDGETS, reached.images, strict=True):
        assert (budget.linf(problem.images, images) <= allowed).all()
        assert ((images >= 0) & (images <= 1)).all()
    assert len(set(sum(reached.winners, ()))) > 2


def test_the_hopeless_are_left_early_and_hold_the_larger_images_projected():
    problem = hopeless(problem_of(COUNT), [0, 4])
    reached, scores = reach(problem)
    given_up = torch.tensor([True, False, False, False, True, False])
    whole = [PROBE + DOWNWARD, DOWNWARD, DOWNWARD, FIRST + ONWARD]
    short = [PROBE, 0, 0, FIRST]
    for row, gone in enumerate(given_up):
        assert reached.gradient_steps[:, row].tolist() == (short if gone else whole)
    assert not reached.projected[:, ~given_up].any()
    assert reached.projected[:, given_up].tolist() == [
        *([False] * 2, [True] * 2, [True] * 2, [False] * 2)
    ]
    largest = reached.images[3]
    for place in (1, 2):
        within = dataclasses.replace(problem, epsilon=BUDGETS[place].expand(COUNT))
        expected = within.ball.project(reached.images[place + 1])[given_up]
        assert torch.equal(reached.images[place][given_up], expected)
        assert (scores[place] < scores[0])[given_up].all()
    assert not torch.equal(largest[given_up], reached.images[2][given_up])


def test_nobody_is_hopeless_where_fewer_than_a_hundred_articles_compete():
    problem = problem_of(COUNT)
    none = Goal(below=torch.full((COUNT,), -2.0), hopeless=torch.full((COUNT,), torch.inf))
    reached, _ = reach(dataclasses.replace(problem, goal=none))
    assert (reached.gradient_steps > 0).all()


def test_a_budget_of_0_is_the_clean_image_and_costs_no_step():
    problem = problem_of(COUNT)
    reached, _ = reach(problem, torch.tensor([0.0, 0.05], dtype=torch.float64))
    assert torch.equal(reached.images[0], problem.images)
    assert reached.gradient_steps.tolist() == [[0] * COUNT, [PROBE + FIRST + ONWARD] * COUNT]
    assert not reached.projected.any()
    nothing, _ = reach(problem, torch.zeros(1, dtype=torch.float64))
    assert torch.equal(nothing.images[0], problem.images)
    assert nothing.gradient_steps.sum() == 0


def test_one_budget_of_many_costs_little_more():
    """Five budgets by the first edition are five times one; here twice."""
    assert names.most_steps("auto", 5) < 2.5 * names.most_steps("auto", 1)
    steps = [
        int(reach(problem_of(COUNT), budgets)[0].gradient_steps.sum(0).max())
        for budgets in (BUDGETS[-1:], BUDGETS)
    ]
    assert steps == [names.most_steps("auto", 1), names.most_steps("auto", 4)]


def test_an_image_ends_as_it_does_alone():
    problem = problem_of(COUNT)
    together, _ = reach(problem)
    for row in range(COUNT):
        apart, _ = reach(problem.select(torch.tensor([row])))
        assert (apart.images[:, 0] - together.images[:, row]).abs().max() <= 1e-5
        assert torch.equal(apart.gradient_steps[:, 0], together.gradient_steps[:, row])
