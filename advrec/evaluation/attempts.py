"""Attacks on the images of a block: problems, and what attacks claim to have made of them."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from advrec.attacks import budget
from advrec.attacks.objective import Delivered, Objective, identity
from advrec.attacks.problem import Goal, Problem
from advrec.attacks.registry import AllBudgets, Attack
from advrec.attacks.result import Attacked, Reached
from advrec.attacks.transfer import Diverse, Smooth, Together
from advrec.delivery.chain import chain
from advrec.evaluation.block import AnyBlock, Block
from advrec.evaluation.rows import Places
from advrec.model.encoder import to_images
from advrec.recommenders.bank import Doubles
from advrec.recommenders.recommender import Recommender
from advrec.recommenders.shown import ShownLists
from advrec.spec.base import FLOAT

# a solved image is nearer than the nearest article by this much, so that rounding does not undo it
MARGIN = 1e-6
HOPELESS = 100  # rank beyond which a tuple is not attacked at smaller budgets
T = TypeVar("T")
R = TypeVar("R", Attacked, Reached)


class Attempt(NamedTuple):
    attacked: Attacked
    """Images as the attack claims them."""
    seconds: float
    """Wall time of the batch."""


class Bounds(NamedTuple):
    """Scores of N images, (N,) each."""

    below: Tensor
    """An image is solved below this one."""
    hopeless: Tensor
    """Beyond this one it is not attacked at smaller budgets."""


class Aim(Protocol):
    """The wish of the adversary for the images of a block, by the recommender that is attacked."""

    device: str
    bounds: Bounds
    sources: int = 1
    """Networks that a loss is computed by."""

    def objective(self, places: Places) -> Objective:
        """The loss of the images at `places` (n,) of the block."""

    def shown(self, places: Places, arrive: Callable[[Tensor], Tensor] | None) -> ShownLists | None:
        """The lists that the shop shows of the images at `places` (n,), as they arrive there; None:
        no list of articles is what the adversary wants to enter.
        """
        return None


class Lists(Aim):
    """Each image is to enter the list of its target article.

    Args:
        hopeless: whether a tuple beyond rank HOPELESS is given up at smaller budgets.
    """

    def __init__(self, source: Recommender, block: Block, *, hopeless: bool) -> None:
        self.device, self._source, self._block = source.device, source, block

        def nearest(rank: int) -> Tensor:
            """Distances (N,) below which a tuple is within a rank."""
            ids = block.target_ids, block.attack_ids
            return torch.from_numpy(source.index.nearest_distances(*ids, rank) - MARGIN)

        below = nearest(block.minimal_rank or 1)
        none = torch.full_like(below, torch.inf)
        self.bounds = Bounds(below, nearest(HOPELESS) if hopeless else none)

    def objective(self, places: Places) -> Objective:
        """The distances to the targets of tuples at `places` (n,)."""
        return self._source.objective(self._block.target_ids[places])

    def shown(self, places: Places, arrive: Callable[[Tensor], Tensor] | None) -> ShownLists:
        """The lists of tuples at `places` (n,)."""
        targets, articles = self._block.target_ids[places], self._block.attack_ids[places]
        return ShownLists(self._source, targets, articles, arrive)


class OnSeveral(Aim):
    """The same wish for several recommenders at once: mean losses, and mean bounds of them."""

    def __init__(self, aims: Sequence[Aim]) -> None:
        self.device, self._aims, self.sources = aims[0].device, aims, len(aims)
        bounds = zip(*(aim.bounds for aim in aims), strict=True)
        self.bounds = Bounds(*(torch.stack(each).mean(0) for each in bounds))

    def objective(self, places: Places) -> Objective:
        """The mean loss of the images at `places` (n,)."""
        return Together(tuple(aim.objective(places) for aim in self._aims))


class ThroughDoor(Aim):
    """The same wish for images that a model itself changes before it embeds them. Attacks meet its
    rounding as that of a delivery.
    """

    def __init__(self, aim: Aim) -> None:
        self.device, self.bounds, self._aim = aim.device, aim.bounds, aim
        self.sources = aim.sources

    def objective(self, places: Places) -> Objective:
        """The loss of the images at `places` (n,)."""
        return Delivered(self._aim.objective(places), identity)

    def shown(self, places: Places, arrive: Callable[[Tensor], Tensor] | None) -> ShownLists | None:
        """The lists of the images at `places` (n,)."""
        return self._aim.shown(places, arrive)


class Attempts:
    """Problems of a block's images, and attacks on them.

    Args:
        delivery: what the images are made for, FLOAT or one that the attack goes through.
        tested: the same wish by which a solved image is tested, where the attack is blind to the
            model's ingest; None: by its own.
    """

    def __init__(
        self, attack: Attack, block: AnyBlock, aim: Aim, delivery: str, tested: Aim | None = None
    ) -> None:
        self.attack, self.block, self._aim, self.delivery = attack, block, aim, delivery
        self._tested = tested
        # An image made for float is delivered where no other is made for that.
        unseen = [each for each in block.deliveries if each not in block.through]
        trips = unseen if delivery == FLOAT else [delivery]
        self.round_trips = {each: chain(each) for each in trips}
        self.eight_bits = block.levels and delivery != FLOAT
        """The image is made for 8 bits: its budget is whole levels."""

    def problem(self, places: Places, epsilons: Doubles, start: Tensor | None = None) -> Problem:
        """The problem of images at `places` (n,) of the block, each at its budget (n,), from images
        (n, C, H, W).
        """
        block, device = self.block, self._aim.device
        below, hopeless = (bound[places].to(device) for bound in self._aim.bounds)
        seeds = torch.from_numpy(block.seed * 2**31 + block.streams[places].astype(np.int64))
        objective = self._aim.objective(places)
        if block.di:
            objective = Diverse(objective, block.di, seeds, torch.zeros_like(seeds))
        if block.ti is not None:
            objective = Smooth(objective, block.ti)
        tested = None if self._tested is None else self._tested.objective(places)
        tests = tuple(self.round_trips.values())
        arrive = None if self.delivery == FLOAT else tests[0]
        if self.delivery != FLOAT:
            # Its scores are those of what arrives, so that there is nothing else to test.
            (trip,) = tests
            slope = trip.slope if block.chains else identity
            objective, tests = Delivered(objective, trip, slope), ()
            tested = tested and Delivered(tested, trip, slope)
        return Problem(
            objective=objective,
            images=to_images(block.pixels[places], device),
            epsilon=self._allowed(epsilons).to(device),
            start=start,
            seeds=seeds,
            lists=self._aim.shown(places, arrive),
            goal=Goal(
                below=below,
                stop=block.stop,
                hopeless=hopeless,
                round_trips=tests,
                tested=tested,
                levels=block.levels,
            ),
        )

    def changes(self, problem: Problem) -> Tensor:
        """Which images (n,) bool, in main memory, of a problem can change: all but those made for 8
        bits whose budget is below one level.
        """
        able = problem.epsilon.cpu() > 0.0
        return able if self.eight_bits else torch.ones_like(able)

    def _allowed(self, epsilons: Doubles) -> Tensor:
        budgets = torch.from_numpy(epsilons)
        return budget.in_levels(budgets) if self.eight_bits else budgets

    def run(self, problem: Problem) -> Attempt:
        """The attack on a problem.

        Raises:
            ValueError: it returned images of another shape, or pixels that are not finite.
        """
        attacked, seconds = self._timed(problem, self.attack)
        images = self._checked(attacked.images, problem)
        return Attempt(self._counted(attacked)._replace(images=images), seconds)

    def reach(self, attack: AllBudgets, places: Places, budgets: Doubles) -> tuple[Reached, float]:
        """An attack on images at `places` (n,) at all budgets (E, n) at once, and its seconds.

        Raises:
            ValueError: as `run`.
        """
        problem = self.problem(places, budgets[-1])
        wanted = self._allowed(budgets).to(problem.epsilon)
        if not self.changes(problem).any():
            return Reached.unchanged(problem.images, len(budgets)), 0.0
        reached, seconds = self._timed(problem, lambda problem: attack.reach(problem, wanted))
        for images in reached.images:
            self._checked(images, problem)
        return self._counted(reached), seconds

    def _counted(self, result: R) -> R:
        """A result whose costs are those of all networks, and of the scores beside the gradients of
        other images.
        """
        steps, passes = result.gradient_steps, result.forward_passes
        if self.block.di:
            passes = passes + steps
        each = self._aim.sources
        return result._replace(gradient_steps=each * steps, forward_passes=each * passes)

    def _timed(self, problem: Problem, attack: Callable[[Problem], T]) -> tuple[T, float]:
        start = time.monotonic()
        result = attack(problem)
        if problem.images.is_cuda:
            torch.cuda.synchronize()
        return result, time.monotonic() - start

    def _checked(self, images: Tensor, problem: Problem) -> Tensor:
        """The images (n, C, H, W) as they are measured."""
        images = images.detach().float()
        if images.shape != problem.images.shape or not torch.isfinite(images).all():
            raise ValueError(
                f"{self.attack} returned images of another shape or with pixels that are not finite"
            )
        return images
