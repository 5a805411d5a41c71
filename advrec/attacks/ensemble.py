"""Attacks made of attacks: restarts, nested budgets and the ensemble. Who comes later meets only
what earlier ones left unsolved.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from advrec.attacks.objective import Delivered, score
from advrec.attacks.problem import Problem
from advrec.attacks.result import Attacked

START = "start"  # the winner where nobody did better than the image that the problem began with


class Member(NamedTuple):
    label: str
    attack: Callable[[Problem], Attacked]


class Kept(NamedTuple):
    """The best image so far of each of N, changed in place."""

    images: Tensor
    """(N, C, H, W)"""
    scores: Tensor
    """(N,)"""
    solved: Tensor
    """(N,) bool, whether the image that is kept is solved."""
    winners: list[str]
    """The member that made each image."""

    @classmethod
    def nothing(cls, images: Tensor) -> "Kept":
        """The clean images (N, C, H, W), which every result is better than."""
        scores = torch.full((len(images),), torch.inf, device=images.device)
        solved = torch.zeros_like(scores, dtype=torch.bool)
        return cls(images.clone(), scores, solved, [START] * len(images))

    def take(
        self,
        rows: Tensor,
        labels: Sequence[str],
        images: Tensor,
        scores: Tensor,
        solved: Tensor,
    ) -> Tensor:
        """Keep those of results (n, C, H, W), (n,), (n,) for rows (n,) that are better: a solved
        image before one that is not, among equals the lower score.

        Args:
            labels: the member that made each.

        Returns:
            (n,) bool, which are better.
        """
        lower = scores < self.scores[rows]
        better = torch.where(solved == self.solved[rows], lower, solved)
        self.images[rows[better]] = images[better]
        self.scores[rows[better]] = scores[better]
        self.solved[rows] |= solved
        for place, row in zip(better.nonzero()[:, 0].tolist(), rows[better].tolist(), strict=True):
            self.winners[row] = labels[place]
        return better


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """`members` in order, cheapest first. Each meets the images that no member has solved yet, with
    a random stream of its own. The image of the lowest score is kept: where two are solved, the
    first.

    A problem may have a start, the result at a smaller budget. Then the first member goes on from
    it and the others begin afresh, for a nested start can end in a worse optimum. A lone member
    does both. The start competes too: a larger budget is never worse.

    Args:
        delivered: who takes the place of `members` where the images are delivered before they are
            embedded: a codec's rounding leads astray who adapts the step to each fall.
    """

    members: tuple[Member, ...]
    delivered: tuple[Member, ...] = ()

    def __call__(self, problem: Problem) -> Attacked:
        """The images (N, C, H, W) that are kept, and what all members spent on each."""
        kept, members = Kept.nothing(problem.images), self.members
        if self.delivered and isinstance(problem.objective, Delivered):
            members = self.delivered
        unsolved = ~kept.solved  # by a member: a start that is solved is attacked all the same
        steps, passes = torch.zeros(2, len(problem.images), dtype=torch.int32)
        if problem.start is not None:
            images = problem.ball.project(problem.start)
            scores = score(problem.objective, images)
            solved, tests = problem.solved(images, scores)
            kept = Kept(images, scores, solved, kept.winners)
            passes += 1 + tests
            members = members if len(members) > 1 else members * 2  # once from the start, once not
        for place, member in enumerate(members):
            rows = unsolved.nonzero()[:, 0]
            if not len(rows):
                break
            mine = problem.select(rows)
            mine = mine.but(draw=place, start=None if place else mine.start)
            attacked = member.attack(mine)
            scores = score(mine.objective, mine.ball.project(attacked.images))
            solved, tests = mine.solved(attacked.images, scores)
            kept.take(rows, [member.label] * len(rows), attacked.images, scores, solved)
            unsolved[rows] &= ~solved
            steps[rows.cpu()] += attacked.gradient_steps
            passes[rows.cpu()] += attacked.forward_passes + tests + 1
        return Attacked(kept.images, steps, passes, tuple(kept.winners))


def with_restarts(label: str, attack: Callable[[Problem], Attacked], restarts: int) -> Ensemble:
    """The attack and its restarts."""
    again = (Member(f"{label} restart {n}", attack) for n in range(1, restarts + 1))
    return Ensemble((Member(label, attack), *again))
