"""Carlini & Wagner's attack: as the study ran it, with a soft budget that is not kept, and with the
budget exact by construction.
"""

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from advrec.attacks.iterate import minimise
from advrec.attacks.objective import Evaluated
from advrec.attacks.problem import Problem
from advrec.attacks.result import Attacked

# tanh reaches 0 and 1 only at infinity; a saturated pixel starts at w = +-7.25
SQUEEZE = 1.0 - 1e-6
ADAM_EPSILON = 1e-8


class _Squashed(NamedTuple):
    current: Tensor
    variables: Tensor
    """w, with current = (tanh(w) + 1) / 2"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedCW:
    """`steps` steps on confidence * loss + sum(max(|x - clean| - epsilon, 0)) over w with x =
    (tanh(w) + 1) / 2.

    After Carlini & Wagner (2017, l-infinity attack), as the study's code ran it. Adam is made anew
    for each step: a step is learning_rate * g / (|g| + 1e-8), the gradient's sign but for its
    tiniest values. The weight is fixed. The last computed iterate is returned, the one before the
    final update. The images can leave the ball by about one step: the caller projects. Saturated
    pixels (0 or 1) hardly move, since the derivative of tanh vanishes there.
    """

    steps: int
    learning_rate: float = 0.005
    confidence: float = 20.0

    def __call__(self, problem: Problem) -> Attacked:
        """The images lie in [0, 1], not in the ball."""
        made = minimise(problem, self, steps=self.steps, keep="evaluated")
        # At epsilon 0 the answer is the clean image itself, not its image in tanh space.
        unchanged = problem.epsilon.view(-1, 1, 1, 1) == 0
        return made._replace(images=torch.where(unchanged, problem.images, made.images))

    def begin(self, problem: Problem) -> _Squashed:
        start = problem.images if problem.start is None else problem.start
        variables = torch.atanh((2.0 * start - 1.0) * SQUEEZE)
        return _Squashed((torch.tanh(variables) + 1.0) / 2.0, variables)

    def step(
        self, number: int, state: _Squashed, evaluated: Evaluated, problem: Problem
    ) -> _Squashed:
        change = state.current - problem.images
        outside = change.abs() > problem.epsilon.to(change).view(-1, 1, 1, 1)
        gradient = self.confidence * evaluated.gradient + change.sign() * outside
        gradient = gradient * (1.0 - (2.0 * state.current - 1.0).square()) / 2.0
        variables = state.variables - self.learning_rate * gradient / (
            gradient.abs() + ADAM_EPSILON
        )
        return _Squashed((torch.tanh(variables) + 1.0) / 2.0, variables)


class _Adam(NamedTuple):
    current: Tensor
    variables: Tensor
    first: Tensor
    second: Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExactCW:
    """Carlini & Wagner's change of variable around the ball instead of the box: x = centre + half
    width * tanh(w), where centre and half width are those of the allowed interval of each pixel. No
    step leaves the budget, so no penalty and no weight c is needed.

    Adam (Kingma & Ba 2015) keeps its moments between steps. Its second one forgets as fast as the
    first: tanh flattens the gradient by orders of magnitude on the way, and steps scaled by the
    gradient at the start would stall. From a random start, best iterate. A pixel at the edge of
    the box starts at the middle of its interval and moves like any other.
    """

    steps: int
    learning_rate: float = 0.1
    decay: tuple[float, float] = (0.9, 0.9)

    def __call__(self, problem: Problem) -> Attacked:
        return minimise(problem, self, steps=self.steps, keep="best")

    def begin(self, problem: Problem) -> _Adam:
        lower, upper = problem.ball
        if problem.start is None:
            variables = torch.atanh(0.9 * problem.uniform())
        else:
            width = (upper - lower).clamp_min(torch.finfo(lower.dtype).tiny)
            variables = torch.atanh(
                0.98 * (2.0 * (problem.ball.project(problem.start) - lower) / width - 1.0)
            )
        zeros = torch.zeros_like(variables)
        return _Adam(self._images(problem, variables), variables, zeros, zeros)

    def step(self, number: int, state: _Adam, evaluated: Evaluated, problem: Problem) -> _Adam:
        lower, upper = problem.ball
        slope = (upper - lower) / 2.0 * (1.0 - torch.tanh(state.variables).square())
        gradient = evaluated.gradient * slope
        first = self.decay[0] * state.first + (1.0 - self.decay[0]) * gradient
        second = self.decay[1] * state.second + (1.0 - self.decay[1]) * gradient.square()
        corrected = first / (1.0 - self.decay[0] ** (number + 1))
        scale = (second / (1.0 - self.decay[1] ** (number + 1))).sqrt()
        variables = state.variables - self.learning_rate * corrected / (
            scale + torch.finfo(scale.dtype).tiny
        )
        return _Adam(self._images(problem, variables), variables, first, second)

    def _images(self, problem: Problem, variables: Tensor) -> Tensor:
        lower, upper = problem.ball
        # The projection takes back half a unit in the last place where rounding left the ball.
        return problem.ball.project(
            (lower + upper) / 2.0 + (upper - lower) / 2.0 * torch.tanh(variables)
        )
