"""The end of a command that evaluates or reports: gates are judged, and the exit code says it."""

from typing import TYPE_CHECKING

from advrec.errors import GATE_FAILED
from advrec.run.directory import Run
from advrec.run.log import complain, say
from advrec.spec.study import Study

if TYPE_CHECKING:
    from advrec.reports.results import Results


def end(run: Run, study: Study, code: int, read: "Results | None" = None) -> int:
    """Say a sentence a gate of the study, those that failed on stderr.

    Args:
        code: exit code of the run without its gates.
        read: the run, where it was read before.

    Returns:
        GATE_FAILED if a gate failed, else `code`.
    """
    if not study.fail_if:
        return code
    from advrec.reports import results
    from advrec.reports.tables import gates

    judged = gates.judge(read or results.read(run))
    for each in judged:
        (complain if each.verdict == "failed" else say)(each.sentence)
    return GATE_FAILED if any(each.verdict == "failed" for each in judged) else code
