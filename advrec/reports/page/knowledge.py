"""The section of the page on what an adversary has to know."""

from collections.abc import Sequence

import pandas as pd

from advrec.reports.page.cells import Table, TextCell, attack_cell, interval
from advrec.reports.results import Results
from advrec.reports.tables import knowledge
from advrec.reports.tables.rows import records


def tables(results: Results, ladder: pd.DataFrame) -> Sequence[Table]:
    """Success by what the adversary has, a table a model: rungs and attacks by budgets, at the
    rank of a list of ten; none without rungs.

    Args:
        ladder: tables.knowledge.ladder.
    """
    rank, epsilons = results.study.evaluation.aim, results.study.evaluation.epsilons
    made = []
    for model, rows in ladder[ladder["rank"] == rank].groupby("model", sort=False):
        body: list[list[TextCell]] = []
        for (kind, attack), cells in rows.groupby(["knowledge", "attack"], sort=False):
            known = {row["epsilon"]: row for row in records(cells)}
            asked = knowledge.queries(results, str(attack))
            body.append(
                [
                    TextCell(str(kind)),
                    attack_cell(results, str(attack)),
                    TextCell(f"{asked:,}" if asked else "none"),
                    TextCell(f"{max(row['n'] for row in known.values()):,}"),
                    *(interval(known.get(epsilon)) for epsilon in epsilons),
                ]
            )
        caption = (
            f"{model}: success at rank {rank} in percent, by what the adversary has, with "
            "95\u00a0% interval; n is the number of tuples"
        )
        budgets = (f"ε = {results.shown(epsilon)}" for epsilon in epsilons)
        columns = ["The adversary has", "Attack", "Queries", "n", *budgets]
        made.append(Table(caption, columns, body, heads=2, source=knowledge.NAME))
    return made
