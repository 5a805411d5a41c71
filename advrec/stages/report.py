"""Stage 4 of a study: tables, figures and the page, from Parquet alone."""

from pathlib import Path
from typing import TYPE_CHECKING

from advrec.errors import ConfigError
from advrec.run.directory import Run, open_run
from advrec.run.log import say

if TYPE_CHECKING:
    import pandas as pd

    from advrec.reports.results import Results


def run_stage(
    run: Run, *, partial: bool = False, other: Run | None = None, junit: Path | None = None
) -> "Results":
    """Report a run.

    Args:
        partial: whether an unfinished run is reported too.
        other: a run to compare with, tuple by tuple.
        junit: a file to write gates and self-checks to, as JUnit cases.

    Returns:
        The run as it was read.

    Raises:
        ConfigError: `junit` is a directory.
        AdvrecError: the run is not finished, or the two cannot be compared.
        OSError: `junit` cannot be written.
    """
    from advrec.reports import junit as cases
    from advrec.reports import results, terminal
    from advrec.reports.report import write_report
    from advrec.reports.tables.against import compare

    if junit and junit.is_dir():
        raise ConfigError(f"--junit {junit} is a directory; name the file to write")
    read = results.read(run)
    compared = compare(read, results.read(other)) if other else None
    page = write_report(read, partial=partial, compared=compared)
    say(terminal.comparison_text(read, compared))
    say(f"report: {page}")
    if junit:
        cases.write(read, junit)
        say(f"junit: {junit}")
    return read


def read_results(directory: Path | str) -> "pd.DataFrame":
    """Read the outcomes of a run directory, finished or not.

    Returns:
        One row a tuple, budget, attack and model that the study names: the columns `model` and
        `attack`, then those of the tables in attacks/ (`tuple_id`, `epsilon`, `clean_rank`,
        `adversarial_rank`, `linf`, ...; ranks begin at 1). A success at r is a row whose
        `adversarial_rank` is at most r.

    Raises:
        ConfigError: it is no run directory, or nothing was evaluated in it yet.
    """
    from advrec.reports import results

    return results.read(open_run(directory)).outcomes
