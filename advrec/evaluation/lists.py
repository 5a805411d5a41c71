"""Lists without an attack: the ten nearest articles of many, and what a defense changes about them.
Torch-free.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from advrec.evaluation.rates import wilson
from advrec.recommenders.bank import Ids
from advrec.recommenders.ranks import ExactIndex
from advrec.run import schema

NEIGHBOURS = 10
QUERIES = 1000  # most articles of the evaluation's split whose lists are kept


def nearest(index: ExactIndex, article_ids: Ids) -> pa.Table:
    """schema.LISTS of articles (Q,): the exact list of each."""
    ids = index.top_k(article_ids, min(NEIGHBOURS, len(index) - 1)).ids
    return schema.table(schema.LISTS, {"article_id": article_ids, "neighbours": ids.tolist()})


def agreement(lists: pd.DataFrame, labels: Sequence[frozenset[str]]) -> npt.NDArray[np.float64]:
    """The share (n,), 0..1, of each list that has one of its article's labels, in the order of
    `lists`; articles without a label are left out.

    Args:
        lists: schema.LISTS.
        labels: of every article of the catalog.
    """
    known = [
        (labels[article], neighbours)
        for article, neighbours in zip(lists["article_id"], lists["neighbours"], strict=True)
    ]
    shares = [
        np.mean([bool(own & labels[other]) for other in neighbours])
        for own, neighbours in known
        if own
    ]
    return np.array(shares, dtype=np.float64)


def overlap(lists: pd.DataFrame, others: pd.DataFrame) -> npt.NDArray[np.float64]:
    """The share (n,), 0..1, of each article's list that stands in its other list too."""
    both = lists.merge(others, on="article_id", suffixes=("", "_other"))
    pairs = zip(both["neighbours"], both["neighbours_other"], strict=True)
    return np.array(
        [len(set(own) & set(other)) / len(own) for own, other in pairs], dtype=np.float64
    )


def mean_interval(
    shares: npt.NDArray[np.float64], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean of shares (n,), 0..1, one an article, and Wilson's interval for the effective number of
    trials. A binomial proportion of so many trials has the variance of this mean (L. Kish, Survey
    sampling, 1965). The places of one list are not independent.
    """
    mean, n = float(shares.mean()), len(shares)
    variance = float(shares.var(ddof=1)) / n if n > 1 else 0.0
    effective = max(n, mean * (1.0 - mean) / variance) if variance else n
    low, high = wilson(mean * effective, effective, confidence)
    return mean, float(low), float(high)


def paired_mean(
    differences: npt.NDArray[np.float64], confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the mean of differences (n,), -1..1, of two shares of each article.

    It is Wald's after 1 and -1 are added to the differences, which of differences that are -1, 0 or
    1 is Bonett and Price's; see `rates.paired_difference`.
    """
    known = np.append(differences, (1.0, -1.0))
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    half = z * float(known.std()) / len(known) ** 0.5
    return max(-1.0, float(known.mean()) - half), min(1.0, float(known.mean()) + half)
