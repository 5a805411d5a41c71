"""Blocks of a run: which are done, which were set aside, which are missing."""

from collections.abc import Container

import pandas as pd

from advrec.run import cells
from advrec.run.cells import Cell
from advrec.run.directory import Run
from advrec.spec.study import Study

COLUMNS = ["part", "model", "attack", "block", "tuples", "state"]


def blocks(run: Run, study: Study, tuples: int, set_aside: Container[str]) -> pd.DataFrame:
    """One row a block that the study asks for: part (that of its cell), model, attack, block,
    tuples or articles in it by the study, and state: done, set aside or missing.

    Args:
        study: with its hybrids.
        set_aside: keys of what was given up on.
    """
    size = study.evaluation.block
    rows = [
        (
            cell.part,
            cell.model,
            cell.attack.name,
            block,
            min(size, cell.tuples(tuples) - block * size),
            _state(run, cell, block, set_aside),
        )
        for cell in cells.cells(study)
        for block in range(cells.num_blocks(study, cell, tuples))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _state(run: Run, cell: Cell, block: int, set_aside: Container[str]) -> str:
    if run.block(cell.model, cell.attack.name, block, cell.part).exists():
        return "done"
    return "set aside" if cells.block_key(cell, block) in set_aside else "missing"
