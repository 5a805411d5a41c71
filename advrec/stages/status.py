"""Status of a run: what is done of a study, what is left and what was set aside."""

from collections.abc import Iterator
from typing import Literal

from advrec.run import cells
from advrec.run.cells import CATEGORY_ATTACKS, CHECKS
from advrec.run.directory import Run
from advrec.spec.models import OwnModel
from advrec.spec.study import Study
from advrec.stages import category_attack, interactions
from advrec.stages.plan import Plan

Report = Literal[
    "to do", "to do again: there are newer results", "done", "made, but work is missing"
]


def is_stale(run: Run) -> bool:
    """Say whether there are results that came after the report."""
    page = run.report / "index.html"
    if not page.exists():
        return False
    parts = (run.attacks, run.promotions, run.category_attacks, run.checks, run.promotion_checks)
    tables = (table for part in parts for table in part.rglob("*.parquet"))
    return any(table.stat().st_mtime > page.stat().st_mtime for table in tables)


def overview(run: Run, study: Study, plan: Plan, preparation: list[str] | None = None) -> str:
    """Write a plan down in lines of text.

    Args:
        preparation: lines that say more of stage 1.
    """
    driver = run.driver()
    at_work = f": {driver} is at work; {last_line(run)}" if driver else ""
    return "\n".join(
        [
            f"{run.directory}{at_work}",
            *(preparation or [_prepared(plan), *_interactions(run, study)]),
            *_trained(study, plan),
            *_evaluated(study, plan),
            f"report    {report(run, plan)}",
            *(f"set aside {key}: {plan.set_aside[key]}" for key in sorted(plan.set_aside)),
        ]
    )


def report(run: Run, plan: Plan) -> Report:
    """Say how the report stands to the results."""
    if not (run.report / "index.html").exists():
        return "to do"
    if is_stale(run):
        return "to do again: there are newer results"
    return "done" if plan.is_finished else "made, but work is missing"


def last_line(run: Run) -> str:
    """The line that the log ends with."""
    lines = run.log.read_text(encoding="utf-8").splitlines() if run.log.exists() else []
    return lines[-1] if lines else "nothing is logged yet"


def _prepared(plan: Plan) -> str:
    begun = f", {plan.shards} shards of images are prepared" if plan.shards else ""
    return f"prepare   {_done(plan.catalog)}{begun}"


def _interactions(run: Run, study: Study) -> list[str]:
    return [f"          {each}" for each in interactions.line(run, study)]


def _trained(study: Study, plan: Plan) -> Iterator[str]:
    for model, spec in study.models.items():
        done = _done(model not in plan.untrained)
        own = f"{spec.shown}, not trained here" if isinstance(spec, OwnModel) else None
        yield f"train     {model}: {own or done}"


def _evaluated(study: Study, plan: Plan) -> Iterator[str]:
    for cell in cells.cells(study):
        state = "to do"
        if plan.tuples is not None:
            total = cells.num_blocks(study, cell, plan.tuples)
            state = f"{total - len(plan.blocks[cell])} of {total} blocks done"
        words = {"attacks": "", CATEGORY_ATTACKS: " on a whole category"}
        before = words.get(cell.part, f" before {cell.audience}")
        yield f"evaluate  {cell.model} {cell.attack.name}{before}: {state}"
    yield from (f"evaluate  {line}" for line in category_attack.left_out(study))
    if plan.tuples is not None and study.evaluation.checks:
        left = sum(len(blocks) for cell, blocks in plan.blocks.items() if cell.part in CHECKS)
        yield f"evaluate  checks: {f'{left} blocks to do' if left else 'done'}"


def _done(done: bool) -> str:
    return "done" if done else "to do"
