"""Identities of cells whose rows are not about tuples: who is attacked, and what is measured."""

from typing import Any

from advrec.run.cells import BEFORE_AUDIENCES, CATEGORY_ATTACKS, PROMOTIONS, Cell
from advrec.spec.audiences import TARGETS
from advrec.spec.study import Study, canonical_hash


def measured(study: Study, cell: Cell) -> dict[str, Any]:
    """Determine a cell beside its attack: nothing where tuples are attacked."""
    if cell.part in BEFORE_AUDIENCES:
        return _before(study, cell)
    return _swapped(study) if cell.part == CATEGORY_ATTACKS else {}


def _before(study: Study, cell: Cell) -> dict[str, Any]:
    """The audience of a cell, who is promoted, and what is measured."""
    evaluation = study.evaluation
    promoted = evaluation.promoted
    drawn = isinstance(promoted, int)
    return {
        "audience": cell.audience,
        "targets": canonical_hash(evaluation.targets) if cell.audience == TARGETS else None,
        "promoted": promoted if drawn else canonical_hash(promoted),
        **({"split": evaluation.split} if drawn else {}),
        "ranks": list(evaluation.ranks),
        **({"ranks_of": evaluation.ranks_of} if cell.part == PROMOTIONS else {}),
    }


def _swapped(study: Study) -> dict[str, Any]:
    """The named categories, who chooses the others, and what is measured."""
    wanted = study.evaluation.category_attack
    assert wanted is not None, "a cell asks for it"
    named = wanted.origin is not None and wanted.target is not None
    return {
        "origin": wanted.origin,
        "target": wanted.target,
        "chosen_by": None if named else next(iter(study.hybrids)),
        "ranks": list(study.evaluation.ranks),
    }
