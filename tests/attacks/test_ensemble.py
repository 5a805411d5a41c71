"""Attacks made of attacks: who meets whom, whose image is kept, and what a larger budget owes to a
smaller one.
"""

import dataclasses

import pytest
import torch

from advrec.attacks import names, registry
from advrec.attacks.ensemble import START, Ensemble, Member, with_restarts
from advrec.attacks.objective import Delivered, score
from advrec.attacks.problem import Goal
from tests.attacks.problems import families, problem_of

COUNT = 6
NESTABLE = [*registry.FIXED, *families(steps=10, queries=40)]


class Logged:
    """An attack that writes down the problems it is given and what it made of them."""

    def __init__(self, name):
        self.attack, self.calls = registry.by_name(name), []

    def __call__(self, problem):
        result = self.attack(problem)
        self.calls.append((problem, result))
        return result


def goals(problem, below, stop="never"):
    return dataclasses.replace(problem, goal=Goal(below=torch.as_tensor(below), stop=stop))


def scores_of(problem, images):
    return score(problem.objective, problem.ball.project(images))


def partly_solved(first, stop="never", epsilon=0.2):
    """Images of which the attack `first`, in its first draw, solves 0, 1 and 2; 3 to 5 nobody
    solves.
    """
    problem = problem_of(COUNT, epsilon=epsilon)
    below = scores_of(problem, registry.by_name(first)(problem).images) + 1e-3
    below[3:] = -1.0
    return goals(problem, below, stop)


def logged(*names):
    return Ensemble(
        tuple(Member(f"member {place} {name}", Logged(name)) for place, name in enumerate(names))
    )


def calls(ensemble):
    return [call for member in ensemble.members for call in member.attack.calls]


@pytest.mark.parametrize("stop", ["never", "rank-1"])
def test_later_members_meet_only_what_is_not_solved_yet(stop):
    ensemble = logged("apgd-5", "pgd-decay-5", "square-20")
    problem = partly_solved("apgd-5", stop)
    ensemble(problem)
    (first, _), (second, _), (third, _) = calls(ensemble)
    assert first.seeds.tolist() == list(range(COUNT))
    assert second.seeds.tolist() == third.seeds.tolist() == [3, 4, 5]
    assert torch.equal(second.images, problem.images[3:])
    assert torch.equal(second.goal.below, problem.goal.below[3:])


def test_nobody_is_called_once_all_are_solved():
    ensemble = logged("apgd-5", "apgd-5")
    result = ensemble(goals(problem_of(COUNT), [3.0] * COUNT))
    assert [len(member.attack.calls) for member in ensemble.members] == [1, 0]
    assert set(result.winners) == {"member 0 apgd-5"}


def test_members_draw_from_streams_of_their_own():
    ensemble = logged("apgd-5", "apgd-5", "apgd-5")
    ensemble(problem_of(COUNT))
    assert [problem.draw for problem, _ in calls(ensemble)] == [0, 1, 2]
    starts = [problem.random_start() for problem, _ in calls(ensemble)]
    assert all(not torch.equal(starts[a], starts[b]) for a in range(3) for b in range(a))


@pytest.mark.parametrize(
    "members", [("fgsm", "square-60", "pgd-3"), ("cw-9", "apgd-3", "pgd-8"), names.AUTO_MEMBERS]
)
def test_the_winner_made_the_image_and_nobody_made_a_better_one(members):
    """Each member alone, with the draw that it has in the ensemble."""
    problem = problem_of(COUNT, epsilon=[0.01, 0.05, 0.1, 0.3, 0.6, 0.9])
    result = Ensemble(tuple(Member(name, registry.by_name(name)) for name in members))(problem)
    made = {
        name: registry.by_name(name)(dataclasses.replace(problem, draw=draw)).images
        for draw, name in enumerate(members)
    }
    scores = {name: scores_of(problem, images) for name, images in made.items()}
    ours = scores_of(problem, result.images)
    for row, winner in enumerate(result.winners):
        assert torch.equal(result.images[row], made[winner][row])
        assert all(ours[row] <= scores[name][row] for name in members)
    assert len(set(result.winners)) > 1


def test_the_first_edition_of_auto_is_the_ensemble_that_the_registry_says():
    attack = registry.build("auto-1", nested=True)
    assert [member.label for member in attack.members] == list(names.AUTO_1_MEMBERS)
    assert [member.attack for member in attack.members] == [
        registry.by_name(name) for name in names.AUTO_1_MEMBERS
    ]


@pytest.mark.parametrize(
    ("name", "members", "delivered"),
    [
        ("auto", names.AUTO_MEMBERS, names.AUTO_DELIVERED),
        ("auto-1", names.AUTO_1_MEMBERS, names.AUTO_1_DELIVERED),
    ],
)
def test_auto_has_members_of_its_own_where_images_are_delivered(name, members, delivered):
    problem = problem_of(COUNT, epsilon=0.1)
    seen = problem.but(objective=Delivered(problem.objective, lambda images: images))
    labels = [set(registry.build(name)(each).winners) for each in (problem, seen)]
    assert labels[0] <= {*members}
    assert labels[1] <= {*delivered}
    for used, flag in ((members, False), (delivered, True)):
        # auto's last member is for smaller budgets, of which there are none.
        asked = used[:-1] if name == "auto" else used
        counted = names.most_steps(name, delivered=flag)
        assert counted == sum(map(names.most_steps, asked))


def test_a_solved_image_is_its_first_solvers_even_where_another_came_nearer_unsolved():
    """A round trip decides what is solved; the score before it does not."""
    problem = problem_of(COUNT, epsilon=0.3)
    near, far = (
        registry.by_name("apgd-20")(problem).images,
        registry.by_name("fgsm")(dataclasses.replace(problem, draw=1)).images,
    )
    assert (scores_of(problem, near) < scores_of(problem, far)).all()

    def spoil(images):
        """A shop that puts other pixels into the first attack's images."""
        return torch.where(
            torch.stack([(image == near).flatten(1).all(1).any() for image in images]).view(
                -1, 1, 1, 1
            ),
            0.5,
            images,
        )

    below = scores_of(problem, far) + 1e-3
    lost = scores_of(problem, torch.full_like(near, 0.5)) >= below
    assert lost.sum() > 1
    problem = dataclasses.replace(
        problem, goal=Goal(below=below, round_trips=(spoil,), levels=False)
    )
    result = Ensemble(
        (Member("near", registry.by_name("apgd-20")), Member("far", registry.by_name("fgsm")))
    )(problem)
    assert [winner for winner, gone in zip(result.winners, lost.tolist(), strict=True) if gone] == [
        "far"
    ] * int(lost.sum())
    assert torch.equal(result.images[lost], far[lost])


def test_the_costs_are_the_members_and_one_look_at_each_result():
    ensemble = logged("apgd-5", "square-20")
    result = ensemble(problem_of(COUNT))
    assert result.gradient_steps.tolist() == [5] * COUNT
    assert result.forward_passes.tolist() == [6 + 1 + 20 + 1] * COUNT


# Restarts


@pytest.mark.parametrize("name", ["apgd-5", "cw-exact-5", "mifgsm-5", "square-20"])
def test_restarts_attack_only_the_survivors_and_begin_elsewhere(name):
    attack = Logged(name)
    problem = partly_solved(name)
    result = with_restarts(name, attack, 2)(problem)
    assert [given.seeds.tolist() for given, _ in attack.calls] == [
        [0, 1, 2, 3, 4, 5],
        [3, 4, 5],
        [3, 4, 5],
    ]
    assert [given.draw for given, _ in attack.calls] == [0, 1, 2]
    assert result.winners[:3] == (name,) * 3
    ends = [made.images[-3:] for _, made in attack.calls]
    assert all(not torch.equal(ends[a], ends[b]) for a in range(3) for b in range(a))


@pytest.mark.parametrize("family", names.STRONG)
def test_an_image_with_restarts_is_as_good_as_the_best_of_them(family):
    name = f"{family}-6"
    problem = problem_of(COUNT, epsilon=0.9)
    result = registry.build(name, restarts=2)(problem)
    made = [
        registry.by_name(name)(dataclasses.replace(problem, draw=draw)).images for draw in range(3)
    ]
    scores = torch.stack([scores_of(problem, images) for images in made])
    labels = [name, f"{name} restart 1", f"{name} restart 2"]
    assert result.winners == tuple(labels[place] for place in scores.argmin(0))
    assert torch.equal(scores_of(problem, result.images), scores.amin(0))
    assert set(result.winners) != {name}


# Nested budgets


@pytest.mark.parametrize("name", ["auto-1", *NESTABLE])
def test_a_larger_budget_is_never_worse_than_the_smaller_one_that_it_starts_from(name):
    attack, carried, before = registry.build(name, nested=True), None, None
    for epsilon in (0.0, 0.01, 0.1, 0.6):
        problem = problem_of(COUNT, epsilon=epsilon, start=carried)
        result = attack(problem)
        carried = problem.ball.project(result.images)
        scores = scores_of(problem, carried)
        assert before is None or (scores <= before).all()
        before = scores


@pytest.mark.parametrize("name", NESTABLE)
def test_with_all_steps_a_larger_budget_is_never_worse_than_a_solved_one(
    name,
):
    """The harness asks this with nested and stop: never."""
    smaller = problem_of(64, epsilon=0.2)
    start = smaller.ball.project(registry.by_name("apgd-30")(smaller).images)
    before = scores_of(smaller, start)
    larger = goals(problem_of(64, epsilon=0.9, start=start), before + 0.5)
    assert (scores_of(larger, registry.build(name, nested=True)(larger).images) <= before).all()


def test_survivors_of_a_nested_start_begin_afresh():
    attack = Logged("apgd-5")
    smaller = problem_of(COUNT, epsilon=0.01)
    start = smaller.ball.project(registry.by_name("apgd-5")(smaller).images)
    problem = partly_solved("apgd-5", epsilon=0.3)
    problem = dataclasses.replace(problem, start=start, goal=None)
    below = scores_of(problem, registry.by_name("apgd-5")(problem).images) + 1e-3
    below[3:] = -1.0
    Ensemble((Member("apgd-5", attack),))(goals(problem, below))
    (first, _), (second, _) = attack.calls
    assert torch.equal(first.start, start)
    assert second.start is None
    assert second.draw == 1
    assert second.seeds.tolist() == [3, 4, 5]


def test_only_the_first_of_several_members_goes_on_from_a_nested_start():
    ensemble = logged("apgd-5", "apgd-l2-5", "square-20")
    problem = problem_of(COUNT)
    ensemble(dataclasses.replace(problem, start=problem.images))
    assert [given.start is None for given, _ in calls(ensemble)] == [False, True, True]


def test_without_a_start_a_lone_member_is_called_once():
    attack = Logged("apgd-5")
    Ensemble((Member("apgd-5", attack),))(problem_of(COUNT))
    assert len(attack.calls) == 1


def test_the_winner_is_the_start_where_nobody_did_better():
    problem = problem_of(COUNT, epsilon=0.3)
    best = registry.by_name("apgd-100")(problem).images
    result = registry.build("noise", nested=True)(dataclasses.replace(problem, start=best))
    assert result.winners == (START,) * COUNT
    assert torch.equal(result.images, best)
    mixed = torch.where(torch.arange(COUNT).view(-1, 1, 1, 1) < 3, best, problem.images)
    result = registry.build("fgsm", nested=True)(dataclasses.replace(problem, start=mixed))
    assert result.winners[3:] == ("fgsm",) * 3


def test_a_start_outside_the_ball_competes_as_its_projection():
    problem = problem_of(COUNT, epsilon=0.1)
    best = registry.by_name("apgd-50")(problem).images
    outside = problem.images + 5.0 * (best - problem.images)
    result = registry.build("noise", nested=True)(dataclasses.replace(problem, start=outside))
    assert result.winners == (START,) * COUNT
    assert torch.equal(result.images, problem.ball.project(outside))
