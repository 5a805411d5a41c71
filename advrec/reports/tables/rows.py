"""Rows of tables as mappings, and how a count or an unknown value is written."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from advrec.reports.results import Results
from advrec.spec.chains import ingests, parts

DASH = "–"  # noqa: RUF001 - stands for an unknown value


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as mappings by column."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def is_lone(results: Results) -> bool:
    """Say whether the run is of one model alone that was not trained here."""
    models = list(results.study.models.values())
    return len(models) == 1 and not models[0].trained_here


def made_on(results: Results, attack: str) -> str:
    """The source of a transferred attack as words; empty for any other attack."""
    sources = results.attack(attack).sources
    return f"made on {' and '.join(sources)}" if sources else ""


def span(counts: Sequence[int]) -> str:
    """One number for equal counts, the smallest and the largest for others, a dash for none."""
    if not counts:
        return DASH
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def as_csv(table: pd.DataFrame) -> str:
    """A table as it is written and downloaded."""
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text


def has_defenses(results: Results) -> bool:
    """Say whether any compared model has a defense."""
    return len(undefended(results)) < len(results.study.models)


def undefended(results: Results) -> list[str]:
    """Names of the compared models without a defense, trained or at the door; of joined
    models those without a part that has one.
    """
    return [
        model
        for model, spec in results.study.models.items()
        if {spec.defense, *(part.defense for part in parts(results.whole.models, model))}
        <= {"none"}
        and not ingests(results.whole.models, model)
    ]
