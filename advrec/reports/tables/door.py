"""Models that do something to every image themselves: attacks that pass that, and blind ones."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pandas as pd

from advrec.evaluation.rates import clustered, paired_difference
from advrec.reports.results import Results
from advrec.spec import chains
from advrec.spec.attacks import AttackSpec

COLUMNS = [
    *("model", "ingest", "epsilon", "rank", "attack", "blind_attack", "n"),
    *("percent", "low_percent", "high_percent"),
    *("blind_percent", "blind_low_percent", "blind_high_percent"),
    *("difference_points", "low_points", "high_points"),
]
Row = dict[str, Any]


def guarded(results: Results) -> dict[str, str]:
    """Steps of the ingest by compared model; a model without one is absent."""
    done = {model: chains.ingests(results.whole.models, model) for model in results.study.models}
    return {model: " + ".join(steps) for model, steps in done.items() if steps}


def blindly(results: Results, model: str) -> list[float]:
    """Budgets above 0 at which every attack on a guarded model is blind to what it does; none of a
    model that does nothing.
    """
    if model not in guarded(results):
        return []
    rows = results.outcomes
    rows = rows[(rows["model"] == model) & (rows["epsilon"] > 0)]
    knowing = [spec.name for spec in results.study.evaluation.attacks if _knows(spec)]
    attacked, known = ({*some["epsilon"]} for some in (rows, rows[rows["attack"].isin(knowing)]))
    return sorted(attacked - known)


def warnings(results: Results) -> list[str]:
    """Sentences on models that were attacked only blindly."""
    found = ((model, done, blindly(results, model)) for model, done in guarded(results).items())
    return [
        f"{model} (ingest {done}) was attacked only blindly at ε = "
        f"{', '.join(map(results.shown, epsilons))}: an adversary who knows of the ingest can do "
        "better, and nothing here says how much; add auto."
        for model, done, epsilons in found
        if epsilons
    ]


def _knows(spec: AttackSpec) -> bool:
    return spec.sees_ingest and not spec.sources


@lru_cache(maxsize=1)  # the page asks for it too
def door(results: Results) -> pd.DataFrame:
    """One row a (model, epsilon, rank, attack) of models with an ingest: success of an attack that
    passes it, and of the same method blind to it, on the same tuples.

    The difference is the former's minus the latter's, with its 95 % interval by target
    (`rates.paired_difference`).
    """
    entries = [spec for spec in results.study.evaluation.attacks if not spec.sources]
    pairs = [
        (knowing, blind)
        for knowing in entries
        for blind in entries
        if knowing.attack == blind.attack and _knows(knowing) and not _knows(blind)
    ]
    rows = [
        row
        for model, done in guarded(results).items()
        for knowing, blind in pairs
        for row in _rows(results, model, done, knowing.name, blind.name)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(results: Results, model: str, done: str, knowing: str, blind: str) -> Iterator[Row]:
    rows = results.outcomes
    rows = rows[(rows["model"] == model) & (rows["epsilon"] > 0)]
    own, other = (rows[rows["attack"] == name] for name in (knowing, blind))
    keys = ["epsilon", "tuple_id", "target_id"]
    both = own[[*keys, "adversarial_rank"]].merge(
        other[[*keys, "adversarial_rank"]], on=keys, suffixes=("", "_blind")
    )
    for epsilon, cell in both.groupby("epsilon"):
        for rank in results.study.evaluation.ranks:
            won = [cell[name] <= rank for name in ("adversarial_rank", "adversarial_rank_blind")]
            change = won[0].astype(int) - won[1].astype(int)
            measured = [(each.mean(), *clustered(each, cell["target_id"])[1:]) for each in won]
            points = float(change.mean()), *paired_difference(change, cell["target_id"])
            numbers = [100.0 * float(value) for three in (*measured, points) for value in three]
            said = (model, done, epsilon, rank, knowing, blind, len(cell))
            yield dict(zip(COLUMNS, (*said, *numbers), strict=True))
