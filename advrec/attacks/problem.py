"""The problem that an attack is given: images, their budgets, an objective, a random stream each,
and when an image is solved.
"""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from advrec.attacks import budget
from advrec.attacks.budget import Ball
from advrec.attacks.objective import Objective, score
from advrec.attacks.oracle import Oracle
from advrec.spec.attacks import Stop


@dataclasses.dataclass(frozen=True, kw_only=True)
class Goal:
    """When an image is solved, and what follows from it.

    Args:
        below: (N,): an image whose score lies below is solved.
        stop: never: every step is taken; rank-1: a solved image leaves the batch; converged: so
            does one that gains no more.
        hopeless: (N,): an image whose score lies above is given up by attacks that meet several
            budgets; None: no image is.
        round_trips: what a shop does to an image, (N, C, H, W) to the same; a solved image is still
            solved after each of them.
        tested: the loss that a solved image is tested by besides, for an attack that is blind to
            something; None: by its own.
        levels: round trips get an image whose changes are at most the budget's whole levels of 8
            bits; False: all of the budget, as before 0.3.0.
    """

    below: Tensor
    stop: Stop = "never"
    hopeless: Tensor | None = None
    round_trips: tuple[Callable[[Tensor], Tensor], ...] = ()
    tested: Objective | None = None
    levels: bool = True

    def select(self, rows: Tensor) -> Self:
        """The goal of some of the images: those at `rows` (n,), int64."""
        hopeless = None if self.hopeless is None else self.hopeless[rows]
        tested = self.tested and self.tested.select(rows)
        return dataclasses.replace(self, below=self.below[rows], hopeless=hopeless, tested=tested)


@dataclasses.dataclass(frozen=True)
class Problem:
    """N images to perturb.

    Args:
        objective: one loss an image, to be made small.
        images: clean images (N, C, H, W), float32, [0, 1].
        epsilon: l-infinity budgets (N,), 0..1, float64: each image has its own.
        start: where to begin, inside the ball; None: where the attack begins by itself.
        seeds: (N,) int64, one random stream an image: what an image draws depends on no other.
            None: zeros.
        draw: number of the random stream: a restart takes the next.
        goal: None: nothing is ever solved.
        lists: what a shop shows of the images; None: nobody asks for lists.
        bounds: the ball, where it is known already: it is made in float64 and costs a tenth of a
            gradient step.
    """

    objective: Objective
    images: Tensor
    epsilon: Tensor
    start: Tensor | None = None
    seeds: Tensor | None = None
    draw: int = 0
    goal: Goal | None = None
    lists: Oracle | None = None
    bounds: Ball | None = None

    @cached_property
    def ball(self) -> Ball:
        """The images within each budget and the box."""
        return budget.ball(self.images, self.epsilon) if self.bounds is None else self.bounds

    @property
    def stop(self) -> Stop:
        return self.goal.stop if self.goal else "never"

    def select(self, rows: Tensor) -> Self:
        """The problem of some of the images: those at `rows` (n,), int64."""
        goal = self.goal and self.goal.select(rows)
        return dataclasses.replace(
            self,
            objective=self.objective.select(rows),
            images=self.images[rows],
            epsilon=self.epsilon[rows],
            start=None if self.start is None else self.start[rows],
            seeds=None if self.seeds is None else self.seeds[rows.cpu()],
            goal=goal,
            lists=self.lists and self.lists.select(rows),
            bounds=self.ball.select(rows),
        )

    def but(self, **changes: Any) -> Self:
        """The same images and budgets with another objective, start or draw."""
        return dataclasses.replace(self, bounds=self.ball, **changes)

    def streams(self) -> list[np.random.Generator]:
        """A random generator for each image."""
        seeds = [0] * len(self.images) if self.seeds is None else self.seeds.tolist()
        return [np.random.default_rng((seed, self.draw)) for seed in seeds]

    def uniform(self) -> Tensor:
        """Noise (N, C, H, W) in [-1, 1)."""
        shape = self.images.shape[1:]
        noise = np.stack([stream.random(shape, dtype=np.float32) for stream in self.streams()])
        return torch.from_numpy(noise).to(self.images.device).mul_(2.0).sub_(1.0)

    def random_start(self) -> Tensor:
        """Images (N, C, H, W) drawn uniformly from the ball."""
        radius = self.epsilon.to(self.images).view(-1, 1, 1, 1)
        return self.ball.project(torch.addcmul(self.images, self.uniform(), radius))

    def solved(self, images: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Which images are solved, tested as they would be handed in and delivered.

        Args:
            images: (N, C, H, W), not necessarily inside the ball.
            scores: (N,), theirs.

        Returns:
            (N,) bool, and the forward passes (N,) int32 that the test took.
        """
        passes = torch.zeros(len(images), dtype=torch.int32)
        if self.goal is None:
            return torch.zeros_like(scores, dtype=torch.bool), passes
        solved = scores < self.goal.below
        rows = solved.nonzero()[:, 0]
        if not len(rows):
            return solved, passes
        final = self.ball.select(rows).project(images[rows])
        outside = (final != images[rows]).flatten(1).any(1)
        arriving, uploaded = rows, final
        if self.goal.round_trips and self.goal.levels:
            # Below one level nothing arrives changed, and the image for float alone counts.
            levels = budget.in_levels(self.epsilon[rows])
            able = levels > 0.0
            arriving = rows[able]
            whole = budget.ball(self.images[arriving], levels[able])
            uploaded = whole.project(final[able])
        trips = self.goal.round_trips if len(arriving) else ()
        tests = [(arriving, trip(uploaded)) for trip in trips]
        objective = self.goal.tested or self.objective
        if self.goal.tested is not None:
            outside = torch.ones_like(outside)
        tests += [(rows[outside], final[outside])] if outside.any() else []
        for tested, delivered in tests:
            again = score(objective.select(tested), delivered)
            solved[tested] &= again < self.goal.below[tested]
            passes[tested.cpu()] += 1
        return solved, passes
