"""What the page says first: how exposed the recommender is, what each defense saves and what it costs."""

from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup

from advrec.reports import pareto, trust
from advrec.reports.page_cells import number
from advrec.reports.results import Results
from advrec.reports.tables import made_on, quantities, records, strongest

Row = dict[str, Any]

CAVEAT = Markup(
    "A stronger attack may exist, so every success rate is a lower bound of what an adversary can do. "
    "As the highest of several estimates, the success of the strongest attack leans upwards a little."
)


class Point(NamedTuple):
    """A heading and its sentences, as safe HTML."""

    heading: str
    sentences: list[Markup]


def verdict(results: Results) -> list[Point]:
    """The sentences of the verdict; what is not known is said to be not known."""
    best = strongest(results)
    others = [model for model in results.study.models if model != results.baseline]
    points = [Point("Exposure", [*_exposure(results, best), CAVEAT])]
    if others:
        points.append(Point("What each defense saves", [_saving(results, model, best) for model in others]))
        points.append(Point("What it costs in recommendation quality", [_price(results, model) for model in others]))
    if choice := _choice(results, best):
        points.append(Point("Which models to choose from", choice))
    return points


def measured(row: Row, unit: str = "tuples") -> Markup:
    """A percentage with its interval and n, from a row of `quantities` or of `success`."""
    n = int(row["n"])
    return Markup("<strong>{}\u00a0%</strong> (95\u00a0% interval {} to {}, n\u00a0=\u00a0{}\u00a0{})").format(
        number(row["percent"], n), number(row["low_percent"], n), number(row["high_percent"], n), f"{n:,}", unit
    )


def _exposure(results: Results, best: dict[str, Row]) -> list[Markup]:
    model = results.baseline
    if model not in best:
        return [
            Markup("Not known yet: no attack on {} at budget epsilon {:g} is done.").format(
                model, results.epsilon
            )
        ]
    defense = results.study.models[model].defense
    sentence = Markup(
        "On {}{}, the strongest attack of this study, {}, brings the attack article to rank {} or better in the "
        "neighbour list of its target in {} at budget epsilon {:g}."
    ).format(
        _name(model), " (no defense)" if defense == "none" else f" (defense {defense})", _attack(results, best[model]),
        results.rank, measured(best[model]), results.epsilon,
    ) + _already(results, model)  # fmt: skip
    before = _quantity(results, model, "unattacked")
    if before is None:
        return [sentence]
    return [sentence, Markup("Without the attack {} of the same articles stand there.").format(measured(before))]


def _already(results: Results, model: str) -> Markup:
    """What the smallest budget does, and what a budget is in grey levels."""
    rows = results.success[(results.success["model"] == model) & (results.success["rank"] == results.rank)]
    smallest = rows[rows["epsilon"] == rows["epsilon"].min()].sort_values("percent", kind="stable")
    levels = Markup(" No value of a pixel moves by more than {:.0f} of its 255 levels.").format(255 * results.epsilon)
    if not len(smallest) or smallest["epsilon"].iloc[-1] == results.epsilon:
        return levels
    row = records(smallest)[-1]
    return levels + Markup(" At {:g} it is {} already.").format(row["epsilon"], measured(row))


def _saving(results: Results, model: str, best: dict[str, Row]) -> Markup:
    if model not in best:
        return Markup("{}: not known yet, no attack on it at budget epsilon {:g} is done.").format(
            _name(model), results.epsilon
        )
    own = best[model]
    sentence = Markup("{}: the strongest attack on it, {}, succeeds in {}").format(
        _name(model), _attack(results, own), measured(own)
    )
    if results.baseline not in best:
        return sentence + "."
    base = best[results.baseline]
    against = Markup("{}, against {} on {}").format(sentence, measured(base), _name(results.baseline))
    if own["high_percent"] < base["low_percent"]:
        return against + Markup(": {:.1f} points less.").format(base["percent"] - own["percent"])
    if own["low_percent"] > base["high_percent"]:
        return against + ": it is more exposed."
    return against + ": the intervals overlap, so this study does not show a saving."


def _price(results: Results, model: str) -> Markup:
    own = _quantity(results, model, "clean_accuracy")
    base = _quantity(results, results.baseline, "clean_accuracy")
    if own is None:
        return Markup("{}: not known, its accuracy was not measured.").format(_name(model))
    sentence = Markup("{}: clean accuracy {}").format(_name(model), measured(own, "articles"))
    if base is None:
        return sentence + "."
    against = Markup("{}, against {} for {}").format(sentence, measured(base, "articles"), _name(results.baseline))
    if own["high_percent"] < base["low_percent"]:
        return against + "." + _lists(results, model)
    if own["low_percent"] > base["high_percent"]:
        return against + ": no cost in accuracy, a gain." + _lists(results, model)
    return against + ": the intervals overlap, so this study does not show a difference." + _lists(results, model)


def _lists(results: Results, model: str) -> Markup:
    """What changes of the recommendations themselves."""
    own, base, kept = (
        _quantity(results, model, "same_category"),
        _quantity(results, results.baseline, "same_category"),
        _quantity(results, model, "overlap"),
    )
    if own is None or base is None or kept is None:
        return Markup("")
    return Markup(" Of the ten articles beside each, {} are of its category, against {}; {} of them are those of {}.").format(
        measured(own, "articles"), measured(base, "articles"), measured(kept, "articles"), _name(results.baseline)
    )


def _choice(results: Results, best: dict[str, Row]) -> list[Markup]:
    """The models that no other one beats in both accuracy and exposure, of those whose checks did not fail; none where there is nothing to
    choose from."""
    doubted = {model for model, _ in trust.failed(results)}
    accuracy = {model: _quantity(results, model, "clean_accuracy") for model in best}
    known = {model: row["percent"] for model, row in accuracy.items() if row and model not in doubted}
    if len(known) < 2:
        return []
    models = pd.DataFrame({"accuracy": known, "success": {model: best[model]["percent"] for model in known}})
    front = list(models.index[pareto.front(models, {"accuracy": "max", "success": "min"})])
    if len(front) == 1:
        said = [Markup("{}: no other is more accurate, and none is harder to attack.").format(_name(front[0]))]
    else:
        rest = "" if len(front) == len(models) else " Every other model is no better than one of these in either, and worse in one."
        said = [Markup("{}: each more accurate, or harder to attack, than any of the others.{}").format(_listed(front), rest)]
    if left_out := [model for model in best if model in doubted]:
        said.append(Markup("Left out, because a check of it failed: {}.").format(_listed(left_out)))
    return said


def _listed(models: list[str]) -> Markup:
    return Markup(", ").join(map(_name, models))


def _quantity(results: Results, model: str, quantity: str) -> Row | None:
    rows = quantities(results)
    found = records(rows[(rows["model"] == model) & (rows["quantity"] == quantity)])
    return found[0] if found else None


def _attack(results: Results, row: Row) -> Markup:
    source = made_on(results, row["attack"])
    return _name(row["attack"]) + (f" ({source})" if source else "")


def _name(name: object) -> Markup:
    return Markup("<b>{}</b>").format(name)
