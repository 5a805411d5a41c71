"""Attacks made of attacks: restarts, nested budgets and the ensemble. Who comes later meets only
what earlier ones left unsolved.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch

from advrec.attacks.objective import score
from advrec.attacks.problem import Problem
from advrec.attacks.result import Attacked

START = "start"  # the winner where nobody did better than the image that the problem began with


class Member(NamedTuple):
    label: str
    attack: Callable[[Problem], Attacked]


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """`members` in order, cheapest first. Each meets the images that are not solved yet, with a
    random stream of its own, and the image of the lowest score is kept: where two are solved, the
    first.

    Where the problem has a start (the result at a smaller budget), the first member goes on from it
    and the others begin afresh, for a nested start can end in a worse optimum; a lone member does
    both. The start competes too: a larger budget is never worse.
    """

    members: tuple[Member, ...]

    def __call__(self, problem: Problem) -> Attacked:
        size, device = len(problem.images), problem.images.device
        images = problem.images.clone()
        best = torch.full((size,), torch.inf, device=device)
        # by a member, which ends its part
        solved = torch.zeros(size, dtype=torch.bool, device=device)
        kept_solved = solved.clone()  # whether the image that is kept is
        winners = [START] * size
        steps, passes = torch.zeros(size, dtype=torch.int32), torch.zeros(size, dtype=torch.int32)
        members = self.members
        if problem.start is not None:
            images = problem.ball.project(problem.start)
            best = score(problem.objective, images)
            kept_solved, tests = problem.solved(images, best)
            passes += 1 + tests
            members = members if len(members) > 1 else members * 2
        for place, member in enumerate(members):
            rows = (~solved).nonzero()[:, 0]
            if not len(rows):
                break
            mine = problem.select(rows)
            mine = mine.but(draw=place, start=None if place else mine.start)
            attacked = member.attack(mine)
            scores = score(mine.objective, mine.ball.project(attacked.images))
            now_solved, tests = mine.solved(attacked.images, scores)
            # A solved image before one that is not; among equals the lower score.
            better = torch.where(now_solved == kept_solved[rows], scores < best[rows], now_solved)
            images[rows[better]] = attacked.images[better]
            best[rows[better]] = scores[better]
            solved[rows] |= now_solved
            steps[rows.cpu()] += attacked.gradient_steps
            passes[rows.cpu()] += attacked.forward_passes + tests + 1
            for row in rows[better].tolist():
                winners[row] = member.label
        return Attacked(images, steps, passes, tuple(winners))


def with_restarts(label: str, attack: Callable[[Problem], Attacked], restarts: int) -> Ensemble:
    """The attack and its restarts."""
    again = (Member(f"{label} restart {n}", attack) for n in range(1, restarts + 1))
    return Ensemble((Member(label, attack), *again))
