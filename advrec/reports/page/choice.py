"""Sentences of the verdict about choosing a model, and what a defense without labels changes."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup

from advrec.reports.page.cells import number
from advrec.reports.page.comparison import longer_training
from advrec.reports.pictures import pareto
from advrec.reports.results import Results
from advrec.reports.tables import changes
from advrec.reports.tables.quantities import quality_of
from advrec.reports.tables.rows import records
from advrec.spec.label_free import EVERY, LabelFree

Row = dict[str, Any]


class Quality(NamedTuple):
    """The measure of quality that models are chosen by."""

    name: str
    percent: Mapping[str, Sequence[float]]
    """Value, low and high by model."""
    alone: str
    """Said of a front of one model."""
    every: str
    """Said of a front that has every model."""
    some: str
    """Said of any other front."""


ACCURACY = (
    "no other model is as accurate and as hard to attack.",
    "none of these is both more accurate and harder to attack than another.",
    "each other model is neither more accurate nor harder to attack than one of these.",
)
LISTS = (
    "no other model keeps as much of the lists and is as hard to attack.",
    "none of these both keeps more of the lists and is harder to attack than another.",
    "each other model neither keeps more of the lists nor is harder to attack than one of these.",
)


def quality(results: Results) -> Quality:
    """The quality that this study chooses by."""
    name, percent = quality_of(results)
    return Quality(name, percent, *(ACCURACY if name == "accuracy" else LISTS))


def choice(
    results: Results,
    best: Mapping[str, Row],
    doubted: Collection[str],
    compared: Callable[[Row, Row], Markup],
) -> list[Markup]:
    """The models that no other one beats in both quality and exposure. Quality is accuracy; where
    a defense without labels is compared, it is the share of lists of ten that is kept.

    Models of which a check failed, or of which either is not known, are left out and named. Empty
    where there is nothing to choose from.

    Args:
        best: the strongest attack on each model.
        doubted: models of which a check failed.
        compared: the difference in success of two rows of `best`, in words.
    """
    measure = quality(results)
    candidates: dict[str, dict[str, float]] = {}
    left_out = []
    for model in results.study.models:
        if model in doubted:
            left_out.append(Markup("{} (a check of it failed)").format(_name(model)))
        elif model not in measure.percent:
            left_out.append(Markup("{} ({} not known)").format(_name(model), measure.name))
        elif model not in best:
            left_out.append(Markup("{} (success not known)").format(_name(model)))
        else:
            candidates[model] = {
                "quality": measure.percent[model][0],
                "success": best[model]["percent"],
            }
    if len(candidates) < 2:
        return []
    sentences = [_front(candidates, measure)]
    hardest = sorted(
        (model for model in candidates if model != results.baseline),
        key=lambda model: candidates[model]["success"],
    )[:2]
    if len(hardest) == 2:
        own, next_one = hardest
        change = compared(best[own], best[next_one])
        sentences.append(
            Markup("In success, {} against {}, the two hardest to attack{}").format(
                _name(own), _name(next_one), change
            )
        )
    if measure.name == "accuracy":
        sentences += longer_training(
            results, {model: {"accuracy": row["quality"]} for model, row in candidates.items()}
        )
    if left_out:
        sentences.append(Markup("Left out: {}.").format(Markup(", ").join(left_out)))
    return sentences


def _front(candidates: dict[str, dict[str, float]], measure: Quality) -> Markup:
    """The Pareto front of the models' quality and success, in words."""
    models = pd.DataFrame.from_dict(candidates, orient="index")
    front = models.index[pareto.front(models, {"quality": "max", "success": "min"})]
    said = measure.some
    if len(front) in (1, len(candidates)):
        said = measure.alone if len(front) == 1 else measure.every
    return Markup(
        "{}: by the measured values {} Differences smaller than their intervals may be chance."
    ).format(Markup(", ").join(map(_name, front)), said)


def changed(results: Results, model: str) -> Markup | None:
    """Changes that a defense without labels makes for the shop; None: they are not known."""
    found = [row for row in records(changes.changes(results)) if row["model"] == model]
    if not found:
        return None
    row = found[0]
    n = int(row["n"])
    return Markup(
        "{}: <strong>{}\u00a0%</strong> (95\u00a0% interval {} to {}, n\u00a0=\u00a0{} articles) "
        "of the lists of ten are those of {}{}. "
        'Drift, and whether the old index serves: see <a href="#changed">the table</a>.'
    ).format(
        _name(model),
        *(number(row[key], n) for key in ("overlap_percent", "low_percent", "high_percent")),
        f"{n:,}",
        _name(row["original"]),
        _categories(row),
    )


def seen(results: Results) -> list[Markup]:
    """A sentence on each model that was trained on images of the test split."""
    found = []
    for model, spec in results.study.models.items():
        count = results.metrics.get(model, {}).get("test_images_seen")
        everything = isinstance(spec, LabelFree) and spec.images == EVERY
        if count or (everything and count is None):  # of an earlier version
            counted = "" if count is None else f"{int(count):,}\u00a0"
            said = (
                "{}: its training saw {}images of the test split. On these, success, lists and "
                "drift may look better than on new uploads."
            )
            found.append(Markup(said).format(_name(model), counted))
    return found


def _categories(row: Row) -> Markup:
    shares = pd.Series([row["same_category_percent"], row["original_same_category_percent"]])
    if shares.isna().any():
        return Markup("")
    said = "; {:.1f}\u00a0% of their articles are of the same category, against {:.1f}\u00a0%"
    return Markup(said).format(*shares)


def _name(name: object) -> Markup:
    return Markup("<b>{}</b>").format(name)
