"""The progress of an evaluation: its line on the screen, and on Ray its metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from advrec.evaluation import probes
from advrec.evaluation.rates import headline_rank
from advrec.run import cells
from advrec.run.cells import BEFORE_AUDIENCES, CATEGORY_ATTACKS, CHECKS, Cell
from advrec.run.directory import Run
from advrec.run.pace import Pace, Piece
from advrec.run.progress import Progress
from advrec.spec import budgets
from advrec.spec.study import Study

if TYPE_CHECKING:
    from advrec.distributed.meters import Meters


class Work(NamedTuple):
    """A block that is to be attacked."""

    cell: Cell
    block: int
    """Its number in the cell."""
    tuples: int


class Tally(NamedTuple):
    """Successes at a cell's largest budget, of so many tuples or promoted articles; of an article
    the share of its audience, of a category that of the places in users' lists.
    """

    hits: float
    tuples: int

    @property
    def percent(self) -> float:
        """The share of the successes."""
        return 100 * self.hits / self.tuples


class Watch:
    """Follows the blocks of one model.

    Args:
        work: the blocks to attack now, by key.
        tuples: how many the run has.
        meters: of Ray; None without it.
    """

    def __init__(
        self,
        run: Run,
        study: Study,
        model: str,
        work: Mapping[str, Work],
        tuples: int,
        meters: Meters | None,
    ) -> None:
        self._run, self._work, self._meters = run, work, meters
        self._rank, self._aim = headline_rank(study.evaluation.ranks), study.evaluation.aim
        left = sum(one.tuples for one in work.values())
        there = self._done_before(study, model, tuples)
        done = sum(there.values())
        self._pace = Pace({key: Piece(one.cell, one.tuples) for key, one in work.items()})
        counted = {*there, *(one.cell for one in work.values())}
        kinds = {"tuples" if cell.articles is None else "articles" for cell in counted}
        unit = " and ".join(sorted(kinds, reverse=True))
        self._progress = Progress(
            f"attack {model}", done + left, unit, done=done, left=self._pace.left
        )
        self._tallies: dict[Cell, Tally] = {}
        self._steps = 0

    def _done_before(self, study: Study, model: str, tuples: int) -> dict[Cell, int]:
        """Tuples of the model's blocks that are there, by cell, whichever command wrote them."""
        size = study.evaluation.block
        every = [
            cell for cell in (*cells.cells(study), *probes.cells(study)) if cell.model == model
        ]
        there: dict[Cell, int] = {}
        for cell in every:
            for block, _ in cells.block_files(self._run, cell):
                if cells.block_key(cell, block) not in self._work:
                    own = max(0, min(size, cell.tuples(tuples) - block * size))
                    there[cell] = there.get(cell, 0) + own
        return there

    def sent(self, key: str) -> None:
        """Note that a worker begins with a block."""
        self._pace.begin(key, time.monotonic())

    def done(self, key: str, rows: pa.Table) -> None:
        """Show that a block has been written."""
        one = self._work[key]
        self._pace.end(key, time.monotonic())
        attack = one.cell.attack.name
        steps = pc.sum(rows["gradient_steps"]).as_py()
        self._steps += steps
        success = self._tally(one.cell, rows).percent
        if self._meters:
            self._meters.done(
                one.cell.model, attack, tuples=one.tuples, steps=steps, success=success
            )
        name = f"check {attack}" if one.cell.part in CHECKS else attack
        rate = self._steps / self._progress.elapsed()
        at = {
            **dict.fromkeys(BEFORE_AUDIENCES, f"of {one.cell.audience} at rank <= {self._aim}"),
            CATEGORY_ATTACKS: f"of the users' first {self._aim} places",
        }.get(one.cell.part, f"at rank <= {self._rank}")
        note = (
            f"{rate:,.0f} image-steps/s, {name} so far {success:.1f} % "
            f"{at}, epsilon {budgets.shown(one.cell.epsilons[-1])}"
        )
        self._progress.advance(one.tuples, note)

    def set_aside(self, key: str) -> None:
        """Show that a block was given up on."""
        one = self._work[key]
        self._pace.end(key, time.monotonic(), done=False)
        if self._meters:
            self._meters.set_aside(one.cell.model, one.cell.attack.name)
        self._progress.advance(one.tuples, f"{key} is set aside")

    def _share(self, cell: Cell) -> str | None:
        """The column that is a share of an audience; None: rows have a rank."""
        columns = dict.fromkeys(BEFORE_AUDIENCES, "hr_after") | {CATEGORY_ATTACKS: "chr_after"}
        return f"{columns[cell.part]}_{self._aim}" if cell.part in columns else None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.close()

    def _tally(self, cell: Cell, rows: pa.Table) -> Tally:
        """Add a block's rows to its cell's successes, which begin with what earlier runs wrote."""
        before = self._tallies.get(cell) or self._earlier(cell)
        self._tallies[cell] = self._add(before, cell, rows)
        return self._tallies[cell]

    def _earlier(self, cell: Cell) -> Tally:
        now = {one.block for one in self._work.values() if one.cell == cell}
        tally = Tally(0, 0)
        for block, path in cells.block_files(self._run, cell):
            if block not in now:
                column = self._share(cell) or "adversarial_rank"
                table = pq.read_table(path, columns=["epsilon", column])
                tally = self._add(tally, cell, table)
        return tally

    def _add(self, tally: Tally, cell: Cell, rows: pa.Table) -> Tally:
        largest = rows.filter(pc.equal(rows["epsilon"], cell.epsilons[-1]))
        share = self._share(cell)
        if share is not None:
            hits = pc.sum(largest[share]).as_py() or 0.0
        else:
            hits = pc.sum(pc.less_equal(largest["adversarial_rank"], self._rank)).as_py() or 0
        return Tally(tally.hits + hits, tally.tuples + len(largest))
