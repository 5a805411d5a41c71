"""Stage 4 of a study: tables, figures and the page, from Parquet alone."""

from advrec.run.directory import Run
from advrec.run.log import say


def run_stage(run: Run, *, partial: bool = False, other: Run | None = None) -> None:
    """Report a run.

    Args:
        partial: whether an unfinished run is reported too.
        other: a run to compare with, tuple by tuple.

    Raises:
        AdvrecError: the run is not finished, or the two cannot be compared.
    """
    from advrec.reports import results, terminal
    from advrec.reports.report import write_report
    from advrec.reports.tables.against import compare

    read = results.read(run)
    compared = compare(read, results.read(other)) if other else None
    page = write_report(read, partial=partial, compared=compared)
    say(terminal.comparison_text(read, compared))
    say(f"report: {page}")
