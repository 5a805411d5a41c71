"""What is done of a study, what is left and what was set aside."""

import pyarrow.parquet as pq

from advrec.config import OwnModel, Study
from advrec.evaluation import cells, checks
from advrec.store import Run


def overview(run: Run, study: Study, preparation: list[str] | None = None) -> str:
    """What is done, what is left and what was set aside, as lines of text; `preparation` says more of stage 1."""
    done = {True: "done", False: "to do"}
    begun = sum(1 for _ in run.prepared.glob("shard-*.parquet")) if not run.catalog.exists() else 0
    prepared = f"prepare   {done[run.catalog.exists()]}{f', {begun} shards of images are prepared' if begun else ''}"
    lines = [f"{run.directory}", *(preparation or [prepared])]
    for model, spec in study.models.items():
        taken = f"{spec.model}, not trained here" if isinstance(spec, OwnModel) else done[run.weights(model).exists()]
        lines.append(f"train     {model}: {taken}")
    wanted = study.evaluation.tuples
    tuples = pq.read_metadata(run.tuples).num_rows if run.tuples.exists() else wanted if isinstance(wanted, int) else None
    for cell in cells.cells(study):
        if tuples is None:
            lines.append(f"evaluate  {cell.model} {cell.attack.name}: to do")
        else:
            total = cells.num_blocks(study, cell, tuples)
            missing = sum(1 for _ in cells.missing_blocks(run, study, cell, tuples))
            lines.append(f"evaluate  {cell.model} {cell.attack.name}: {total - missing} of {total} blocks done")
    if tuples is not None and study.evaluation.checks:
        left = sum(1 for cell in checks.cells(study) for _ in cells.missing_blocks(run, study, cell, tuples))
        lines.append(f"evaluate  checks: {f'{left} blocks to do' if left else 'done'}")
    lines.append(f"report    {done[(run.report / 'index.html').exists()]}")
    lines += [f"set aside {key}: {reason}" for key, reason in sorted(run.set_aside().items())]
    return "\n".join(lines)
