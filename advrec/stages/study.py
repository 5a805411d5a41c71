"""A study: its stages, in order. The command line, the jobs and Python call `run_study`.

Every stage does what is missing and nothing else, so a stage run again resumes.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from advrec.distributed.placement import cluster_address
from advrec.errors import SET_ASIDE
from advrec.run import identity, log
from advrec.run.directory import Run, remove_leftovers
from advrec.run.files import write_text
from advrec.run.log import say
from advrec.spec import study as study_file
from advrec.spec.study import Study
from advrec.stages import evaluate, gates, plan, prepare, report, train

if TYPE_CHECKING:
    from advrec.reports.results import Results

STAGES = ("prepare", "train", "evaluate", "report")


def run_study(
    study: Study,
    out: Path | str,
    *,
    stages: tuple[str, ...] = STAGES,
    address: str | None = None,
    partial: bool = False,
    other: Run | None = None,
    junit: Path | None = None,
) -> int:
    """Run stages of a study in the run directory `out`.

    Args:
        study: as `load_study` reads it.
        out: the run directory: new, or one to go on with.
        stages: some of STAGES, in their order.
        address: a Ray cluster; by default RAY_ADDRESS, else this machine alone.
        partial: whether a report is made of an unfinished run.
        other: a run that the report compares this one with.
        junit: a file that the report writes gates and self-checks to, as JUnit cases.

    Returns:
        Exit code: 0; 3 if work was set aside and the study does not accept that; 4 if a gate of the
        study failed, where it is evaluated or reported.

    Raises:
        ConfigError: the study is impossible, or `out` holds something that another configuration
            made.
        AdvrecError: it could not be done.
    """
    run = Run(out)
    run.check_directory()
    study = identity.continued(run, study)
    evaluates = "evaluate" in stages
    with_code = "train" in stages or evaluates
    plan.check_address(study, address)
    parts = plan.check(run, study, with_code=with_code)
    plan.refuse(run, study, parts, evaluates=evaluates)
    if with_code:
        plan.check_room(study, address)
    with run.lock(), log.kept(run.log), contextlib.ExitStack() as stack:
        # Until now another driver may have been at work here.
        plan.refuse(run, study, parts, evaluates=evaluates)
        connect = _connector(stack, address)
        functions: dict[str, Callable[[], Results | None]] = {
            "prepare": lambda: prepare.run_stage(run, study, connect, say),
            "train": lambda: train.run_stage(run, study, parts, connect),
            "evaluate": lambda: evaluate.run_stage(run, study, parts, connect),
            "report": lambda: report.run_stage(run, partial=partial, other=other, junit=junit),
        }
        remove_leftovers(run)
        write_text(run.study, yaml.safe_dump(study_file.as_dict(study), sort_keys=False))
        read = None
        for stage in stages:
            read = functions[stage]()
        code = exit_code(run, study)
        return gates.end(run, study, code, read) if {"evaluate", "report"} & {*stages} else code


def exit_code(run: Run, study: Study) -> int:
    """Exit code of what a run directory holds: 0, or 3 if work was set aside."""
    return SET_ASIDE if run.set_aside() and not study.accept_set_aside else 0


def _connector(stack: contextlib.ExitStack, address: str | None) -> Callable[[], bool]:
    """Connect to Ray when the first stage needs it, until the stack closes.

    Returns:
        A call that says whether nodes may join later: this machine alone has what it has.
    """
    connected = False

    def connect() -> bool:
        nonlocal connected
        if not connected:
            from advrec.distributed.session import session

            stack.enter_context(session(address))
            connected = True
        return cluster_address(address) is not None

    return connect
