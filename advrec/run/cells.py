"""Cells of a study, an attack on a model each, and which of their blocks are missing.

Free of torch: a finished study is looked through fast.
"""

from pathlib import Path
from typing import NamedTuple

from advrec.run import files
from advrec.run.directory import Run
from advrec.spec.attacks import AttackSpec
from advrec.spec.audiences import NEIGHBOURS, TARGETS, USERS
from advrec.spec.category_attack import CLASS, has_categories
from advrec.spec.study import Study

PROMOTIONS = "promotions"
PROMOTION_CHECKS = "promotion_checks"
BEFORE_AUDIENCES = (PROMOTIONS, PROMOTION_CHECKS)
CHECKS = ("checks", PROMOTION_CHECKS)
CATEGORY_ATTACKS = "category_attacks"


class Cell(NamedTuple):
    """One attack on one model: a directory of block files."""

    part: str
    """attacks: tuples; promotions: articles before audiences; category_attacks: all articles of a
    category at once; checks and promotion_checks: what the evaluation measures about itself.
    """
    model: str
    attack: AttackSpec
    epsilons: tuple[float, ...]
    deliveries: tuple[str, ...] = ()
    """Deliveries other than float."""
    first: int | None = None
    """Number of tuples or articles that checks attack at most, the first ones; None: all."""
    articles: int | None = None
    """Number of promoted articles; 1 for a category, which is one block; None: tuples are attacked.
    """
    audience: str = NEIGHBOURS
    """Before whom: neighbours, targets or users."""

    @property
    def key(self) -> str:
        """Name of the cell in identities.json."""
        return f"{self.part}/{self.model}/{self.attack.name}"

    def tuples(self, total: int) -> int:
        """Number of tuples that are attacked, of a study's `total`, or of promoted articles."""
        if self.articles is not None:
            return self.articles
        return total if self.first is None else min(self.first, total)


def cells(study: Study) -> list[Cell]:
    """List the cells that a study asks for, in the order of work.

    Why: model by model, so that an actor changes its model as seldom as possible.
    """
    listed = []
    for model in study.models:
        if model in study.compared.models:
            listed += _attacks(study, model) + _promotions(study, model, TARGETS)
        elif model in study.hybrids and study.hybrids[model].compared:
            listed += _promotions(study, model, USERS) + _category_attacks(study, model)
    return listed


def attacks(study: Study) -> list[Cell]:
    """List those of tuples."""
    return [cell for cell in cells(study) if cell.part == "attacks"]


def _attacks(study: Study, model: str) -> list[Cell]:
    evaluation = study.evaluation
    return [
        Cell("attacks", model, attack, evaluation.epsilons, evaluation.round_trips)
        for attack in study.on_tuples
    ]


def _promotions(study: Study, model: str, audience: str) -> list[Cell]:
    evaluation = study.evaluation
    return [
        Cell(
            PROMOTIONS,
            model,
            attack,
            evaluation.epsilons,
            evaluation.round_trips,
            articles=evaluation.num_promoted,
            audience=audience,
        )
        for attack in evaluation.attacks
        if audience in study.audiences_of(model, attack)
    ]


def _category_attacks(study: Study, model: str) -> list[Cell]:
    evaluation = study.evaluation
    wanted, deliveries = evaluation.category_attack, evaluation.round_trips
    classifies = has_categories(study.models, study.hybrids[model].encoder)
    return [
        Cell(
            CATEGORY_ATTACKS,
            model,
            attack,
            evaluation.epsilons,
            deliveries,
            articles=1,
            audience=USERS,
        )
        for attack in (wanted.entries(study.passed) if wanted else ())
        if classifies or attack.name != CLASS
    ]


def num_blocks(study: Study, cell: Cell, tuples: int) -> int:
    """Count the blocks of a cell, the last one perhaps smaller."""
    return -(-cell.tuples(tuples) // study.evaluation.block)


def missing_blocks(run: Run, study: Study, cell: Cell, tuples: int) -> list[int]:
    """List the numbers of the blocks that have no file yet, ascending."""
    there = {number for number, _ in block_files(run, cell)}
    return [number for number in range(num_blocks(study, cell, tuples)) if number not in there]


def block_files(run: Run, cell: Cell) -> list[tuple[int, Path]]:
    """List numbers and files of the blocks that are there."""
    return files.numbered(_directory(run, cell), "block")


def _directory(run: Run, cell: Cell) -> Path:
    return run.block(cell.model, cell.attack.name, 0, cell.part).parent


def is_begun(run: Run, cell: Cell) -> bool:
    """Say whether any block has its file."""
    return any(files.matching(_directory(run, cell), "block"))


def block_key(cell: Cell, block: int) -> str:
    """Name of a block in set_aside.json and in progress messages."""
    return f"{cell.key}/{block}"


def health_key(model: str) -> str:
    """Name of a model's examination in set_aside.json."""
    return f"health/{model}"
