"""Who leaves the batch, when, and with what; and that nobody else notices."""

import dataclasses

import pytest
import torch

from advrec.attacks import registry
from advrec.attacks.objective import score
from advrec.attacks.problem import Goal, Problem
from advrec.recommenders.losses import CosineDistance
from tests.attacks.problems import (
    LinearEncoder,
    alone,
    build,
    centred,
    problem_of,
    same_as_alone,
    stopping,
    watch,
)

NAMES = ["auto", *stopping(steps=20, queries=60)]
UNREACHABLE = -1.0
CONVERGED_STEPS = 20  # as promised: no gain of 1e-4 in so many steps


def png(images, levels=255):
    return (images * levels).round() / levels


def few(images):
    """A delivery of 16 levels alone: every 17th of those of 8 bits."""
    return png(images, 15)


def final_scores(problem, images):
    return score(problem.objective, problem.ball.project(images))


def with_goal(problem, below, **more):
    return dataclasses.replace(problem, goal=Goal(below=torch.as_tensor(below), **more))


def on_the_way(name, problem):
    """Scores below which the attack comes, though not at once."""
    clean = score(problem.objective, problem.images)
    reached = final_scores(problem, build(name)(problem).images)
    assert (reached < clean).all()
    return (clean + reached) / 2


def graded(name):
    """Image 0 is solved before it is attacked, images 1 to 3 on the way, image 4 never."""
    problem = problem_of(5, epsilon=0.2)
    below = on_the_way(name, problem)
    below[0], below[4] = 3.0, UNREACHABLE
    return with_goal(problem, below, stop="rank-1")


@pytest.mark.parametrize("name", NAMES)
def test_a_solved_image_leaves_below_its_threshold_and_sooner_than_it_would(name):
    problem = graded(name)
    stopped, never = build(name)(problem), build(name)(dataclasses.replace(problem, goal=None))
    assert (final_scores(problem, stopped.images)[:4] < problem.goal.below[:4]).all()
    assert (stopped.forward_passes[:4] < never.forward_passes[:4]).all()
    assert (stopped.gradient_steps[:4] < never.gradient_steps[:4]).all() or name.startswith(
        "square"
    )
    assert stopped.gradient_steps[0] == (0 if name.startswith("square") else 1)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_that_is_never_solved_takes_all_steps_to_the_same_end(name):
    problem = graded(name)
    stopped, never = build(name)(problem), build(name)(dataclasses.replace(problem, goal=None))
    assert stopped.images[4].numpy() == pytest.approx(never.images[4].numpy(), abs=1e-5)
    assert stopped.gradient_steps[4] == never.gradient_steps[4]


@pytest.mark.parametrize("name", NAMES)
def test_who_leaves_changes_nothing_for_the_others(name):
    problem = graded(name)
    same_as_alone(name, problem)


def test_what_the_test_of_a_solved_image_costs_does_not_depend_on_the_image_beside_it():
    """CW begins a millionth away from the clean image: outside the first image's ball, inside the
    second's.
    """
    problem = with_goal(problem_of(2, epsilon=[1e-9, 0.2]), [3.0, 3.0], stop="rank-1")
    costs = [int(build("cw-20")(alone(problem, row)).forward_passes[0]) for row in range(2)]
    assert build("cw-20")(problem).forward_passes.tolist() == costs


@pytest.mark.parametrize("name", stopping(steps=20, queries=60))
def test_every_step_is_taken_where_none_may_stop_even_with_a_goal(name):
    problem = graded(name)
    free = build(name)(dataclasses.replace(problem, goal=None))
    held = build(name)(
        dataclasses.replace(problem, goal=dataclasses.replace(problem.goal, stop="never"))
    )
    assert torch.equal(held.images, free.images)
    assert torch.equal(held.forward_passes, free.forward_passes)
    assert (held.gradient_steps == (0 if name.startswith("square") else 20)).all()


@pytest.mark.parametrize("name", stopping(steps=20, queries=60))
def test_a_solved_image_is_the_first_that_was_below(name):
    problem = watch(graded(name))
    result = build(name)(problem)
    for row in (1, 2, 3):
        asked = [
            entry for entry in problem.objective.asked(row) if entry.gradient or "square" in name
        ]
        iterates = torch.stack([entry.images[entry.rows.index(row)] for entry in asked])
        one = problem.select(torch.full((len(iterates),), row))
        solved = final_scores(one, iterates) < problem.goal.below[row]
        assert solved.tolist() == [False] * (len(iterates) - 1) + [True]
        assert torch.equal(iterates[-1], result.images[row])


def test_an_image_that_is_below_only_outside_the_ball_does_not_stop():
    encoder = LinearEncoder()
    images, epsilon = centred(2), torch.full((2,), 0.03, dtype=torch.float64)
    problem = Problem(CosineDistance(encoder, torch.tensor([[1.0, 0.0]] * 2)), images, epsilon)
    # cw-40 overshoots its budget by more than that (test_attacks)
    below = encoder.optimum(images, epsilon) - 1e-3
    result = registry.by_name("cw-40")(with_goal(problem, below.float(), stop="rank-1"))
    assert (problem.objective(result.images) < below).all()
    assert result.gradient_steps.tolist() == [40, 40]


# Round trips


def drawn_in_bytes(name, epsilon, levels=png):
    """Images of whole 255ths, as the catalog's are, and scores halfway to where the attack comes by
    itself.
    """
    problem = problem_of(4, epsilon=epsilon)
    problem = dataclasses.replace(problem, images=levels(problem.images))
    return problem, on_the_way(name, problem)


@pytest.mark.parametrize("name", NAMES)
def test_a_stopped_image_is_still_below_after_the_round_trip(name):
    problem, below = drawn_in_bytes(name, 0.1)
    result = build(name)(with_goal(problem, below, stop="rank-1", round_trips=(png,)))
    final = problem.ball.project(result.images)
    assert (score(problem.objective, final) < below).all()
    assert (score(problem.objective, png(final)) < below).all()
    assert (result.forward_passes < build(name)(problem).forward_passes).all()


@pytest.mark.parametrize("name", stopping(steps=20, queries=60))
def test_an_image_that_is_below_only_before_the_round_trip_does_not_stop(name):
    """Within 8 / 255 every image rounds to the clean one."""
    problem, below = drawn_in_bytes(name, 8 / 255, few)
    without = build(name)(with_goal(problem, below, stop="rank-1"))
    through = build(name)(with_goal(problem, below, stop="rank-1", round_trips=(few,)))
    assert (without.forward_passes < build(name)(problem).forward_passes).all()
    assert torch.equal(through.gradient_steps, build(name)(problem).gradient_steps)
    assert torch.equal(few(problem.ball.project(through.images)), problem.images)


def test_below_one_level_nothing_can_arrive_and_the_image_for_float_counts():
    levels = torch.tensor([0.4, 0.9, 1.0, 8.0], dtype=torch.float64)
    problem, below = drawn_in_bytes("pgd-20", levels / 255)
    lost = with_goal(
        problem, below, stop="rank-1", round_trips=(lambda images: images * torch.nan,)
    )
    assert build("pgd-20")(lost).gradient_steps.lt(20).tolist() == [True, True, False, False]
    before = dataclasses.replace(lost, goal=dataclasses.replace(lost.goal, levels=False))
    assert build("pgd-20")(before).gradient_steps.tolist() == [20] * 4


def test_a_solved_image_is_returned_before_a_lower_score_that_was_lost():
    def coarse(images):
        return (images * 4).round() / 4

    problem = problem_of(32, epsilon=0.3)
    below = score(problem.objective, coarse(build("apgd-20")(problem).images)) + 0.05
    problem = watch(problem)
    result = build("apgd-20")(with_goal(problem, below, stop="rank-1", round_trips=(coarse,)))
    passed_over = 0
    for row in (result.gradient_steps < 20).nonzero()[:, 0].tolist():
        iterates = [
            entry.images[entry.rows.index(row)]
            for entry in problem.objective.asked(row)
            if entry.gradient
        ]
        scores = final_scores(
            problem.select(torch.full((len(iterates),), row)), torch.stack(iterates)
        )
        assert torch.equal(result.images[row], iterates[-1])
        assert (
            score(problem.objective.select(torch.tensor([row])), coarse(iterates[-1][None]))
            < below[row]
        )
        passed_over += bool(scores[-1] > scores.min())
    assert passed_over > 0


def test_every_round_trip_has_a_say():
    problem, below = drawn_in_bytes("pgd-20", 8 / 255, few)
    for trips in [(few, torch.clone), (torch.clone, few)]:
        assert (
            build("pgd-20")(
                with_goal(problem, below, stop="rank-1", round_trips=trips)
            ).gradient_steps
            == 20
        ).all()


# Convergence


@pytest.mark.parametrize("name", stopping(steps=60, queries=60))
def test_an_image_on_a_flat_objective_leaves_after_so_many_steps_from_the_first_evaluation(name):
    problem = problem_of(2)
    flat = CosineDistance(
        lambda images: images.flatten(1)[:, :8] * 0.0 + 1.0, problem.objective.targets
    )
    result = build(name)(
        with_goal(dataclasses.replace(problem, objective=flat), [UNREACHABLE] * 2, stop="converged")
    )
    assert (result.forward_passes == CONVERGED_STEPS + 1).all()
    assert (
        result.gradient_steps == (0 if name.startswith("square") else CONVERGED_STEPS + 1)
    ).all()


def level():
    """An image of budget 0 that gains nothing, and one that gains with every step of PGD."""
    objective = CosineDistance(LinearEncoder(), torch.tensor([[1.0, 0.0]] * 2))
    problem = Problem(objective, centred(2), torch.tensor([0.0, 0.3], dtype=torch.float64))
    return with_goal(problem, [UNREACHABLE] * 2, stop="converged")


def test_an_image_that_gains_goes_on_where_one_beside_it_leaves():
    problem = level()
    result = build("pgd-60")(problem)
    assert result.gradient_steps.tolist() == [CONVERGED_STEPS + 1, 60]
    assert torch.equal(result.images[0], problem.images[0])
    assert torch.equal(
        result.images[1:], build("pgd-60")(dataclasses.replace(alone(problem, 1), goal=None)).images
    )


@pytest.mark.parametrize(("share", "steps"), [(0.8, CONVERGED_STEPS + 1), (1.2, 60)])
def test_the_least_gain_that_counts_is_the_stated_one(share, steps):
    """1e-4 in 20 steps. PGD on a linear encoder of great length c gains the same in each step."""
    encoder = LinearEncoder()
    encoder.c = 20.0
    images = centred(1)
    problem = Problem(
        CosineDistance(encoder, torch.tensor([[1.0, 0.0]])),
        images,
        torch.tensor([1e-3], dtype=torch.float64),
    )
    full = float(encoder.distance(images) - encoder.optimum(images, problem.epsilon))
    epsilon = problem.epsilon * share * 1e-4 / (full * CONVERGED_STEPS / 60)
    problem = with_goal(
        dataclasses.replace(problem, epsilon=epsilon), [UNREACHABLE], stop="converged"
    )
    assert build("pgd-60")(problem).gradient_steps.tolist() == [steps]


# whose images never stand still
@pytest.mark.parametrize(
    "name", [name for name in stopping(steps=80, queries=80) if name != "cw-80"]
)
def test_who_converges_changes_nothing_for_the_others(name):
    problem = with_goal(
        problem_of(4, epsilon=[0.3, 0.0, 0.03, 0.1]), [UNREACHABLE] * 4, stop="converged"
    )
    same_as_alone(name, problem)
    together = build(name)(problem)
    assert len(set(together.forward_passes.tolist())) > 1


def test_a_solved_image_leaves_before_it_has_converged():
    problem = level()
    below = score(problem.objective, problem.images) - torch.tensor([0.0, 0.05])
    result = build("pgd-60")(with_goal(problem, below, stop="converged"))
    assert result.gradient_steps[0] == CONVERGED_STEPS + 1
    assert 1 < result.gradient_steps[1] < CONVERGED_STEPS


def test_a_converged_image_is_the_best_so_far_where_the_attack_keeps_the_best():
    problem = watch(with_goal(problem_of(4, epsilon=0.3), [UNREACHABLE] * 4, stop="converged"))
    result = build("apgd-200")(problem)
    assert (result.gradient_steps < 200).all()
    for row in range(4):
        seen = torch.stack(
            [entry.images[entry.rows.index(row)] for entry in problem.objective.asked(row)]
        )
        scores = final_scores(problem.select(torch.full((len(seen),), row)), seen)
        assert torch.equal(result.images[row], seen[scores.argmin()])
