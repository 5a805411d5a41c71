"""Which blocks a study has, which are missing, and what determines their rows. Free of torch: a
finished study is looked through fast.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from advrec.run.directory import Run
from advrec.spec.study import AttackSpec, Study

PROTOCOL = 4  # raised whenever the same inputs give other rows


class Cell(NamedTuple):
    """One attack on one model: a directory of block files."""

    part: str
    """attacks: what the study asks for; checks: what the evaluation measures about itself."""
    model: str
    attack: AttackSpec
    epsilons: tuple[float, ...]
    deliveries: tuple[str, ...] = ()
    """Other than float."""
    first: int | None = None
    """Only so many tuples, the first."""

    @property
    def key(self) -> str:
        """Of the cell in identities.json."""
        return f"{self.part}/{self.model}/{self.attack.name}"

    def tuples(self, total: int) -> int:
        return total if self.first is None else min(self.first, total)


def cells(study: Study) -> list[Cell]:
    """What the study asks for, in the order of work: model by model, so that an actor changes its
    model as seldom as possible.
    """
    evaluation = study.evaluation
    return [
        Cell("attacks", model, attack, evaluation.epsilons, evaluation.round_trips)
        for model in study.compared.models
        for attack in evaluation.attacks
    ]


def num_blocks(study: Study, cell: Cell, tuples: int) -> int:
    return -(-cell.tuples(tuples) // study.evaluation.block)


def missing_blocks(run: Run, study: Study, cell: Cell, tuples: int) -> Iterator[int]:
    """Numbers of the blocks that have no file yet."""
    return (
        b
        for b in range(num_blocks(study, cell, tuples))
        if not run.block(cell.model, cell.attack.name, b, cell.part).exists()
    )


def block_files(run: Run, cell: Cell) -> Iterator[tuple[int, Path]]:
    """Numbers and files of the blocks that are there."""
    for path in run.block(cell.model, cell.attack.name, 0, cell.part).parent.glob(
        "block-*.parquet"
    ):
        yield int(path.stem.removeprefix("block-")), path


def is_begun(run: Run, cell: Cell) -> bool:
    """Whether any block has its file."""
    return any(block_files(run, cell))


def block_key(cell: Cell, block: int) -> str:
    """Name of a block in set_aside.json and in progress messages."""
    return f"{cell.key}/{block}"


def health_key(model: str) -> str:
    """Name of a model's examination in set_aside.json."""
    return f"health/{model}"


def identity(study: Study, cell: Cell) -> dict[str, Any]:
    """What determines the rows of a cell as far as the study says it; the hashes of weights,
    catalog and tuples join when the work begins.
    """
    return {
        **cell.attack.model_dump(mode="json", by_alias=True, exclude={"name"}),
        "epsilons": list(cell.epsilons),
        "delivery": list(cell.deliveries),
        "seed": study.seed,
        "block": study.evaluation.block,
        "batch": study.evaluation.batch,
        "cpus_per_actor": study.resources.cpus_per_actor,
        "protocol": PROTOCOL,
        # A last block that is cut short would count as done for more tuples.
        "first": cell.first
        if cell.first is not None and cell.first % study.evaluation.block
        else None,
    }
