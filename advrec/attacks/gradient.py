"""Signed gradient steps: FGSM, PGD, PGD with a decaying step, and momentum."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from advrec.attacks.budget import Ball
from advrec.attacks.iterate import Moving, minimise
from advrec.attacks.objective import Evaluated, evaluate
from advrec.attacks.problem import Problem
from advrec.attacks.result import Attacked


@dataclasses.dataclass(frozen=True, kw_only=True)
class PGD:
    """Projected gradient descent (Madry et al. 2018) with `steps` steps of `step_scale` * epsilon /
    steps.

    The study's protocol is step_scale 1: from the clean image, last iterate. FGSM (Goodfellow et
    al. 2015) is its single step.
    """

    steps: int
    step_scale: float = 1.0

    def __call__(self, problem: Problem) -> Attacked:
        return minimise(problem, self, steps=self.steps, keep="last")

    def begin(self, problem: Problem) -> Moving:
        return Moving(
            problem.images if problem.start is None else problem.ball.project(problem.start)
        )

    def step(self, number: int, state: Moving, evaluated: Evaluated, problem: Problem) -> Moving:
        length = problem.epsilon * self.step_scale / self.steps
        return Moving(signed_step(problem.ball, state.current, evaluated.gradient, length))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecayingPGD:
    """PGD whose step falls from epsilon / 2 to 0 along half a cosine; from a random start, best
    iterate.
    """

    steps: int

    def __call__(self, problem: Problem) -> Attacked:
        return minimise(problem, self, steps=self.steps, keep="best")

    def begin(self, problem: Problem) -> Moving:
        return Moving(
            problem.random_start() if problem.start is None else problem.ball.project(problem.start)
        )

    def step(self, number: int, state: Moving, evaluated: Evaluated, problem: Problem) -> Moving:
        length = _decayed(problem.epsilon, number, self.steps)
        return Moving(signed_step(problem.ball, state.current, evaluated.gradient, length))


def _decayed(epsilon: Tensor, number: int, steps: int) -> Tensor:
    """Length (N,) of step `number`, from epsilon / 2 to 0 along half a cosine."""
    return epsilon / 4.0 * (1.0 + math.cos(math.pi * number / steps))


class _WithMomentum(NamedTuple):
    current: Tensor
    momentum: Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class MomentumFGSM:
    """MI-FGSM (Dong et al. 2018, algorithm 1): `steps` steps of epsilon / steps along the sign of
    gradients summed with decay 1, each divided by its l1 norm. From the clean image, as there,
    restarts from a random one; best iterate.
    """

    steps: int
    decay: float = 1.0

    def __call__(self, problem: Problem) -> Attacked:
        return minimise(problem, self, steps=self.steps, keep="best")

    def begin(self, problem: Problem) -> _WithMomentum:
        if problem.start is not None:
            start = problem.ball.project(problem.start)
        else:
            start = problem.random_start() if problem.draw else problem.images
        return _WithMomentum(start, torch.zeros_like(start))

    def step(
        self, number: int, state: _WithMomentum, evaluated: Evaluated, problem: Problem
    ) -> _WithMomentum:
        momentum = summed(state.momentum, evaluated.gradient, self.decay)
        moved = signed_step(
            problem.ball, state.current, momentum.clone(), problem.epsilon / self.steps
        )
        return _WithMomentum(moved, momentum)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MomentumPGD:
    """DecayingPGD along the sign of gradients summed with decay 0.9, each divided by its l1 norm as
    in MI-FGSM. The sum smooths a gradient that a codec's rounding has made noisy.
    """

    steps: int
    decay: float = 0.9

    def __call__(self, problem: Problem) -> Attacked:
        return minimise(problem, self, steps=self.steps, keep="best")

    def begin(self, problem: Problem) -> _WithMomentum:
        start = (
            problem.random_start() if problem.start is None else problem.ball.project(problem.start)
        )
        return _WithMomentum(start, torch.zeros_like(start))

    def step(
        self, number: int, state: _WithMomentum, evaluated: Evaluated, problem: Problem
    ) -> _WithMomentum:
        momentum = summed(state.momentum, evaluated.gradient, self.decay)
        length = _decayed(problem.epsilon, number, self.steps)
        moved = signed_step(problem.ball, state.current, momentum.clone(), length)
        return _WithMomentum(moved, momentum)


def summed(momentum: Tensor, gradient: Tensor, decay: float) -> Tensor:
    """The next sum (N, C, H, W) of gradients, each divided by its l1 norm."""
    norm = gradient.abs().sum(dim=(1, 2, 3), keepdim=True)
    return decay * momentum + gradient / norm.clamp_min(torch.finfo(norm.dtype).tiny)


def mixed_pgd(problem: Problem, steps: Sequence[int], step_scale: float = 1.0) -> Tensor:
    """The images that `PGD(steps=k, step_scale=step_scale)` gives for each image's own k, in one
    batch that shrinks as images finish; k = 0 leaves an image clean.

    Args:
        steps: k of each image, falling.

    Returns:
        Adversarial images (N, C, H, W).
    """
    device, ball = problem.images.device, problem.ball
    length = problem.epsilon * step_scale / torch.tensor([max(k, 1) for k in steps], device=device)
    attacked = sum(k > 0 for k in steps)
    current = problem.images.clone()
    if problem.start is not None:
        current[:attacked] = ball.select(slice(attacked)).project(problem.start[:attacked])
    for taken in range(max(steps, default=0)):
        active = sum(k > taken for k in steps)
        objective = problem.objective.select(torch.arange(active, device=device))
        inside = ball.select(slice(active))
        gradient = evaluate(objective, current[:active]).gradient
        current[:active] = signed_step(inside, current[:active], gradient, length[:active])
    return current


def signed_step(ball: Ball, current: Tensor, gradient: Tensor, length: Tensor) -> Tensor:
    """One step of `length` (N,) down the sign of `gradient`, projected. The gradient's memory is
    used up.
    """
    return ball.project(
        torch.addcmul(current, gradient.sign_(), length.to(current).view(-1, 1, 1, 1), value=-1.0)
    )
