"""Which blocks a study has, which are missing, and what determines their rows. Free of torch: a finished study is looked through fast."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from advrec.config import Study
from advrec.store import Run

PROTOCOL = 1  # raised whenever the same inputs give other rows


class Cell(NamedTuple):
    """One attack on one model: a directory of block files."""

    model: str
    attack: str


def cells(study: Study) -> list[Cell]:
    """In the order of work: model by model, so that an actor changes its model as seldom as possible."""
    return [Cell(model, attack.name) for model in study.models for attack in study.evaluation.attacks]


def num_blocks(study: Study, tuples: int) -> int:
    return -(-tuples // study.evaluation.block)


def missing_blocks(run: Run, study: Study, cell: Cell, tuples: int) -> Iterator[int]:
    """Numbers of the blocks that have no file yet."""
    return (b for b in range(num_blocks(study, tuples)) if not run.block(cell.model, cell.attack, b).exists())


def done_blocks(run: Run, cell: Cell) -> Iterator[int]:
    """Numbers of the blocks that have their file."""
    return (int(path.stem.removeprefix("block-")) for path in run.block(*cell, 0).parent.glob("block-*.parquet"))


def block_key(cell: Cell, block: int) -> str:
    """Name of a block in set_aside.json and in progress messages."""
    return f"attacks/{cell.model}/{cell.attack}/{block}"


def identity(study: Study, attack: str) -> dict[str, Any]:
    """What determines the rows of an attack as far as the study says it; the hashes of weights, catalog and tuples join when the
    work begins."""
    return {
        "attack": attack,
        "epsilons": list(study.evaluation.epsilons),
        "block": study.evaluation.block,
        "batch": study.evaluation.batch,
        "protocol": PROTOCOL,
    }
