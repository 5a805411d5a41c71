"""A block evaluated: attack, then verify and measure. The harness believes nothing that an attack
says about its images.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from advrec.attacks import budget
from advrec.attacks.auto import Auto
from advrec.attacks.ensemble import START
from advrec.attacks.minimal import MinimalBudget
from advrec.attacks.objective import score
from advrec.attacks.problem import Problem
from advrec.attacks.registry import AllBudgets, Attack
from advrec.attacks.result import Attacked, Reached, Smallest
from advrec.evaluation.attempts import Attempt, Attempts, Bounds
from advrec.evaluation.block import Block, Outcomes
from advrec.evaluation.delivery import eight_bits
from advrec.evaluation.rows import Places, Rows
from advrec.model.encoder import to_images
from advrec.recommenders.bank import Doubles, Floats, Ids
from advrec.recommenders.recommender import Recommender
from advrec.run import own_columns, schema
from advrec.run.distinct import DISTINCT
from advrec.spec.base import FLOAT

OWN = {Auto: own_columns.AUTO, MinimalBudget: own_columns.MINIMAL}
"""Columns of attacks that have some of their own."""


def evaluate_block(
    recommender: Recommender, attack: Attack, block: Block, source: Recommender | None = None
) -> Outcomes:
    """Attack every tuple of a block at every epsilon and rank the result: once for the image as it
    was computed, and once for each delivery that the attack goes through.

    Args:
        attack: called on the source's objective for each target.
        source: what the attack is made on, where that is another than the one it is measured on
            (transfer).

    Raises:
        ValueError: the attack returned pixels that are not finite.
    """
    measure = _Measure(recommender, block, OWN.get(type(attack), pa.schema([])))
    source = source or recommender
    bounds = Bounds.of(source, block, hopeless=isinstance(attack, Auto))
    for delivery in (FLOAT, *block.through):
        attempts = Attempts(attack, block, source, bounds, delivery)
        if isinstance(attack, AllBudgets):
            _all_budgets(attempts, attack, measure)
        elif block.nested:
            _nested(attempts, measure)
        else:
            _alone(attempts, measure)
    return measure.table.outcomes()


def _alone(attempts: Attempts, measure: "_Measure") -> None:
    """Every (tuple, epsilon) by itself; they share batches, for a budget is a value of the
    sample.
    """
    block = attempts.block
    epsilons = np.array(block.epsilons, dtype=np.float64)
    size = len(block.tuple_ids) * len(epsilons)
    for start in range(0, size, block.batch):
        rows = np.arange(start, min(start + block.batch, size))
        problem = attempts.problem(rows // len(epsilons), epsilons[rows % len(epsilons)])
        able = attempts.changes(problem)
        nobody = (block.label,) * len(rows)
        whole = bool(able.all())
        attempt = attempts.run(problem) if whole else _go_on(attempts, problem, able, nobody)
        measure(attempts, rows, problem, attempt)


def _nested(attempts: Attempts, measure: "_Measure") -> None:
    """Batch of tuples by batch, from budget to budget; with a stop, what a smaller budget has
    solved is not attacked again.
    """
    block = attempts.block
    for start in range(0, len(block.tuple_ids), block.batch):
        places = np.arange(start, min(start + block.batch, len(block.tuple_ids)))
        images, winners = None, (block.label,) * len(places)
        solved = torch.zeros(len(places), dtype=torch.bool)
        for number, epsilon in enumerate(block.epsilons):
            problem = attempts.problem(places, np.full(len(places), epsilon), images)
            todo = ~solved & attempts.changes(problem)
            attempt = _go_on(attempts, problem, todo, winners)
            rows = places * len(block.epsilons) + number
            images = measure(attempts, rows, problem, attempt, inherited=solved.numpy())
            winners = attempt.attacked.winners
            if block.stop != "never":
                solved = problem.solved(images, score(problem.objective, images))[0].cpu()


def _all_budgets(attempts: Attempts, attack: AllBudgets, measure: "_Measure") -> None:
    """Batch of tuples by batch, all budgets at once."""
    block = attempts.block
    count = len(block.epsilons)
    for start in range(0, len(block.tuple_ids), block.batch):
        places = np.arange(start, min(start + block.batch, len(block.tuple_ids)))
        budgets = np.repeat(np.array(block.epsilons)[:, None], len(places), axis=1)
        reached, seconds = attempts.reach(attack, places, budgets)
        whole = max(1, int(reached.forward_passes.sum()))
        for number, images in enumerate(reached.images):
            steps, passes = reached.gradient_steps[number], reached.forward_passes[number]
            winners = reached.winners[number] if reached.winners else ()
            labels = tuple(block.label if label == START else label for label in winners)
            measure(
                attempts,
                places * count + number,
                attempts.problem(places, budgets[number]),
                Attempt(
                    Attacked(images, steps, passes, labels), seconds * int(passes.sum()) / whole
                ),
                False if reached.inherited is None else reached.inherited[number].numpy(),
            )
        if attempts.delivery == FLOAT:
            measure.own(places, reached)


def _go_on(
    attempts: Attempts, problem: Problem, unsolved: Tensor, winners: tuple[str, ...]
) -> Attempt:
    """Attack the unsolved images (n,) bool of a batch. The others stay as the smaller budget left
    them, and cost nothing.
    """
    images = problem.images if problem.start is None else problem.start
    steps, passes = torch.zeros(2, len(images), dtype=torch.int32)
    rows = unsolved.nonzero()[:, 0]
    if not len(rows):
        return Attempt(Attacked(images, steps, passes, winners), 0.0)
    there = rows.to(images.device)
    attacked, seconds = attempts.run(problem.select(there))
    steps[rows], passes[rows] = attacked.gradient_steps, attacked.forward_passes
    names = list(winners)
    made_by = attacked.winners or (attempts.block.label,) * len(rows)
    for row, winner in zip(rows.tolist(), made_by, strict=True):
        names[row] = names[row] if winner == START else winner
    images = images.index_copy(0, there, attacked.images)
    return Attempt(Attacked(images, steps, passes, tuple(names)), seconds)


class _Measure:
    """Everything that a row says, measured on the projected image by the attacked recommender."""

    def __init__(self, recommender: Recommender, block: Block, own: pa.Schema) -> None:
        self._recommender, self._block = recommender, block
        index, attack_ids = recommender.index, block.attack_ids
        clean = recommender.bank.items[attack_ids]
        self._clean_distances = index.pair_costs(block.target_ids, attack_ids, clean)
        self._clean_ranks = index.ranks(block.target_ids, attack_ids, clean)
        if block.groups is not None:
            self._clean_distinct = self._distinct(slice(None), clean)
        self.table = Rows(block, own)

    def __call__(
        self,
        attempts: Attempts,
        rows: Places,
        problem: Problem,
        attempt: Attempt,
        inherited: npt.NDArray[np.bool_] | bool = False,
    ) -> Tensor:
        """Project what was claimed, embed it again, rank it, and note the rows (n,); gives the
        images (n, C, H, W) that count.
        """
        block, places, delivery = self._block, rows // len(self._block.epsilons), attempts.delivery
        attacked = attempt.attacked
        final = problem.ball.project(attacked.images)
        if attempts.eight_bits:
            # levels are not exact in float32
            final = problem.ball.project(eight_bits(final))
        if not ((final >= 0.0) & (final <= 1.0)).all():
            raise ValueError(f"{attempts.attack} left the box [0, 1] after projection")
        passes = attacked.forward_passes.numpy().astype(np.float64)
        shares = passes / passes.sum() if passes.sum() else np.full(len(rows), 1.0 / len(rows))
        norms = {
            "linf": budget.linf(problem.images, final).cpu().numpy(),
            "l2": budget.l2(problem.images, final).cpu().numpy(),
        }
        if delivery == FLOAT:
            columns: dict[str, Any] = {
                "tuple_id": block.tuple_ids[places],
                "target_id": block.target_ids[places],
                "attack_id": block.attack_ids[places],
                "epsilon": problem.epsilon.cpu().numpy(),
                "clean_distance": self._clean_distances[places],
                "clean_rank": self._clean_ranks[places],
                **norms,
                "raw_linf": budget.linf(problem.images, attacked.images).cpu().numpy(),
                "batch": block.batch,
                "winner": attacked.winners or block.label,
                "inherited": inherited,
            }
            embeddings = self._recommender.embeddings(final)
            ranked = self._rank(places, embeddings)
            columns["adversarial_distance"], columns["adversarial_rank"] = ranked
            if block.groups is not None:
                distinct = (self._clean_distinct[places], self._distinct(places, embeddings))
                columns |= zip(DISTINCT.names, distinct, strict=True)
        else:
            columns = {schema.suffixed(name, delivery): norm for name, norm in norms.items()}
        columns |= self._delivered(attempts, problem, places, final)
        spent = {
            "gradient_steps": attacked.gradient_steps.numpy(),
            "forward_passes": attacked.forward_passes.numpy(),
            "seconds": attempt.seconds * shares,
        }
        self.table.note(rows, columns, spent)
        for place in np.flatnonzero(block.tuple_ids[places] < block.examples):
            self.table.keep(int(rows[place]), delivery, final[place])
        return final

    def _delivered(
        self, attempts: Attempts, problem: Problem, places: Places, final: Tensor
    ) -> dict[str, Any]:
        """Distances and ranks (n,) of images (n, C, H, W) after each delivery that they meet."""
        if self._block.levels and not attempts.eight_bits and attempts.round_trips:
            allowed = budget.in_levels(problem.epsilon)
            final = budget.ball(problem.images, allowed).project(final)
        columns: dict[str, Any] = {}
        for each, trip in attempts.round_trips.items():
            distance, rank = schema.delivered(each)
            arrived = self._recommender.embeddings(trip(final))
            columns[distance], columns[rank] = self._rank(places, arrived)
        return columns

    def own(self, places: Places, reached: Reached) -> None:
        """Note the columns of the attack's own for tuples at `places` (n,)."""
        count = len(self._block.epsilons)
        if reached.projected is not None:
            for number, projected in enumerate(reached.projected.numpy()):
                self.table.note(places * count + number, {"projected": projected}, {})
        if reached.smallest is not None:
            columns = self._smallest(places, reached.smallest)
            for number in range(count):
                self.table.note(places * count + number, columns, {})

    def _smallest(self, places: Places, smallest: Smallest) -> dict[str, Doubles]:
        """Smallest budgets of tuples at `places` (n,), measured on their images."""
        block = self._block
        assert block.minimal_rank is not None, "the attack is minimal-K"
        clean = to_images(block.pixels[places], smallest.images.device)
        ranks = self._rank(places, self._recommender.embeddings(smallest.images))[1]
        linf = budget.linf(clean, smallest.images).cpu().numpy()
        high = np.where(ranks <= block.minimal_rank, linf, np.inf)
        return {"epsilon_low": smallest.low.cpu().numpy(), "epsilon_high": high}

    def _rank(self, places: Places, embeddings: Floats) -> tuple[Doubles, Ids]:
        """Distance (n,) to the target and rank (n,) of embeddings (n, D)."""
        index = self._recommender.index
        targets, attacks = self._block.target_ids[places], self._block.attack_ids[places]
        return (
            index.pair_costs(targets, attacks, embeddings),
            index.ranks(targets, attacks, embeddings),
        )

    def _distinct(self, places: Places | slice, embeddings: Floats) -> Ids:
        """Ranks (n,) among distinct images of embeddings (n, D)."""
        assert self._block.groups is not None, "the caller asks"
        targets, attacks = self._block.target_ids[places], self._block.attack_ids[places]
        index = self._recommender.index
        return index.distinct_ranks(targets, attacks, embeddings, self._block.groups)
