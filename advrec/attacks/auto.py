"""The attack `auto`: an ensemble that attacks an image at every budget of a study for about the
price of one.
"""

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from advrec.attacks.ensemble import Kept, Member
from advrec.attacks.objective import Delivered, score
from advrec.attacks.problem import Problem
from advrec.attacks.result import Attacked, Reached

NEARLY = 0.5
"""Share of the hopeless score by which a first, short attack may miss it. On the demo of 0.1.0,
`at` at 0.05, apgd-50 missed it by more for 27 of 128 tuples; none of the attacks that were tried
brought one of them within rank 100.
"""


class Members(NamedTuple):
    """Attacks of an ensemble, in order; each meets what was left unsolved and is not hopeless."""

    probe: Member
    """At the smallest budget."""
    first: Member
    """At the largest."""
    onward: Member
    """There too, from the best image so far."""
    downward: Member
    """At every smaller budget, from the image of the next larger one, scaled."""


@dataclasses.dataclass(frozen=True)
class Auto:
    """An ensemble that meets the budgets of an image in the order of what they tell.

    Few steps at the smallest budget come first: what falls there has fallen at every budget. The
    rest is attacked at the largest, then downwards. An image that stays hopeless at one budget
    (`Goal.hopeless`) is taken to be so at every smaller one, whose ball lies inside. It is not
    attacked there: it has the better of the larger budget's image, projected, and a smaller one's.
    Each image is kept at every budget that it is within, so a larger budget is never worse.

    Args:
        members: used on the encoder's own objective.
        delivered: used where the images are delivered before they are embedded: a codec's rounding
            leads astray who adapts the step to each fall.
    """

    members: Members
    delivered: Members

    def __call__(self, problem: Problem) -> Attacked:
        """The images (N, C, H, W) of the problem's own budgets."""
        reached = self.reach(problem, problem.epsilon[None])
        assert reached.winners is not None
        steps, passes = reached.gradient_steps[0], reached.forward_passes[0]
        return Attacked(reached.images[0], steps, passes, reached.winners[0])

    def reach(self, problem: Problem, budgets: Tensor) -> Reached:
        """Attack at all budgets (E, N), float64, rising; the problem's own and its start do not
        matter.
        """
        use = self.delivered if isinstance(problem.objective, Delivered) else self.members
        descent = _Descent(problem, budgets)
        # A budget of 0 holds the clean image alone.
        smallest, largest = int((budgets <= 0.0).all(1).sum()), len(budgets) - 1
        if smallest > largest:
            return descent.reached()
        descent.attack(smallest, descent.unsolved(smallest), use.probe)
        rows = descent.unsolved(largest)
        descent.attack(largest, rows, use.first)
        rows = descent.promising(largest, rows, NEARLY)
        descent.attack(largest, rows, use.onward, descent.best(largest, rows))
        for place in reversed(range(smallest, largest)):
            rows = descent.unsolved(place)
            hopeless = descent.hopeless(place + 1, rows)
            descent.project(place, rows[hopeless])
            rows = rows[~hopeless]
            descent.attack(place, rows, use.downward, descent.scaled(place, rows))
        return descent.reached()


class _Descent:
    """The best images of N at each of E budgets, and what they cost."""

    def __init__(self, problem: Problem, budgets: Tensor) -> None:
        self._problems = [
            dataclasses.replace(problem, epsilon=epsilon, start=None, bounds=None)
            for epsilon in budgets
        ]
        self._kept = [Kept.nothing(problem.images) for _ in budgets]
        size = (len(budgets), len(problem.images))
        self._attacked = torch.zeros(size, dtype=torch.bool)
        self._projected = torch.zeros(size, dtype=torch.bool)
        self._steps, self._passes = torch.zeros(2, *size, dtype=torch.int32)
        self._attacks = 0

    def unsolved(self, place: int) -> Tensor:
        """Rows (n,) that are not solved at a budget."""
        return (~self._kept[place].solved).nonzero()[:, 0]

    def promising(self, place: int, rows: Tensor, slack: float) -> Tensor:
        """Those of the rows (n,) that are neither solved nor hopeless at a budget."""
        rows = rows[~self._kept[place].solved[rows]]
        return rows[~self.hopeless(place, rows, slack)]

    def hopeless(self, place: int, rows: Tensor, slack: float = 0.0) -> Tensor:
        """Say which of the rows (n,) are hopeless at a budget, (n,) bool.

        Args:
            slack: share of the hopeless score by which an image may exceed it.
        """
        goal = self._problems[place].goal
        scores = self._kept[place].scores[rows]
        if goal is None or goal.hopeless is None:
            return torch.zeros_like(scores, dtype=torch.bool)
        bound = goal.hopeless[rows]
        return scores > bound + slack * bound.abs()

    def best(self, place: int, rows: Tensor) -> Tensor:
        """The best images (n, C, H, W) of rows (n,) at a budget."""
        return self._kept[place].images[rows]

    def scaled(self, place: int, rows: Tensor) -> Tensor:
        """Those (n, C, H, W) of the next larger budget, their changes scaled down to this one."""
        problem, larger = self._problems[place], self._problems[place + 1]
        share = (problem.epsilon / larger.epsilon)[rows].to(problem.images).view(-1, 1, 1, 1)
        clean = problem.images[rows]
        return clean + share * (self._kept[place + 1].images[rows] - clean)

    def attack(self, place: int, rows: Tensor, member: Member, start: Tensor | None = None) -> None:
        """Attack the images of rows (n,) at a budget, from (n, C, H, W)."""
        self._attacks += 1
        if not len(rows):
            return
        mine = self._problems[place].select(rows).but(draw=self._attacks - 1, start=start)
        attacked = member.attack(mine)
        images = mine.ball.project(attacked.images)
        here = rows.cpu()
        self._attacked[place, here] = True
        self._steps[place, here] += attacked.gradient_steps
        self._passes[place, here] += attacked.forward_passes
        self._take(place, rows, [member.label] * len(rows), images, mine)

    def project(self, place: int, rows: Tensor) -> None:
        """Take the images of the next larger budget, projected, for rows (n,) that are not
        attacked at this one.
        """
        if not len(rows):
            return
        mine = self._problems[place].select(rows)
        larger = self._kept[place + 1]
        labels = [larger.winners[row] for row in rows.tolist()]
        self._take(place, rows, labels, mine.ball.project(larger.images[rows]), mine)
        self._projected[place, rows.cpu()] = True

    def _take(
        self, place: int, rows: Tensor, labels: list[str], images: Tensor, mine: Problem
    ) -> None:
        """Keep images (n, C, H, W) where they are the best so far, at every budget that they are
        within.
        """
        scores = score(mine.objective, images)
        solved, tests = mine.solved(images, scores)
        self._passes[place, rows.cpu()] += tests + 1
        for kept in self._kept[place:]:
            kept.take(rows, labels, images, scores, solved)

    def reached(self) -> Reached:
        solved = torch.stack([kept.solved for kept in self._kept]).cpu()
        projected = self._projected & ~self._attacked
        return Reached(
            torch.stack([kept.images for kept in self._kept]),
            self._steps,
            self._passes,
            tuple(tuple(kept.winners) for kept in self._kept),
            inherited=solved & ~self._attacked & ~projected,
            projected=projected,
        )
