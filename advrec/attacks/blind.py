"""Attacks without gradients: Square asks for scores only, noise for nothing."""

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from advrec.attacks.iterate import Ledger
from advrec.attacks.objective import score
from advrec.attacks.problem import Problem
from advrec.attacks.result import Attacked, spent


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniformNoise:
    """Noise drawn uniformly from the ball: the floor that every attack must beat."""

    def __call__(self, problem: Problem) -> Attacked:
        return spent(problem.random_start(), gradient_steps=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Square:
    """Square attack, l-infinity (Andriushchenko et al. 2020, algorithms 1 and 2): random squares
    are set to +-epsilon, channel by channel, and kept where the score falls. From vertical stripes
    of +-epsilon; the squares begin and shrink as in AutoAttack's version of it.

    Args:
        queries: forward passes, the first image included.
        share: of the pixels that the first squares cover.
    """

    queries: int
    share: float = 0.8

    def __call__(self, problem: Problem) -> Attacked:
        ledger = Ledger(problem, keep_best=True)
        drawn = Drawn.of(problem, self.queries)
        current = self._edge(problem, drawn.stripes)
        if problem.start is not None:
            current = problem.ball.project(problem.start)
        candidate, lowest = (
            current,
            torch.full_like(problem.epsilon, torch.inf, dtype=torch.float32),
        )
        for query in range(self.queries):
            if query:
                side = side_of(query / self.queries, self.share, current.shape)
                window = drawn.window(query, torch.tensor([side]), current.shape)
                candidate = torch.where(
                    window, self._edge(problem, drawn.signs[:, query, :, None, None]), current
                )
            scores = score(problem.objective, candidate)
            better = scores < lowest
            current = torch.where(better.view(-1, 1, 1, 1), candidate, current)
            lowest = torch.where(better, scores, lowest)
            staying = ledger.record(candidate, scores, gradient=False)
            if staying is not None:
                problem, drawn = problem.select(staying), drawn.select(staying)
                current, lowest = current[staying], lowest[staying]
                if not len(staying):
                    break
        return ledger.close(None)

    def _edge(self, problem: Problem, signs: Tensor) -> Tensor:
        """The clean images moved by signs * epsilon, into the box."""
        return torch.where(signs > 0, problem.ball.upper, problem.ball.lower)


def side_of(spent: float, share: float, shape: torch.Size) -> int:
    """Side of squares in pixels. Their share of an image (N, C, H, W) halves at these queries out
    of 10,000, in proportion.

    Args:
        spent: share of the queries that were asked, 0..1.
        share: of the pixels that the first squares cover.
    """
    halved = sum(spent * 10_000 > at for at in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000))
    side = round(math.sqrt(share / 2**halved * shape[2] * shape[3]))
    return max(1, min(side, shape[2], shape[3]))


@dataclasses.dataclass(frozen=True)
class Drawn:
    """All random choices of an attack, from each image's own stream."""

    stripes: Tensor
    """(N, C, 1, W), +-1"""
    places: Tensor
    """(N, Q, 2), [0, 1)"""
    signs: Tensor
    """(N, Q, C), +-1"""

    @classmethod
    def of(cls, problem: Problem, queries: int) -> "Drawn":
        _, channels, _, width = problem.images.shape
        device = problem.images.device

        def stacked(arrays: list[np.ndarray]) -> Tensor:
            """Arrays (a, b) each as one tensor (N, a, b) on the device of the images."""
            return torch.from_numpy(np.stack(arrays)).to(device)

        streams = problem.streams()
        stripes = stacked(
            [stream.integers(0, 2, (channels, 1, width), dtype=np.int8) for stream in streams]
        )
        places = stacked([stream.random((queries, 2), dtype=np.float32) for stream in streams])
        signs = stacked(
            [stream.integers(0, 2, (queries, channels), dtype=np.int8) for stream in streams]
        )
        return cls(stripes * 2 - 1, places, signs * 2 - 1)

    def select(self, rows: Tensor) -> "Drawn":
        """The choices of some of the images: those at `rows` (n,), int64."""
        return Drawn(self.stripes[rows], self.places[rows], self.signs[rows])

    def window(self, query: int, side: Tensor, shape: torch.Size) -> Tensor:
        """(N, 1, H, W) bool: each image's square of `side` (N,) or (1,) pixels."""
        height, width = shape[2:]
        side = side.to(self.places.device)[:, None]
        room = torch.cat([height - side + 1, width - side + 1], dim=1)
        top, left = (self.places[:, query] * room).long().unbind(1)
        rows, columns = (torch.arange(size, device=self.places.device) for size in (height, width))
        inside_rows = (rows >= top[:, None]) & (rows < top[:, None] + side)
        inside_columns = (columns >= left[:, None]) & (columns < left[:, None] + side)
        return (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
