"""APGD: signed steps with momentum whose length halves by itself. No step size to choose."""

import dataclasses
import itertools
import math
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from advrec.attacks.gradient import signed_step
from advrec.attacks.iterate import minimise
from advrec.attacks.objective import Evaluated
from advrec.attacks.problem import Problem
from advrec.attacks.result import Attacked

MOMENTUM = 0.75  # alpha
# rho: a window in which a smaller share of the steps lowered the loss ends in a shorter step
ENOUGH_FALLS = 0.75


class _Adapting(NamedTuple):
    current: Tensor
    previous: Tensor
    length: Tensor
    """(N,), of the step"""
    loss: Tensor
    """(N,), at the previous iterate"""
    falls: Tensor
    """(N,), how many steps lowered the loss since the last checkpoint"""
    best: Tensor
    best_loss: Tensor
    best_gradient: Tensor
    checked_length: Tensor
    """(N,), `length` at the last checkpoint"""
    checked_loss: Tensor
    """(N,), `best_loss` at the last checkpoint"""


@dataclasses.dataclass(frozen=True)
class APGD:
    """Auto-PGD (Croce & Hein 2020, algorithm 1) for the l-infinity ball: from a random start, first
    step 2 epsilon, best iterate.

    At each checkpoint some images halve their step and go back to their best iterate. The loss of
    such an image fell in less than 75 % of the steps since the last checkpoint. Or its best loss
    and step length have not changed since then. At the first checkpoint only the share of falls
    decides. Two things differ from the paper. The best iterate takes the place of the one just
    evaluated, before a step is made of it. The next step has no momentum, which pointed elsewhere.

    Args:
        squared: take gradients of the objective's surrogate; for a cosine distance it is the
            squared distance of the raw embeddings.
    """

    steps: int
    squared: bool = False

    def __call__(self, problem: Problem) -> Attacked:
        if self.squared:
            problem = problem.but(objective=problem.objective.surrogate())
        return minimise(problem, self, steps=self.steps, keep="best")

    @cached_property
    def checkpoints(self) -> dict[int, int]:
        """Number of the step -> steps since the checkpoint before it (section 3.2 of the paper)."""
        shares = [0.0, 0.22]
        while shares[-1] < 1.0:
            shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
        # Rounded first: 0.57 * 100 is a little more than 57 in floating point.
        places = sorted(
            {math.ceil(round(share * self.steps, 9)) for share in shares if share < 1.0}
        )
        return {place: place - before for before, place in itertools.pairwise(places)}

    def begin(self, problem: Problem) -> _Adapting:
        start = (
            problem.random_start() if problem.start is None else problem.ball.project(problem.start)
        )
        length = 2.0 * problem.epsilon.to(start)
        nothing = torch.full_like(length, torch.inf)
        return _Adapting(
            current=start,
            previous=start,
            length=length,
            loss=nothing,
            falls=torch.zeros_like(length),
            best=start,
            best_loss=nothing,
            best_gradient=torch.zeros_like(start),
            checked_length=length,
            checked_loss=nothing,
        )

    def step(
        self, number: int, state: _Adapting, evaluated: Evaluated, problem: Problem
    ) -> _Adapting:
        current, gradient = state.current, evaluated.gradient
        better = evaluated.loss < state.best_loss
        best = torch.where(_each(better), current, state.best)
        best_loss = torch.where(better, evaluated.loss, state.best_loss)
        best_gradient = torch.where(_each(better), gradient, state.best_gradient)
        falls = state.falls + ((evaluated.loss < state.loss) if number else 0)
        length, checked_length, checked_loss = (
            state.length,
            state.checked_length,
            state.checked_loss,
        )
        previous = state.previous
        if number in self.checkpoints:
            too_few = falls < ENOUGH_FALLS * self.checkpoints[number]
            stuck = (length == checked_length) & (best_loss >= checked_loss)
            halve = too_few | stuck
            checked_length, checked_loss = length, best_loss
            length = torch.where(halve, length / 2.0, length)
            current = torch.where(_each(halve), best, current)
            previous = torch.where(_each(halve), best, previous)
            gradient = torch.where(_each(halve), best_gradient, gradient)
            falls = torch.zeros_like(falls)
        aimed = signed_step(problem.ball, current, gradient.clone(), length)
        share = MOMENTUM if number else 1.0
        moved = problem.ball.project(
            current + share * (aimed - current) + (1.0 - share) * (current - previous)
        )
        return _Adapting(
            moved,
            current,
            length,
            evaluated.loss,
            falls,
            best,
            best_loss,
            best_gradient,
            checked_length,
            checked_loss,
        )


def _each(rows: Tensor) -> Tensor:
    return rows.view(-1, 1, 1, 1)
