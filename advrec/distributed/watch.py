"""What an evaluation shows of itself while it runs: its line of progress, and numbers for Ray's
metrics endpoint (Prometheus).
"""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ray.util import metrics

from advrec.attacks import names
from advrec.evaluation import cells
from advrec.evaluation.cells import Cell
from advrec.run.directory import Run
from advrec.run.progress import Progress
from advrec.spec.study import Study

SUCCESS_AT = 3  # the rank of the study that advrec grew from
TAGS = ("model", "attack")


class Watch:
    """Follows the blocks of one model.

    Args:
        work: by key what is to be done now: the cell, the number of the block and its tuples.
    """

    def __init__(
        self,
        run: Run,
        study: Study,
        model: str,
        work: Mapping[str, tuple[Cell, int, int]],
        tuples: int,
    ) -> None:
        self._run, self._work = run, work
        at = [rank for rank in study.evaluation.ranks if rank <= SUCCESS_AT]
        self._at = at[-1] if at else study.evaluation.ranks[0]
        asked = dict.fromkeys(cell for cell, _, _ in work.values())
        # Of cells whose blocks are all there nothing is said: what is done before counts for those
        # that are at work.
        total = sum(cell.tuples(tuples) for cell in asked)
        left = sum(count for _, _, count in work.values())
        cost = sum(self._cost(key) for key in work)
        self._progress = Progress(f"attack {model}", total, "tuples", done=total - left, work=cost)
        self._seen: dict[Cell, tuple[int, int]] = {}
        self._steps = 0
        self._tuples = metrics.Counter(
            "advrec_tuples", "Tuples attacked, at all their budgets.", TAGS
        )
        self._image_steps = metrics.Counter(
            "advrec_image_steps", "Gradient steps, each of one image.", TAGS
        )
        self._given_up = metrics.Counter("advrec_blocks_set_aside", "Blocks given up on.", TAGS)
        self._success = metrics.Gauge(
            "advrec_success_percent",
            f"Tuples at rank <= {self._at} at the largest budget, of those attacked so far.",
            TAGS,
        )

    def done(self, key: str, rows: pa.Table) -> None:
        """A block has been written."""
        cell, _, count = self._work[key]
        tags = {"model": cell.model, "attack": cell.attack.name}
        steps = pc.sum(rows["gradient_steps"]).as_py()
        self._steps += steps
        if count:
            self._tuples.inc(count, tags)
        if steps:
            self._image_steps.inc(steps, tags)
        hits, of = self._tally(cell, rows)
        self._success.set(100 * hits / of, tags)
        name = cell.attack.name if cell.part == "attacks" else f"check {cell.attack.name}"
        rate = self._steps / self._progress.elapsed()
        note = f"{rate:,.0f} image-steps/s, {name} so far {100 * hits / of:.1f} % at rank <= {self._at}, epsilon {cell.epsilons[-1]:g}"
        self._progress.advance(count, note, work=self._cost(key))

    def set_aside(self, key: str) -> None:
        """A block was given up on."""
        cell, _, count = self._work[key]
        self._given_up.inc(1, {"model": cell.model, "attack": cell.attack.name})
        self._progress.advance(count, f"{key} is set aside", work=self._cost(key))

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.close()

    def _cost(self, key: str) -> float:
        """Of a block, in gradient steps at most."""
        cell, _, count = self._work[key]
        attack = cell.attack
        return (
            count
            * len(cell.epsilons)
            * names.most_steps(attack.attack, restarts=attack.restarts, nested=attack.nested)
        )

    def _tally(self, cell: Cell, rows: pa.Table) -> tuple[int, int]:
        """Successes at the cell's largest budget, and of how many tuples, with what earlier runs
        wrote.
        """
        if cell not in self._seen:
            here = {block for other, block, _ in self._work.values() if other == cell}
            earlier = [
                pq.read_table(path, columns=["epsilon", "adversarial_rank"])
                for block, path in cells.block_files(self._run, cell)
                if block not in here
            ]
            self._seen[cell] = (0, 0)
            for table in earlier:
                self._tally(cell, table)
        largest = rows.filter(pc.equal(rows["epsilon"], cell.epsilons[-1]))
        hits, of = self._seen[cell]
        reached = pc.sum(pc.less_equal(largest["adversarial_rank"], self._at)).as_py() or 0
        self._seen[cell] = (hits + reached, of + len(largest))
        return self._seen[cell]
