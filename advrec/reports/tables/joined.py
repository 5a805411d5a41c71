"""Joined networks against each of their parts: success and lists, over the same tuples and
articles.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pandas as pd

from advrec.evaluation.lists import agreement, mean_interval, paired_mean
from advrec.evaluation.rates import clustered, paired_difference
from advrec.reports.results import Results
from advrec.spec import chains

COLUMNS = [
    *("model", "part", "quantity", "attack", "epsilon", "rank", "n"),
    *("percent", "low_percent", "high_percent"),
    *("part_percent", "part_low_percent", "part_high_percent"),
    *("difference_points", "low_points", "high_points"),
]
TUPLE = ["attack", "epsilon", "tuple_id", "target_id"]


@lru_cache(maxsize=1)  # the page asks for it too
def joined(results: Results) -> pd.DataFrame:
    """One row a (joined model, part, quantity), of parts that are compared themselves.

    A quantity is `success`, at each attack, budget and rank; or same_category or same_texture, the
    mean share of a list of ten that has its article's label. The difference is the joined model's
    minus the part's, over n tuples or articles of both, with its 95 % interval:
    `rates.paired_difference`, by target, or `lists.paired_mean`.
    """
    rows = [
        row
        for model, spec in results.study.models.items()
        for part in dict.fromkeys(chains.joined(spec))
        if part in results.study.models
        for row in (*_successes(results, model, part), *_lists(results, model, part))
    ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"rank": "Int64"})


def _successes(results: Results, model: str, part: str) -> Iterator[dict[str, Any]]:
    rows = results.outcomes[[*TUPLE, "model", "adversarial_rank"]]
    own, other = (rows[rows["model"] == name].drop(columns="model") for name in (model, part))
    both = own.merge(other, on=TUPLE, suffixes=("", "_part"))
    both["attack"] = pd.Categorical(both["attack"], results.attacks)
    for (attack, epsilon), cell in both.groupby(["attack", "epsilon"], observed=True):
        for rank in results.study.evaluation.ranks:
            won = [cell[name] <= rank for name in ("adversarial_rank", "adversarial_rank_part")]
            change = won[0].astype(int) - won[1].astype(int)
            intervals = [clustered(each, cell["target_id"]) for each in won]
            yield {
                "model": model,
                "part": part,
                "quantity": "success",
                **{"attack": attack, "epsilon": epsilon, "rank": rank, "n": len(cell)},
                **_measured("", won[0].mean(), intervals[0].low, intervals[0].high),
                **_measured("part_", won[1].mean(), intervals[1].low, intervals[1].high),
                **_points(change.mean(), *paired_difference(change, cell["target_id"])),
            }


def _lists(results: Results, model: str, part: str) -> Iterator[dict[str, Any]]:
    """Rows of the lists; an article whose list is known of one model alone is left out."""
    if not {model, part} <= results.lists.keys():
        return
    lists = [results.lists[name].set_index("article_id") for name in (model, part)]
    articles = lists[0].index.intersection(lists[1].index)
    for label in ("category", "texture"):
        labels = list(results.labels[label])
        shares = [agreement(each.loc[articles].reset_index(), labels) for each in lists]
        change = shares[0] - shares[1]
        if len(change):
            yield {
                "model": model,
                "part": part,
                "quantity": f"same_{label}",
                "n": len(change),
                **_measured("", *mean_interval(shares[0])),
                **_measured("part_", *mean_interval(shares[1])),
                **_points(float(change.mean()), *paired_mean(change)),
            }


def _measured(of: str, share: float, low: float, high: float) -> dict[str, float]:
    """Columns of a share and its interval, 0..1, in percent."""
    names = (f"{of}percent", f"{of}low_percent", f"{of}high_percent")
    return {
        name: 100.0 * float(value) for name, value in zip(names, (share, low, high), strict=True)
    }


def _points(difference: float, low: float, high: float) -> dict[str, float]:
    """Columns of a difference and its interval, -1..1, in points."""
    names = ("difference_points", "low_points", "high_points")
    return {
        name: 100.0 * float(value)
        for name, value in zip(names, (difference, low, high), strict=True)
    }
