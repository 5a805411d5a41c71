"""Costs of defenses without labels for the shop: a row a model that has one."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from advrec.evaluation import lists
from advrec.reports.results import Results
from advrec.reports.tables.rows import records, undefended
from advrec.run import schema
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
    - overlap_percent: overlap of lists, the mean share of a list's ten articles that the original's
      list has too, with interval;
    - same_category_percent and original_same_category_percent: mean share of a list that is of its
      article's category; empty where that is not known;
    - drift_median and drift_95: clean drift, the median and the 95th percentile;
    - new_query_..., old_query_...: the original's ten, looked for by a query of this model in the
      original's catalog, and the other way round: their median rank, and the share of them that
      ranks among the first ten.
    """
    rows = []
    for model, spec in results.study.models.items():
        path = results.run.changes(model)
        if not isinstance(spec, LabelFree) or not path.exists():
            continue
        table = read_table(path, CHANGES).to_pandas()
        shares = [100.0 * share for share in lists.mean_interval(table["overlap"].to_numpy())]
        first = original(results.whole.models, model)
        row: dict[str, Any] = {"model": model, "original": first, "n": len(table)}
        row |= dict(zip(("overlap_percent", "low_percent", "high_percent"), shares, strict=True))
        row["same_category_percent"] = _same_category(results, model)
        row["original_same_category_percent"] = _same_category(results, first)
        row["drift_median"] = table["drift"].median()
        row["drift_95"] = table["drift"].quantile(0.95)
        for query in ("new_query", "old_query"):
            ranks = np.concatenate(list(table[f"{query}_ranks"]))
            row[f"{query}_rank_median"] = float(np.median(ranks))
            row[f"{query}_found_percent"] = 100.0 * float(np.mean(ranks <= LISTED))
        rows.append(row)
    return pd.DataFrame(rows)


def kept(results: Results) -> dict[str, Sequence[float]]:
    """The overlap of lists of each model, in percent with interval: with its original's, or else
    with the baseline's. A model without a defense keeps its own.

    Empty where no model was defended without labels.
    """
    table = changes(results)
    if table.empty:
        return {}
    overlaps = results.recommendations.query("quantity == 'overlap'")
    renamed = table.rename(columns={"overlap_percent": "percent"})
    found: dict[str, Sequence[float]] = {
        row["model"]: [row[share] for share in ("percent", "low_percent", "high_percent")]
        for row in (*records(overlaps), *records(renamed))
    }
    return found | dict.fromkeys(undefended(results), [100.0] * 3)


def _same_category(results: Results, model: str) -> float | None:
    """The mean share, in percent, of a model's lists of ten that is of their article's category;
    None where that is not known.
    """
    path = results.run.lists(model)
    if not path.exists():
        return None
    own = read_table(path, schema.LISTS).to_pandas()
    shares = lists.agreement(own, list(results.labels["category"]))
    return 100.0 * float(shares.mean()) if len(shares) else None
