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


def test_articles_are_counted_as_articles(tmp_path, cell, capsys):
    promotion = cell._replace(part="promotions", articles=4, audience="users")
    for work, unit in (
        ({"a": Work(promotion, 0, 4)}, "4 articles"),
        ({"a": Work(promotion, 0, 4), "b": Work(cell, 0, 4)}, "8 tuples and articles"),
    ):
        with Watch(Run(tmp_path), study(), cell.model, work, 4, None):
            pass
        assert f"0/{unit}" in " ".join(capsys.readouterr().err.split())


def test_the_total_is_that_of_all_cells_of_the_model_however_often_the_work_goes_on(
    tmp_path, cell, capsys
):
    """Cells that are finished count as done; those of other models, and blocks beyond, do not."""
    run, one = Run(tmp_path), {"block 0": Work(cell, 0, 4)}
    other = next(each for each in cells(study()) if each.attack.name != "pgd-2")
    for block in range(4):  # 10 tuples in blocks of 4, and a block of more tuples
        write_table(run.block(cell.model, other.attack.name, block), rows(1))
    write_table(run.block(cell.model, cell.attack.name, 1), rows(1))
    write_table(run.block("another", cell.attack.name, 1), rows(1))
    work = one | {"block 2": Work(cell, 2, 2)}
    with Watch(run, study(), cell.model, work, 10, None):
        assert "14/20 tuples done before" in " ".join(capsys.readouterr().err.split())
    write_table(run.block(cell.model, cell.attack.name, 2), rows(1))
    with Watch(run, study(), cell.model, one, 10, None):
        assert "16/20 tuples done before" in " ".join(capsys.readouterr().err.split())


def test_without_ray_there_are_no_meters(tmp_path, cell):
    work = {"block 0": Work(cell, 0, 4)}
    with Watch(Run(tmp_path), study(), cell.model, work, 4, None) as watch:
        watch.done("block 0", rows(1, 1, 1, 1))


def test_the_time_left_is_that_of_each_cell_s_own_blocks(tmp_path, monkeypatch, capsys):
    """Blocks of fgsm take 11 s, those of pgd-2 100 s; nothing is said until both are known."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    fgsm, pgd = cells(study())
    # as the stage sends them: the first of each cell first
    places = [(fgsm, 0), (pgd, 0), (fgsm, 1), (pgd, 1), (pgd, 2)]
    work = {f"{cell.attack.name} {block}": Work(cell, block, 4) for cell, block in places}
    said = []
    with Watch(Run(tmp_path), study(), fgsm.model, work, 12, None) as watch:
        for key, one in work.items():
            watch.sent(key)
            now[0] += 100.0 if one.cell is pgd else 11.0
            watch.done(key, rows(1, 2, 3, 4))
            said.append(capsys.readouterr().err.splitlines()[-1])
    assert " left" not in said[0]
    assert ", 3 min 31 s left" in said[1]
    assert ", 3 min 20 s left" in said[2]
    assert ", 1 min 40 s left" in said[3]
