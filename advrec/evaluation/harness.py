"""A block evaluated: attack, then verify and measure. The harness believes nothing that an attack
says about its images.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from advrec.attacks.auto import Auto
from advrec.attacks.ensemble import START
from advrec.attacks.minimal import MinimalBudget
from advrec.attacks.objective import score
from advrec.attacks.problem import Problem
from advrec.attacks.registry import AllBudgets, Attack
from advrec.attacks.result import Attacked
from advrec.evaluation.attempts import Aim, Attempt, Attempts, Lists, OnSeveral, ThroughDoor
from advrec.evaluation.block import AnyBlock, Block, Outcomes, PromotionBlock
from advrec.evaluation.measure import Measure, Ranked
from advrec.evaluation.promotions import Promoted, Wishes
from advrec.recommenders.recommender import Recommender
from advrec.run import own_columns
from advrec.spec.base import FLOAT

OWN = {Auto: own_columns.AUTO, MinimalBudget: own_columns.MINIMAL}
"""Columns of attacks that have some of their own."""


def evaluate_block(
    recommender: Recommender,
    attack: Attack,
    block: AnyBlock,
    *sources: Recommender,
) -> Outcomes:
    """Attack every image of a block at every epsilon and rank the result.

    Args:
        attack: called on what the sources make the adversary's loss.
        sources: what the attack is made on, where that is not the one it is measured on (transfer).

    Raises:
        ValueError: the attack returned pixels that are not finite.
    """
    own = OWN.get(type(attack), pa.schema([]))
    measure: Measure
    made_on = sources or (recommender,)
    if isinstance(block, PromotionBlock):
        measure = Promoted(recommender, block, own)
    else:
        assert isinstance(block, Block)
        measure = Ranked(recommender, block, own)
    aim, tested = _aim(made_on, block, attack, ingest=block.ingest), None
    blind = not block.ingest and any(source.views is not None for source in made_on)
    if blind and block.stop != "never":
        tested = _aim(made_on, block, attack, ingest=True)
    attack_all(aim, measure, attack, tested)
    return measure.outcomes()


def _aim(sources: Sequence[Recommender], block: AnyBlock, attack: Attack, *, ingest: bool) -> Aim:
    """The adversary's wish, by what it sees of the models that it is made on."""
    aims: list[Aim] = []
    for source in sources:
        seen = source.as_seen(ingest=ingest)
        if isinstance(block, PromotionBlock):
            aim: Aim = Wishes(seen, block)
        else:
            assert isinstance(block, Block)
            aim = Lists(seen, block, hopeless=isinstance(attack, Auto))
        aims.append(ThroughDoor(aim) if ingest and source.views is not None else aim)
    return aims[0] if len(aims) == 1 else OnSeveral(aims)


def attack_all(aim: Aim, measure: Measure, attack: Attack, tested: Aim | None = None) -> None:
    """Attack every image of the measure's block at every epsilon, and have each measured: once for
    the image as it was computed, and once for each delivery that the attack goes through.

    Args:
        tested: the wish by which a solved image is tested, where that is not the attack's own.

    Raises:
        ValueError: the attack returned pixels that are not finite.
    """
    block = measure.block
    for delivery in (FLOAT, *block.through):
        attempts = Attempts(attack, block, aim, delivery, tested)
        if isinstance(attack, AllBudgets):
            _all_budgets(attempts, attack, measure)
        elif block.nested:
            _nested(attempts, measure)
        else:
            _alone(attempts, measure)


def _alone(attempts: Attempts, measure: Measure) -> None:
    """Every (tuple, epsilon) by itself; they share batches, for a budget is a value of the
    sample.
    """
    block = attempts.block
    epsilons = np.array(block.epsilons, dtype=np.float64)
    size = len(block.attack_ids) * len(epsilons)
    for start in range(0, size, block.batch):
        rows = np.arange(start, min(start + block.batch, size))
        problem = attempts.problem(rows // len(epsilons), epsilons[rows % len(epsilons)])
        able = attempts.changes(problem)
        nobody = (block.label,) * len(rows)
        whole = bool(able.all())
        attempt = attempts.run(problem) if whole else _go_on(attempts, problem, able, nobody)
        measure(attempts, rows, problem, attempt)


def _nested(attempts: Attempts, measure: Measure) -> None:
    """Batch of tuples by batch, from budget to budget; with a stop, what a smaller budget has
    solved is not attacked again.
    """
    block = attempts.block
    for start in range(0, len(block.attack_ids), block.batch):
        places = np.arange(start, min(start + block.batch, len(block.attack_ids)))
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


def _all_budgets(attempts: Attempts, attack: AllBudgets, measure: Measure) -> None:
    """Batch of tuples by batch, all budgets at once."""
    block = attempts.block
    count = len(block.epsilons)
    for start in range(0, len(block.attack_ids), block.batch):
        places = np.arange(start, min(start + block.batch, len(block.attack_ids)))
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
