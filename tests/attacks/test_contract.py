"""What every attack of the registry owes, whatever it does inside."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advrec.attacks import budget
from advrec.attacks.carlini import ExactCW
from advrec.attacks.problem import Goal, Problem
from advrec.recommenders.losses import CosineDistance
from tests.attacks.problems import (
    PIXELS,
    UNSEEDED,
    LinearEncoder,
    alone,
    build,
    curved,
    names,
    problem_of,
    same_as_alone,
    watch,
)

QUICK = names(steps=3, queries=12)
ALL = ["auto", *QUICK]
RANDOM = [name for name in ALL if name.rpartition("-")[0] not in UNSEEDED and name not in UNSEEDED]
CELLS = [
    (fill, epsilon) for fill in ("zeros", "ones", "random") for epsilon in (0.0, 1e-3, 0.03, 1.0)
]


def filled(fill, generator):
    return {"zeros": torch.zeros, "ones": torch.ones}.get(
        fill, lambda *shape: torch.rand(*shape, generator=generator)
    )(*PIXELS)


def mixed(cells, seed=0):
    """A problem of one image for each cell."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.stack([filled(fill, generator) for fill, _ in cells])
    objective = CosineDistance(curved(8), torch.randn(len(cells), 8, generator=generator))
    epsilon = torch.tensor([epsilon for _, epsilon in cells], dtype=torch.float64)
    return Problem(objective, images, epsilon, seeds=torch.arange(len(cells)))


def batches(size):
    """Every cell in problems of `size` images."""
    cells = CELLS * -(-size // len(CELLS))
    return [
        mixed(cells[start : start + size], seed=start)
        for start in range(0, len(cells) if size < len(CELLS) else 1, size)
    ]


def hold(name, problem, result):
    """The contract of one result."""
    final = problem.ball.project(result.images)
    assert result.images.shape == problem.images.shape
    assert torch.isfinite(result.images).all()
    # in float64, without a tolerance
    assert (budget.linf(problem.images, final) <= problem.epsilon).all()
    assert final.min() >= 0
    assert final.max() <= 1
    unchanged = problem.epsilon == 0
    assert torch.equal(result.images[unchanged], problem.images[unchanged])
    if not name.startswith("cw-") or name.startswith("cw-exact"):
        assert torch.equal(final, result.images)  # inside by itself
    assert (result.forward_passes >= result.gradient_steps).all()
    assert (result.gradient_steps >= 0).all()
    assert name == "noise" or (result.forward_passes > 0)[~unchanged].all()


@pytest.mark.parametrize("size", [1, 3, 64])
@pytest.mark.parametrize("name", ALL)
def test_an_attack_keeps_budget_and_box_whatever_the_batch(name, size):
    for problem in batches(size):
        hold(name, problem, build(name)(problem))


@pytest.mark.parametrize("size", [1, 3, 64])
def test_the_batches_hold_every_kind_of_image_at_every_budget(size):
    seen = set()
    for problem in batches(size):
        assert len(problem.images) == size
        fills = [float(image.mean()) if image.std() == 0 else "random" for image in problem.images]
        seen |= set(zip(fills, problem.epsilon.tolist(), strict=True))
    assert len(seen) == len(CELLS)


@pytest.mark.parametrize("name", ALL)
def test_an_attack_keeps_budget_and_box_from_a_start_outside_the_ball(name):
    problem = batches(64)[0]
    start = torch.rand(problem.images.shape, generator=torch.Generator().manual_seed(3)).round()
    assert not torch.equal(start, problem.ball.project(start))
    hold(name, problem, build(name)(dataclasses.replace(problem, start=start)))


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("name", QUICK)
def test_every_image_that_is_asked_about_is_finite_and_inside_the_box_and_but_for_cw_the_ball(
    name, begun
):
    problem = watch(batches(64)[0])
    build(name)(dataclasses.replace(problem, start=problem.images.round() if begun else None))
    for entry in problem.objective.log:
        assert torch.isfinite(entry.images).all()
        assert entry.images.min() >= 0
        assert entry.images.max() <= 1
        assert name == "cw-3" or torch.equal(entry.images, problem.ball.project(entry.images))


def test_exact_cw_stays_inside_where_tanh_has_come_to_its_ends():
    encoder = LinearEncoder((3, 32, 32))
    # so that the cosine, and with it the gradient, does not come to its end before
    encoder.c = 1000.0
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    epsilon = torch.tensor([0.013, 0.03, 0.1, 0.7], dtype=torch.float64)
    result = ExactCW(steps=40, learning_rate=1.0)(
        Problem(CosineDistance(encoder, torch.tensor([[1.0, 0.0]] * 4)), images, epsilon)
    ).images
    assert (budget.linf(images, result) <= epsilon).all()
    assert (budget.linf(images, result) > 0.999999 * epsilon).all()
    assert result.min() >= 0
    assert result.max() <= 1


STARTABLE = [name for name in QUICK if name != "noise"]


@pytest.mark.parametrize("name", STARTABLE)
def test_an_attack_goes_on_from_the_start_that_it_is_given(name):
    problem = watch(problem_of(3, epsilon=0.2))
    start = problem.ball.project(
        torch.rand(problem.images.shape, generator=torch.Generator().manual_seed(3))
    )
    build(name)(dataclasses.replace(problem, start=start))
    # cw-exact leaves a hundredth of the interval on both sides, for tanh reaches its ends only at
    # infinity; cw a millionth.
    nearly = {"cw-3": 1e-5, "cw-exact-3": 0.01 * 0.4}.get(name, 0.0)
    assert (problem.objective.log[0].images - start).abs().max() <= nearly + 1e-7


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(QUICK),
    batch=st.sampled_from([1, 3, 8]),
    fill=st.sampled_from(["zeros", "ones", "random"]),
    epsilon=st.floats(0, 1),
    darker=st.sampled_from([1, 8]),
    seed=st.integers(0, 1000),
)
def test_an_attack_keeps_any_budget_and_the_box_to_the_last_bit(
    name, batch, fill, epsilon, darker, seed
):
    generator = torch.Generator().manual_seed(seed)
    # 8: pixels far below a budget's unit in the last place
    images = torch.stack([filled(fill, generator) for _ in range(batch)]) ** darker
    objective = CosineDistance(LinearEncoder(seed=seed), torch.randn(batch, 2, generator=generator))
    problem = Problem(objective, images, torch.full((batch,), epsilon, dtype=torch.float64))
    result = build(name)(problem)
    hold(name, problem, result)
    assert torch.equal(build(name)(problem).images, result.images)


@pytest.mark.parametrize("name", ALL)
def test_the_same_problem_twice_gives_the_same_images_and_costs(name):
    problem = batches(64)[0]
    first, second = build(name)(problem), build(name)(dataclasses.replace(problem))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.gradient_steps, second.gradient_steps)
    assert torch.equal(first.forward_passes, second.forward_passes)
    assert first.winners == second.winners


def rippled(epsilons):
    """An encoder that ripples many times within the ball, so that where an attack ends depends on
    where it began.
    """
    network, waves = curved(8), 50.0 / torch.tensor(epsilons, dtype=torch.float32).view(-1, 1, 1, 1)
    return lambda images: network(torch.sin(images * waves))


def rippled_problem():
    """Every kind of image at every budget but 0."""
    cells = [cell for cell in CELLS if cell[1] > 0]
    problem = mixed(cells)
    return dataclasses.replace(
        problem,
        objective=CosineDistance(
            rippled([epsilon for _, epsilon in cells]), problem.objective.targets
        ),
    )


def all_differ(first, second):
    return bool((first != second).flatten(1).any(1).all())


@pytest.mark.parametrize("name", RANDOM)
def test_another_seed_gives_other_images_where_there_is_a_budget(name):
    problem = rippled_problem()
    other = dataclasses.replace(problem, seeds=problem.seeds + 1000)
    assert all_differ(build(name)(problem).images, build(name)(other).images)


# which numbers its members' draws itself
@pytest.mark.parametrize("name", [name for name in RANDOM if name != "auto"])
def test_another_draw_gives_other_images_where_there_is_a_budget(name):
    problem = rippled_problem()
    assert all_differ(
        build(name)(problem).images, build(name)(dataclasses.replace(problem, draw=1)).images
    )


@pytest.mark.parametrize("name", [name for name in QUICK if name not in RANDOM])
def test_the_other_attacks_draw_nothing(name):
    problem = batches(64)[0]
    other = dataclasses.replace(problem, seeds=problem.seeds + 1000)
    assert torch.equal(build(name)(problem).images, build(name)(other).images)


@pytest.mark.parametrize("name", ["auto", *names(steps=10, queries=40)])
def test_an_image_gets_what_it_gets_alone_whatever_budgets_stand_beside_it(name):
    problem = problem_of(4, epsilon=[0.01, 0.05, 0.3, 0.9])
    same_as_alone(name, problem)


def test_some_of_the_problems_images_keep_their_balls_in_another_draw_too():
    problem = problem_of(4, epsilon=[0.01, 0.05, 0.3, 0.9])
    for narrowed in (
        alone(problem, 2),
        problem.select(torch.tensor([3, 1])),
        problem.but(draw=1),
        problem.select(torch.tensor([3, 1])).but(draw=2),
    ):
        expected = budget.ball(narrowed.images, narrowed.epsilon)
        assert torch.equal(narrowed.ball.lower, expected.lower)
        assert torch.equal(narrowed.ball.upper, expected.upper)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("stop", ["never", "rank-1", "converged"])
@pytest.mark.parametrize("name", ["auto", *names(steps=10, queries=40)])
def test_the_costs_are_those_that_the_objective_saw(name, stop, begun):
    problem = watch(problem_of(6, epsilon=[0.0, 0.02, 0.1, 0.1, 0.3, 1.0]))
    clean = problem.objective(problem.images)
    problem.objective.log.clear()
    below = clean - torch.tensor([0.1, 0.1, 0.1, 5.0, 0.3, -0.1])
    goal = Goal(below=below, stop=stop, round_trips=(lambda images: images.round(decimals=2),))
    result = build(name)(
        dataclasses.replace(
            problem,
            goal=goal,
            start=problem.ball.project(problem.images.round()) if begun else None,
        )
    )
    asked = [problem.objective.asked(row) for row in range(6)]
    assert result.gradient_steps.tolist() == [
        sum(entry.gradient for entry in entries) for entries in asked
    ]
    assert result.forward_passes.tolist() == [len(entries) for entries in asked]
