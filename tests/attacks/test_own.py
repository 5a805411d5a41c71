"""Attacks of the user's own: what they are given, what is counted, and what is refused."""

import dataclasses
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from advrec.attacks import own
from advrec.attacks.own import Counted, OwnAttack
from advrec.attacks.problem import Goal
from advrec.attacks.registry import build
from advrec.errors import ConfigError
from tests.attacks.problems import problem_of

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "attacks.md"


def guide_attack():
    """The function that the guide shows."""
    (code,) = re.findall(r"```python\n(# shop/attacks.py\n.*?)```", GUIDE.read_text(), re.DOTALL)
    space = {}
    exec(code, space)
    return code, space["sign_gradient"]


sign_gradient = guide_attack()[1]


def attacked(function, problem=None):
    return OwnAttack("shop.attacks:mine", function)(problem or problem_of(4))


def test_the_guide_s_attack_is_pgd():
    problem = problem_of(4)
    mine, ours = attacked(sign_gradient, problem), build("pgd-8")(problem)
    assert torch.equal(problem.ball.project(mine.images), ours.images)
    assert torch.equal(mine.gradient_steps, ours.gradient_steps)
    assert torch.equal(mine.forward_passes, ours.forward_passes)


def test_every_pass_is_counted_of_the_images_it_was_made_of():
    def mine(images, epsilons, objective, generator):
        objective(images)
        some = objective.select(torch.arange(len(images)) > 0)
        some.gradient(images[1:])
        free = images[1:].clone().requires_grad_()
        losses = some.select(torch.tensor([0]))(free[:1])
        torch.autograd.grad(losses.sum(), free, retain_graph=True)
        torch.autograd.grad(losses.sum(), free)  # a second pass back
        return images

    problem = problem_of(4)
    result, others = attacked(mine, problem), len(problem.images) - 2
    assert result.gradient_steps.tolist() == [0, 3, *[1] * others]
    assert result.forward_passes.tolist() == [1, 3, *[2] * others]


def test_losses_and_gradients_are_those_of_the_objective():
    problem = problem_of(4)

    def mine(images, epsilons, objective, generator):
        losses, gradient = objective.gradient(images)
        assert torch.equal(losses, problem.objective(images))
        assert torch.equal(losses, objective(images))
        free = images.clone().requires_grad_()
        assert torch.equal(gradient, torch.autograd.grad(objective(free).sum(), free)[0])
        assert torch.equal(epsilons, problem.epsilon)
        assert torch.equal(objective.start, images)
        return images

    attacked(mine, problem)


def test_stop_and_start_are_those_of_the_entry():
    problem = problem_of(4)
    goal = Goal(below=torch.linspace(0, 1, len(problem.images)), stop="rank-1")
    seen = []

    def mine(images, epsilons, objective, generator):
        seen.append((objective.below, objective.start))
        return images

    start = problem.images + 1.0
    for changes in ({"goal": goal}, {"goal": dataclasses.replace(goal, stop="never")}, {}):
        attacked(mine, problem.but(**changes))
    attacked(mine, problem.but(start=start))
    assert torch.equal(seen[0][0], goal.below)
    assert all((below == -torch.inf).all() for below, _ in seen[1:])
    assert torch.equal(seen[0][1], problem.images)
    assert torch.equal(seen[3][1], problem.ball.project(start))


def descending(start):
    """A step from a start that is drawn; `start` gets the images and the generator."""

    def mine(images, epsilons, objective, generator):
        begun = images + 0.1 * start(images, generator).to(images) - 0.05
        return begun - 0.1 * objective.gradient(begun)[1].sign()

    return mine


STREAMS = {
    "its generator": lambda images, own: torch.rand(images.shape, generator=own),
    "torch": lambda images, own: torch.rand(images.shape),
    "numpy": lambda images, own: torch.from_numpy(np.random.rand(*images.shape)),
    "python": lambda images, own: torch.tensor(random.random()).expand(images.shape),
}


@pytest.mark.parametrize("stream", STREAMS)
def test_what_an_image_draws_depends_on_no_other(stream):
    function, problem = descending(STREAMS[stream]), problem_of(6)
    together = attacked(function, problem)
    for rows in ([0], [5], [2, 3], [4, 1, 0]):
        some = attacked(function, problem.select(torch.tensor(rows)))
        assert torch.equal(some.images, together.images[rows])
        assert torch.equal(some.gradient_steps, together.gradient_steps[rows])
    assert together.gradient_steps.tolist() == together.forward_passes.tolist() == [1] * 6
    moves = (together.images - problem.images).flatten(1)
    assert len(moves.unique(dim=0)) == 6
    assert not torch.equal(attacked(function, problem.but(draw=1)).images, together.images)


def test_a_function_is_called_one_image_at_a_time_only_where_it_draws():
    sizes = []

    def mine(images, epsilons, objective, generator):
        sizes.append(len(images))
        if drawing:
            torch.rand(1, generator=generator)
        objective(images)
        sizes.append("passed")
        return images

    drawing = False
    attacked(mine)
    assert sizes == [4, "passed"]
    drawing = True
    del sizes[:]
    attacked(mine)
    assert sizes == [4, *[1, "passed"] * 4]  # the batch is given up before its first pass


def test_nobody_elses_draws_are_touched():
    problem = problem_of(4)
    before = torch.random.get_rng_state(), np.random.get_state()[2], random.getstate()
    for draw in STREAMS.values():
        attacked(descending(draw), problem)
    after = torch.random.get_rng_state(), np.random.get_state()[2], random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def in_place(images, epsilons, objective, generator):
    return images.add_(0.01)


def raising(images, epsilons, objective, generator):
    raise KeyError("no such layer")


def misled(images, epsilons, objective, generator):
    return objective(images[:, :1])


BAD = {
    "changes its argument images in place": in_place,
    "raised KeyError": raising,
    "gave its objective a tensor of the shape": misled,
    "returned a tensor of the shape": lambda images, *_: images[:1],
    "returned a list": lambda images, *_: list(images),
    "returned a NoneType": lambda images, *_: None,
    "returned values that are not finite": lambda images, *_: images * torch.nan,
    "returned torch.uint8": lambda images, *_: images.byte(),
}


@pytest.mark.parametrize("words", BAD)
def test_what_breaks_the_rules_is_one_sentence(words):
    with pytest.raises(ConfigError, match=rf"^shop.attacks:mine {words}") as caught:
        attacked(BAD[words])
    assert "\n" not in str(caught.value)


def test_memory_that_does_not_suffice_asks_for_a_smaller_batch():
    def mine(*_):
        raise torch.OutOfMemoryError("40 GiB")

    with pytest.raises(torch.OutOfMemoryError):
        attacked(mine)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tests.attacks.test_own:nothing", "has no function nothing"),
        ("tests.attacks.test_own:GUIDE", "has no function GUIDE"),
        ("tests.attacks.test_own:guide_attack", "is called with (images, epsilons, objective, ge"),
        ("tests.attacks.gone:mine", "raised ModuleNotFoundError"),
        ("shop attacks:mine", "write package.module:function"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused(name, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        build(name)


def test_a_rehearsal_calls_the_function_once():
    assert own.rehearse("tests.attacks.test_own:_two_steps", 16) == 2
    with pytest.raises(ConfigError, match="in place"):
        own.rehearse("tests.attacks.test_own:in_place", 16)


def _two_steps(images, epsilons, objective, generator):
    for _ in range(2):
        objective.gradient(images)
    return images


def test_the_guide_names_all_that_the_objective_offers():
    offered = [name for name in vars(Counted) if not name.startswith("_")]
    assert offered
    text = GUIDE.read_text()
    assert [name for name in offered if f"`objective.{name}" not in text] == []
