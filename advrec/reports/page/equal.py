"""Tables of the page on equal images."""

import pandas as pd

from advrec.reports.page.cells import Table, TextCell, attack_cell, interval
from advrec.reports.results import Results
from advrec.reports.tables.rows import records, span


def distinct_table(results: Results, made: pd.DataFrame) -> Table | None:
    """Success by the rank among distinct images; None where these are not known."""
    return _table(results, made, "Among distinct images", "distinct")


def pairs_table(results: Results, made: pd.DataFrame) -> Table | None:
    """Success on pairs that are equal before any attack and on the others; None without such."""
    title = "Pairs that are equal before any attack"
    return _table(results, made, title, "equal_pairs", more=("pairs",))


def _table(
    results: Results, made: pd.DataFrame, title: str, source: str, more: tuple[str, ...] = ()
) -> Table | None:
    """A row a model, an attack and the keys `more`; a column a budget."""
    rows = records(made[made["rank"] == results.rank])
    if not rows:
        return None
    keys = ("model", "attack", *more)
    known = {(*(row[key] for key in keys), row["epsilon"]): row for row in rows}
    epsilons = results.study.evaluation.epsilons
    body = []
    for model, attack, *others in dict.fromkeys(key[:-1] for key in known):
        cells = [known.get((model, attack, *others, epsilon)) for epsilon in epsilons]
        count = span([int(cell["n"]) for cell in cells if cell])
        texts = [TextCell(text) for text in (*others, count)]
        head = [TextCell(model), attack_cell(results, attack)]
        body.append([*head, *texts, *(interval(cell) for cell in cells)])
    names = [name.capitalize() for name in keys]
    columns = [*names, "n (tuples)", *(f"ε = {results.shown(epsilon)}" for epsilon in epsilons)]
    caption = f"{title}: success at rank {results.rank} in percent, with 95\u00a0% interval"
    return Table(caption, columns, body, heads=len(keys), source=source)
