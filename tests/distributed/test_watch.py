"""The progress of an evaluation: successes counted by hand, work that was done before included."""

import pyarrow as pa
import pytest

from advrec.distributed.watch import Watch, Work
from advrec.run.cells import cells
from advrec.run.directory import Run
from advrec.run.files import write_table
from tests.conftest import study

EPSILONS = (0.01, 0.05)


class Meters:
    """Keeps what it is told."""

    def __init__(self):
        self.blocks, self.given_up = [], []

    def done(self, model, attack, *, tuples, steps, success):
        self.blocks.append((model, attack, tuples, steps, success))

    def set_aside(self, model, attack):
        self.given_up.append((model, attack))


def rows(*ranks):
    """Rows of tuples with these ranks at the largest budget, and rank 99 at the smallest."""
    columns = {
        "epsilon": EPSILONS * len(ranks),
        "adversarial_rank": [rank for largest in ranks for rank in (99, largest)],
        "gradient_steps": [5] * (2 * len(ranks)),
    }
    return pa.table(columns)


@pytest.fixture
def cell():
    return next(cell for cell in cells(study()) if cell.attack.name == "pgd-2")


def test_success_and_steps_of_blocks_and_of_what_was_there_before(tmp_path, cell, capsys):
    run, meters = Run(tmp_path), Meters()
    # Blocks 0 and 1 are attacked now; block 2 is of an earlier run, with 1 success in 4 tuples.
    write_table(run.block(cell.model, cell.attack.name, 2), rows(3, 4, 5, 9))
    work = {f"block {n}": Work(cell, n, 4) for n in range(2)}
    with Watch(run, study(), cell.model, work, 12, meters) as watch:
        write_table(run.block(cell.model, cell.attack.name, 0), rows(1, 2, 3, 4))
        watch.done("block 0", rows(1, 2, 3, 4))
        watch.set_aside("block 1")
    assert meters.blocks == [(cell.model, "pgd-2", 4, 40, 100 * 4 / 8)]
    assert meters.given_up == [(cell.model, "pgd-2")]
    said = " ".join(capsys.readouterr().err.split())
    assert "4/12 tuples done before" in said
    assert "block 1 is set aside" in said


def test_without_ray_there_are_no_meters(tmp_path, cell):
    work = {"block 0": Work(cell, 0, 4)}
    with Watch(Run(tmp_path), study(), cell.model, work, 4, None) as watch:
        watch.done("block 0", rows(1, 1, 1, 1))


def test_cost_is_tuples_times_budgets_times_steps(cell):
    assert Work(cell, 0, 4).cost == 4 * 2 * 2
