"""What is done of a study, what is left and what was set aside."""

import pyarrow.parquet as pq

from advrec.evaluation import cells, checks
from advrec.evaluation.cells import Cell
from advrec.run.directory import Run
from advrec.spec.models import OwnModel
from advrec.spec.study import Study


def every_cell(study: Study) -> list[Cell]:
    """What the study asks for, and what the evaluation measures about itself."""
    return [*cells.cells(study), *checks.cells(study)]


def missing(run: Run, study: Study, tuples: int) -> set[str]:
    """Keys of what the evaluation has still to do: blocks and examinations of models that have no
    file.
    """
    blocks = {
        cells.block_key(cell, block)
        for cell in every_cell(study)
        for block in cells.missing_blocks(run, study, cell, tuples)
    }
    unexamined = [
        model
        for model in study.compared.models
        if study.evaluation.checks and not run.health(model).exists()
    ]
    return blocks | {cells.health_key(model) for model in unexamined}


def is_finished(run: Run, study: Study) -> bool:
    """Whether all is done but for what was set aside."""
    return (
        run.tuples.exists()
        and missing(run, study, pq.read_metadata(run.tuples).num_rows) <= run.set_aside().keys()
    )


def is_stale(run: Run) -> bool:
    """Whether there are results that came after the report."""
    page = run.report / "index.html"
    if not page.exists():
        return False
    tables = (table for part in (run.attacks, run.checks) for table in part.rglob("*.parquet"))
    return any(table.stat().st_mtime > page.stat().st_mtime for table in tables)


def overview(run: Run, study: Study, preparation: list[str] | None = None) -> str:
    """What is done, what is left and what was set aside, as lines of text; `preparation` says more
    of stage 1.
    """
    done = {True: "done", False: "to do"}
    begun = sum(1 for _ in run.prepared.glob("shard-*.parquet")) if not run.catalog.exists() else 0
    prepared = f"prepare   {done[run.catalog.exists()]}{f', {begun} shards of images are prepared' if begun else ''}"
    driver = run.driver()
    at_work = f": {driver} is at work; {last_line(run)}" if driver else ""
    lines = [f"{run.directory}{at_work}", *(preparation or [prepared])]
    for model, spec in study.models.items():
        taken = (
            f"{spec.model}, not trained here"
            if isinstance(spec, OwnModel)
            else done[run.weights(model).exists()]
        )
        lines.append(f"train     {model}: {taken}")
    wanted = study.evaluation.tuples
    tuples = (
        pq.read_metadata(run.tuples).num_rows
        if run.tuples.exists()
        else wanted
        if isinstance(wanted, int)
        else None
    )
    for cell in cells.cells(study):
        if tuples is None:
            lines.append(f"evaluate  {cell.model} {cell.attack.name}: to do")
        else:
            total = cells.num_blocks(study, cell, tuples)
            left = sum(1 for _ in cells.missing_blocks(run, study, cell, tuples))
            lines.append(
                f"evaluate  {cell.model} {cell.attack.name}: {total - left} of {total} blocks done"
            )
    if tuples is not None and study.evaluation.checks:
        left = sum(
            1
            for cell in checks.cells(study)
            for _ in cells.missing_blocks(run, study, cell, tuples)
        )
        lines.append(f"evaluate  checks: {f'{left} blocks to do' if left else 'done'}")
    lines.append(f"report    {_reported(run, study)}")
    lines += [f"set aside {key}: {reason}" for key, reason in sorted(run.set_aside().items())]
    return "\n".join(lines)


def _reported(run: Run, study: Study) -> str:
    if not (run.report / "index.html").exists():
        return "to do"
    if is_stale(run):
        return "to do again: there are newer results"
    return "done" if is_finished(run, study) else "made, but work is missing"


def last_line(run: Run) -> str:
    """What the log said last."""
    lines = run.log.read_text(encoding="utf-8").splitlines() if run.log.exists() else []
    return lines[-1] if lines else "nothing is logged yet"
