"""Preparation of the catalog as tables."""

import pandas as pd

from advrec.reports.results import Results
from advrec.spec.base import SPLITS


def preparation(results: Results) -> pd.DataFrame:
    """One row a step of the preparation: articles left and articles that the step removed."""
    steps = results.preparation.get("steps", [])
    table = pd.DataFrame(steps, columns=["step", "articles"])
    removed = -table["articles"].diff().fillna(0) if len(table) else table["articles"]
    return table.assign(removed=removed.astype("int64"))


def splits(results: Results) -> pd.DataFrame:
    """One row a split: articles and their share in percent."""
    counts = results.preparation.get("splits", {})
    rows = [(split, counts[split]) for split in SPLITS if split in counts]
    table = pd.DataFrame(rows, columns=["split", "articles"])
    total = table["articles"].sum()
    return table.assign(
        percent=100.0 * table["articles"] / total if total else pd.Series(dtype="float64")
    )
