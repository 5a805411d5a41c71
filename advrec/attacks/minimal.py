"""The smallest budget of each image: an attack whose budget follows what it solves."""

import dataclasses
import math

import torch
from torch import Tensor

from advrec.attacks import budget
from advrec.attacks.gradient import summed
from advrec.attacks.objective import evaluate, score
from advrec.attacks.problem import Problem
from advrec.attacks.result import Attacked, Reached, Smallest

MOMENTUM = 0.9
FIRST_STEP, LAST_STEP = 0.5, 0.01
"""Length of a step in budgets of the image."""
FIRST_CUT, LAST_CUT = 0.5, 0.001
"""Share of the budget that a solved image gives up."""
GROWTH = 0.1
"""Share of that cut by which the budget of an image grows that was solved before."""
FIRST_BUDGET, RISE = 1 / 32, 0.3
"""The budget begins at this share of the largest, and rises to it in this share of the steps."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MinimalBudget:
    """Signed steps in a ball that shrinks where the image is solved, and grows where it is not, up
    to the problem's budget.

    After FMN (Pintor et al. 2021, algorithm 1), in l-infinity. Four things differ. The budget
    begins small and rises until the image is solved: large steps lead astray who falls at once. It
    then falls to the change of the solved image. It grows by a tenth of what it falls. And steps
    are as long as the budget says, along gradients summed as in MI-FGSM.
    """

    steps: int

    def __call__(self, problem: Problem) -> Attacked:
        """The images (N, C, H, W) of the problem's own budgets."""
        reached = self.reach(problem, problem.epsilon[None])
        steps, passes = reached.gradient_steps[0], reached.forward_passes[0]
        return Attacked(reached.images[0], steps, passes)

    def reach(self, problem: Problem, budgets: Tensor) -> Reached:
        """Search up to the problem's budgets. At one of E the result is the image of the largest
        solved budget not above it, else the best image that was met, projected. The whole cost
        stands at the largest.

        Args:
            budgets: (E, N) float64, rising, none above the problem's.
        """
        seen = _Seen(problem, budgets)
        current = problem.images if problem.start is None else problem.ball.project(problem.start)
        epsilon = problem.epsilon * FIRST_BUDGET
        rise = (1.0 / FIRST_BUDGET) ** (1.0 / max(1.0, RISE * self.steps))
        momentum = torch.zeros_like(current)
        for number in range(self.steps):
            evaluated = evaluate(problem.objective, current)
            solved = seen.note(current, evaluated.score, epsilon)
            share = (1.0 + math.cos(math.pi * number / self.steps)) / 2.0
            cut = LAST_CUT + (FIRST_CUT - LAST_CUT) * share
            most = torch.minimum(problem.epsilon, seen.high * (1.0 - LAST_CUT))
            grown = epsilon * torch.where(seen.high.isinf(), rise, 1.0 + GROWTH * cut)
            epsilon = torch.where(solved, seen.high * (1.0 - cut), torch.minimum(grown, most))
            momentum = summed(momentum, evaluated.gradient, MOMENTUM)
            length = (LAST_STEP + (FIRST_STEP - LAST_STEP) * share) * epsilon
            step = length.to(current).view(-1, 1, 1, 1) * momentum.sign()
            current = budget.ball(problem.images, epsilon).project(current - step)
        seen.note(current, score(problem.objective, current), epsilon)
        return seen.reached(self.steps)


class _Seen:
    """The images that were met, those that count."""

    def __init__(self, problem: Problem, budgets: Tensor) -> None:
        self._problem, self._budgets = problem, budgets
        none = torch.zeros_like(problem.epsilon)
        self.high, self._low = none + torch.inf, none.clone()
        self._smallest = problem.images.clone()
        self._images = problem.images.expand(len(budgets), *problem.images.shape).clone()
        self._solved_at = torch.full_like(budgets, -1.0)
        """(E, N), the largest solved budget not above each; -1: none"""
        self._best = problem.images.clone()
        self._best_score = torch.full_like(none, torch.inf)
        self._tests = torch.zeros(len(none), dtype=torch.int32)

    def note(self, images: Tensor, scores: Tensor, epsilon: Tensor) -> Tensor:
        """Note images (N, C, H, W) within budgets (N,) with their scores (N,); says which are
        solved, (N,) bool.
        """
        solved, tests = self._problem.solved(images, scores)
        self._tests += tests
        better = scores < self._best_score
        self._best = _where(better, images, self._best)
        self._best_score = torch.where(better, scores.double(), self._best_score)
        spent = budget.linf(self._problem.images, images)
        smaller = solved & (spent < self.high)
        self.high = torch.where(smaller, spent, self.high)
        self._smallest = _where(smaller, images, self._smallest)
        vain = torch.where(solved, self._low, torch.maximum(self._low, epsilon))
        self._low = torch.where(vain < self.high, vain, torch.zeros_like(vain))
        for place, allowed in enumerate(self._budgets):
            larger = solved & (spent <= allowed) & (spent > self._solved_at[place])
            self._solved_at[place] = torch.where(larger, spent, self._solved_at[place])
            self._images[place] = _where(larger, images, self._images[place])
        return solved

    def reached(self, steps: int) -> Reached:
        for place, allowed in enumerate(self._budgets):
            projected = budget.ball(self._problem.images, allowed).project(self._best)
            self._images[place] = _where(
                self._solved_at[place] >= 0.0, self._images[place], projected
            )
        spent = torch.zeros(2, *self._budgets.shape, dtype=torch.int32)
        spent[0, -1], spent[1, -1] = steps, steps + 1 + self._tests
        smallest = Smallest(self._smallest, self._low, self.high)
        return Reached(self._images, spent[0], spent[1], smallest=smallest)


def _where(rows: Tensor, images: Tensor, others: Tensor) -> Tensor:
    """Images (N, C, H, W) of the rows (N,) that are true, others elsewhere."""
    return torch.where(rows.view(-1, 1, 1, 1), images, others)
