"""Sentences of the verdict about choosing a model, and what a defense without labels changes."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from markupsafe import Markup

from advrec.reports.page.cells import number
from advrec.reports.page.words import Row, name
from advrec.reports.pictures import pareto
from advrec.reports.results import Results
from advrec.reports.tables import changes
from advrec.reports.tables.quantities import quality_of
from advrec.reports.tables.rows import records
from advrec.spec.label_free import EVERY, LabelFree


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
    "no other model has so high an overlap of lists and is as hard to attack.",
    "none of these both has a higher overlap of lists and is harder to attack than another.",
    "each other model neither has a higher overlap of lists nor is harder to attack than one of "
    "these.",
)


def quality(results: Results) -> Quality:
    """The quality that this study chooses by."""
    called, percent = quality_of(results)
    return Quality(called, percent, *(ACCURACY if called == "accuracy" else LISTS))


def choice(
    results: Results,
    best: Mapping[str, Row],
    doubted: Collection[str],
    compared: Callable[[Row, Row], Markup],
) -> list[Markup]:
    """The models that no other one beats in both quality and exposure. Quality is accuracy; where
    a defense without labels is compared, it is the overlap of lists.

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
            left_out.append(Markup("{} (a check of it failed)").format(name(model)))
        elif model not in measure.percent:
            left_out.append(Markup("{} ({} not known)").format(name(model), measure.name))
        elif model not in best:
            left_out.append(Markup("{} (success not known)").format(name(model)))
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
                name(own), name(next_one), change
            )
        )
    if measure.name == "accuracy":
        accuracies = {model: row["quality"] for model, row in candidates.items()}
        sentences += _longer_training(results, accuracies)
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
    ).format(Markup(", ").join(map(name, front)), said)


def changed(results: Results, model: str) -> Markup | None:
    """Changes that a defense without labels makes for the shop; None: they are not known."""
    found = [row for row in records(changes.changes(results)) if row["model"] == model]
    if not found:
        return None
    row = found[0]
    n = int(row["n"])
    return Markup(
        "{}: overlap of lists: <strong>{}\u00a0%</strong> (95\u00a0% interval {} to {}, "
        "n\u00a0=\u00a0{} articles) with those of {}{}. "
        'Drift, and whether the old index serves: see <a href="#changed">the table</a>.'
    ).format(
        name(model),
        *(number(row[key], n) for key in ("overlap_percent", "low_percent", "high_percent")),
        f"{n:,}",
        name(row["original"]),
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
            found.append(Markup(said).format(name(model), counted))
    return found


def _longer_training(results: Results, accuracies: Mapping[str, float]) -> list[Markup]:
    """The sentence about models that are more accurate than the baseline after more training.

    Args:
        accuracies: in percent, by model.
    """
    base = accuracies.get(results.baseline, 100.0)
    longer = [name(model) for model in results.trained_longer if accuracies.get(model, 0.0) > base]
    if not longer:
        return []
    return [
        Markup("{} had more training than {}: that may be what makes {} accurate.").format(
            Markup(", ").join(longer), name(results.baseline), "it" if len(longer) == 1 else "them"
        )
    ]


def _categories(row: Row) -> Markup:
    shares = pd.Series([row["same_category_percent"], row["original_same_category_percent"]])
    if shares.isna().any():
        return Markup("")
    said = "; {:.1f}\u00a0% of each list are of its article's category, against {:.1f}\u00a0%"
    return Markup(said).format(*shares)
