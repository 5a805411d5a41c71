"""Costs of defenses without labels for the shop: a row a model that has one."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from advrec.evaluation.lists import mean_interval
from advrec.reports.results import Results
from advrec.reports.tables.rows import records
from advrec.run.changes import CHANGES
from advrec.run.tables import read_table
from advrec.spec.label_free import LabelFree, original

LISTED = 10
"""Places of a list: a true neighbour that ranks among them is found."""


@lru_cache(maxsize=1)
def changes(results: Results) -> pd.DataFrame:
    """One row a model that was defended without labels, against its original: the model that such
    defenses began with, be they one or several in a row.

    - n: articles of the evaluation's split;
    - overlap_percent: mean share of a list of ten that the original's list has too, with interval;
    - same_category_percent and original_same_category_percent: mean share of a list that is of its
      article's category; empty where that is not known;
    - drift_median and drift_95: clean drift, the median and the 95th percentile;
    - new_query_..., old_query_...: the original's ten, looked for by a query of this model in the
      original's catalog, and the other way round: their median rank, and the share of them that
      ranks among the first ten.
    """
    same = {
        row["model"]: row["percent"]
        for row in records(results.recommendations)
        if row["quantity"] == "same_category"
    }
    rows = []
    for model, spec in results.study.models.items():
        path = results.run.changes(model)
        if not isinstance(spec, LabelFree) or not path.exists():
            continue
        table = read_table(path, CHANGES).to_pandas()
        shares = [100.0 * share for share in mean_interval(table["overlap"].to_numpy())]
        first = original(results.study.models, model)
        row: dict[str, Any] = {"model": model, "original": first, "n": len(table)}
        row |= dict(zip(("overlap_percent", "low_percent", "high_percent"), shares, strict=True))
        row["same_category_percent"] = same.get(model)
        row["original_same_category_percent"] = same.get(first)
        row["drift_median"] = table["drift"].median()
        row["drift_95"] = table["drift"].quantile(0.95)
        for query in ("new_query", "old_query"):
            ranks = np.concatenate(list(table[f"{query}_ranks"]))
            row[f"{query}_rank_median"] = float(np.median(ranks))
            row[f"{query}_found_percent"] = 100.0 * float(np.mean(ranks <= LISTED))
        rows.append(row)
    return pd.DataFrame(rows)


def kept(results: Results) -> dict[str, Sequence[float]]:
    """The share of lists that each model keeps of its original, in percent with interval; a model
    without a defense keeps its own.

    Empty where no model was defended without labels.
    """
    table = changes(results)
    if table.empty:
        return {}
    found: dict[str, Sequence[float]] = {
        row["model"]: [row["overlap_percent"], row["low_percent"], row["high_percent"]]
        for row in records(table)
    }
    whole = {model: [100.0] * 3 for model in results.study.models if model in {*table["original"]}}
    return whole | found
