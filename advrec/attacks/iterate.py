"""The loop that the iterative attacks share: evaluate, let go what is solved, move. What differs is
how they move.
"""

from typing import Literal, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from advrec.attacks.objective import Evaluated, evaluate, score
from advrec.attacks.problem import Problem
from advrec.attacks.result import Attacked

Keep = Literal["best", "last", "evaluated"]
CONVERGED_STEPS, CONVERGED_GAIN = 20, 1e-4  # converged: no gain of so much score in so many steps


class Moving(NamedTuple):
    """The state of an attack that remembers nothing else. Every tensor of a state has a row for
    each image.
    """

    current: Tensor


class State(Protocol):
    """A NamedTuple of tensors, a row for each image."""

    @property
    def current(self) -> Tensor:
        """The iterate (N, C, H, W)."""


S = TypeVar("S", bound=State)


class Rule(Protocol[S]):
    """The way an attack moves."""

    def begin(self, problem: Problem) -> S: ...

    def step(self, number: int, state: S, evaluated: Evaluated, problem: Problem) -> S:
        """The next state, from the gradient at the current one; `number` counts from 0."""


def minimise(problem: Problem, rule: Rule[S], *, steps: int, keep: Keep) -> Attacked:
    """Take `steps` gradient steps, fewer for images that may stop.

    Args:
        keep: what is returned: the best of all iterates (one more forward pass evaluates the last),
            the last, or the last evaluated.
    """
    ledger = Ledger(problem, keep_best=keep == "best")
    state = rule.begin(problem)
    for number in range(steps):
        evaluated = evaluate(problem.objective, state.current)
        staying = ledger.record(state.current, evaluated.score, gradient=True)
        if staying is not None:
            problem, state, evaluated = (
                problem.select(staying),
                _rows(state, staying),
                _rows(evaluated, staying),
            )
            if not len(staying):
                break
        if keep == "evaluated" and number == steps - 1:
            break
        state = rule.step(number, state, evaluated, problem)
    else:
        if keep == "best":
            last = score(problem.objective, state.current)
            ledger.record(state.current, last, gradient=False)
            return ledger.close(None)
    return ledger.close(state.current)


class Ledger:
    """The cost of each image so far, the best of it, and who may leave."""

    def __init__(self, problem: Problem, *, keep_best: bool) -> None:
        self._problem = problem
        self._keep_best = keep_best
        device, size = problem.images.device, len(problem.images)
        self._rows = torch.arange(size, device=device)
        """Places of the images still in the batch, among all."""
        self._rows_here = torch.arange(size)
        """The same on the host, where costs are counted: no step waits for the device."""
        self._result = problem.images.clone()
        self._best = problem.images
        self._best_score = torch.full((size,), torch.inf, device=device)
        self._reference = self._best_score
        self._gained_at = torch.zeros(size, dtype=torch.int64, device=device)
        self._time = 0
        self._steps = torch.zeros(size, dtype=torch.int32)
        self._passes = torch.zeros(size, dtype=torch.int32)

    def record(self, current: Tensor, scores: Tensor, *, gradient: bool) -> Tensor | None:
        """Note an evaluation of the images (n, C, H, W) in the batch, with their scores (n,).

        Returns:
            Rows, among those of the batch, of the images that stay in it; None: all do.
        """
        everyone = self._rows_here
        self._passes[everyone] += 1
        self._steps[everyone] += int(gradient)
        if self._keep_best:
            better = scores < self._best_score
            self._best = torch.where(better.view(-1, 1, 1, 1), current, self._best)
            self._best_score = torch.where(better, scores, self._best_score)
        if self._problem.stop == "never":
            return None
        solved, passes = self._problem.solved(current, scores)
        self._passes[everyone] += passes
        leaving = solved | self._converged(scores)
        if not leaving.any():
            return None
        # A solved image is returned as it was tested; a converged one as the attack returns any
        # other.
        other = self._best if self._keep_best else current
        final = torch.where(solved.view(-1, 1, 1, 1), current, other)
        self._result[self._rows[leaving]] = final[leaving]
        staying = (~leaving).nonzero()[:, 0]
        self._problem = self._problem.select(staying)
        self._rows, self._best, self._best_score = (
            self._rows[staying],
            self._best[staying],
            self._best_score[staying],
        )
        self._rows_here = self._rows.cpu()
        self._reference, self._gained_at = self._reference[staying], self._gained_at[staying]
        return staying

    def close(self, current: Tensor | None) -> Attacked:
        """The result. Images still in the batch are returned as the best of them, or as `current`
        (n, C, H, W).
        """
        if len(self._rows):
            self._result[self._rows] = self._best if self._keep_best or current is None else current
        return Attacked(self._result.detach(), self._steps, self._passes)

    def _converged(self, scores: Tensor) -> Tensor:
        self._time += 1
        gained = scores < self._reference - CONVERGED_GAIN
        self._reference = torch.where(gained, scores, self._reference)
        self._gained_at = torch.where(gained, self._time, self._gained_at)
        stale = self._time - self._gained_at >= CONVERGED_STEPS
        return stale & (self._problem.stop == "converged")


T = TypeVar("T")


def _rows(values: T, rows: Tensor) -> T:
    """Some rows of every tensor of a NamedTuple."""
    return type(values)(*(tensor[rows] for tensor in values))  # type: ignore[attr-defined]
