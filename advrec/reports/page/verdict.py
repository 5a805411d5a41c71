"""Sentences that the page begins with: exposure, what each defense saves and changes, choice."""

from functools import partial
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup

from advrec.evaluation.rates import difference, paired_difference, shares
from advrec.reports.page import choice, promotions
from advrec.reports.page.cells import number
from advrec.reports.page.minimal import median_budgets
from advrec.reports.results import Results
from advrec.reports.tables import checks
from advrec.reports.tables.exposure import worst_case
from advrec.reports.tables.quantities import quantities
from advrec.reports.tables.rows import made_on, records, undefended
from advrec.reports.tables.success import strongest
from advrec.run.progress import duration

Row = dict[str, Any]

CAVEAT = Markup(
    "A stronger attack may exist, so every success rate is a lower bound of what an adversary "
    "can do. As the highest of several estimates, the success of the strongest attack leans "
    "upwards a little."
)


class Point(NamedTuple):
    """A heading and its sentences, as safe HTML."""

    heading: str
    sentences: list[Markup]


def verdict(results: Results) -> list[Point]:
    """The sentences of the verdict; what is not known is said to be not known."""
    best = strongest(results)
    alone = {results.baseline, *undefended(results)}
    others = [model for model in results.study.models if model not in alone]
    points = []
    if results.attacks:
        exposed = [*_exposure(results, best), *median_budgets(results), CAVEAT]
        points.append(Point("Exposure", exposed))
    if promoted := promotions.sentences(results):
        caveat = [] if results.attacks else [CAVEAT]
        points.append(Point("Exposure before audiences", promoted + caveat))
    if others:
        if results.attacks:
            saved = [_saving(results, model, best) for model in others]
            points.append(Point("What each defense saves", saved))
        points.append(
            Point(
                "What it changes in recommendation quality",
                [*(_quality(results, model) for model in others), *choice.seen(results)],
            )
        )
    doubted = _doubted(results)
    if chosen := choice.choice(results, best, doubted, partial(_on_the_same_tuples, results)):
        points.append(Point("Which models to choose from", chosen))
    return points


def measured(row: Row, unit: str = "tuples") -> Markup:
    """A percentage with its interval and n, from a row of `quantities` or of `success`."""
    n = int(row["n"])
    return Markup(
        "<strong>{}\u00a0%</strong> (95\u00a0% interval {} to {}, n\u00a0=\u00a0{}\u00a0{})"
    ).format(
        number(row["percent"], n),
        number(row["low_percent"], n),
        number(row["high_percent"], n),
        f"{n:,}",
        unit,
    )


def _exposure(results: Results, best: dict[str, Row]) -> list[Markup]:
    model = results.baseline
    if model not in best:
        return [
            Markup("Not known yet: no attack on {} at budget epsilon {} is done.").format(
                model, results.shown(results.epsilon)
            )
        ]
    defense = results.study.models[model].defense
    sentence = Markup(
        "On {}{}, the strongest attack of this study, {}, brings the attack article to rank {} or "
        "better in the neighbour list of its target in {} at budget epsilon {}."
    ).format(
        _name(model),
        " (no defense)" if defense == "none" else f" (defense {defense})",
        _attack(results, best[model]),
        results.rank,
        measured(best[model]),
        results.shown(results.epsilon),
    )
    rows = _cell(results, best[model])
    before = shares(rows.assign(won=rows["clean_rank"] <= results.rank), ["model"])
    return [
        sentence + _levels(results) + _smallest_budget(results, model),
        *_all_together(results, best[model]),
        Markup("Without the attack {} of the same articles stand there.").format(
            measured(records(before)[0])
        ),
    ]


def _levels(results: Results) -> Markup:
    """The headline's budget in grey levels; nothing where it was written so."""
    if results.in_levels:
        return Markup("")
    return Markup(" That is {:.3g} of a pixel's 255 levels at most.").format(255 * results.epsilon)


def _smallest_budget(results: Results, model: str) -> Markup:
    """The success at the smallest budget; nothing where the headline's is the smallest."""
    rows = results.success
    smaller = rows[
        (rows["model"] == model)
        & (rows["rank"] == results.rank)
        & (rows["epsilon"] > 0)
        & (rows["epsilon"] < results.epsilon)
    ]
    if smaller.empty:
        return Markup("")
    in_order = smaller.sort_values(["epsilon", "percent"], ascending=[False, True], kind="stable")
    row = records(in_order)[-1]
    return Markup(" At budget {} the strongest, {}, succeeds in {}.").format(
        results.shown(row["epsilon"]), _attack(results, row), measured(row)
    )


def _all_together(results: Results, strongest_row: Row) -> list[Markup]:
    """Success of a seller who tries every attack and keeps what works.

    Empty where that is no more than the strongest attack alone has.
    """
    rows = worst_case(results)
    together = records(
        rows[(rows["model"] == strongest_row["model"]) & (rows["epsilon"] == results.epsilon)]
    )
    if not together or together[0]["percent"] <= strongest_row["percent"]:
        return []
    return [
        Markup("At least one of the {} attacks succeeds in {}.").format(
            together[0]["attacks"], measured(together[0])
        )
    ]


def _saving(results: Results, model: str, best: dict[str, Row]) -> Markup:
    if model not in best:
        return Markup("{}: not known yet, no attack on it at budget epsilon {} is done.").format(
            _name(model), results.shown(results.epsilon)
        )
    own = best[model]
    doubt = " (a check of it failed: see below)" if model in _doubted(results) else ""
    sentence = Markup("{}{}: the strongest attack on it, {}, succeeds in {}").format(
        _name(model), doubt, _attack(results, own), measured(own)
    )
    if results.base(model) not in best:
        return sentence + "."
    base = best[results.base(model)]
    against = Markup("{}, against {} on {}").format(sentence, measured(base), _name(base["model"]))
    change = _on_the_same_tuples(results, own, base)
    return against + change + _budgets_of_savings(results, model)


def _budgets_of_savings(results: Results, model: str) -> Markup:
    """The study's budgets at which a defense saves more than what may be chance; nothing where
    there is one budget alone.
    """
    saved: list[str] = []
    vain: list[str] = []
    base = results.base(model)
    for epsilon in filter(None, results.study.evaluation.epsilons):
        best = strongest(results, epsilon)
        if model not in best or base not in best:
            continue
        found = _difference(results, best[model], best[base])
        if found is not None:
            shown = results.shown(epsilon)
            less = f"{-found.points:.1f} points at {shown}"
            (saved if found.high < 0 else vain).append(less if found.high < 0 else shown)
    if len(saved) + len(vain) < 2:
        return Markup("")
    if not saved:
        sentence = " At none of the study's budgets ({}) does it save more than may be chance."
        return Markup(sentence).format(", ".join(vain))
    besides = f"; no more than may be chance at {', '.join(vain)}" if vain else ""
    return Markup(" It saves {}{}.").format(", ".join(saved), besides)


class _Difference(NamedTuple):
    """A difference in success, in points, with its interval, on n tuples."""

    points: float
    low: float
    high: float
    n: int


def _on_the_same_tuples(results: Results, own: Row, base: Row) -> Markup:
    """The difference of two rows of `success`, by the tuples that both have."""
    found = _difference(results, own, base)
    if found is None:
        return Markup(", on other tuples.")
    where = "" if found.n == own["n"] == base["n"] else f" on the {found.n:,} tuples of both"
    return _change(found.points, found.low, found.high, where)


def _difference(results: Results, own: Row, base: Row) -> _Difference | None:
    """The same as numbers; None: they have no tuple in common."""
    both = _cell(results, own).merge(_cell(results, base), on="tuple_id", suffixes=("", "_base"))
    if both.empty:
        return None
    differences = (both["adversarial_rank"] <= results.rank).astype(int) - (
        both["adversarial_rank_base"] <= results.rank
    ).astype(int)
    low, high = (100.0 * bound for bound in paired_difference(differences, both["target_id"]))
    return _Difference(100.0 * float(differences.mean()), low, high, len(both))


def _quality(results: Results, model: str) -> Markup:
    own = _quantity(results, model, "clean_accuracy")
    base = _quantity(results, results.baseline, "clean_accuracy")
    if own is None:
        unknown = Markup("{}: not known, its accuracy was not measured.").format(_name(model))
        return choice.changed(results, model) or unknown
    sentence = Markup("{}: clean accuracy {}").format(_name(model), measured(own, "articles"))
    if base is None:
        return sentence + "."
    if model in results.trained_longer:
        return Markup("{}, against {} for {}.{}{}").format(
            sentence,
            measured(base, "articles"),
            _name(results.baseline),
            _lists(results, model) + _training(results, model),
            _more_training(results, model),
        )
    sides = [(row["percent"], row["low_percent"], row["high_percent"]) for row in (own, base)]
    change = _change(own["percent"] - base["percent"], *difference(*sides))
    return Markup("{}, against {} for {}{}{}").format(
        sentence,
        measured(base, "articles"),
        _name(results.baseline),
        change,
        _lists(results, model) + _training(results, model),
    )


def _change(points: float, low: float, high: float, where: str = "") -> Markup:
    """A difference in points with its interval, in words."""
    interval = "95\u00a0% interval {:.1f} to {:.1f}"
    if high < 0:
        return Markup(f": {{:.1f}} points less{where} ({interval}).").format(-points, -high, -low)
    if low > 0:
        return Markup(f": {{:.1f}} points more{where} ({interval}).").format(points, low, high)
    by_chance = (
        f": {{:+.1f}} points{where} (95\u00a0% interval {{:+.1f}} to {{:+.1f}}), "
        "which may be chance."
    )
    return Markup(by_chance).format(points, low, high)


def _training(results: Results, model: str) -> Markup:
    """The model's epochs and start; nothing where it was not trained here."""
    spec = results.study.models[model]
    if model not in results.history or not spec.trained_here:
        return Markup("")
    start = Markup(" after those of {}").format(_name(spec.init)) if spec.init != "none" else ""
    epochs = len(results.history[model])
    return Markup(" Its training took {} {}{}, {}.").format(
        epochs,
        "epoch" if epochs == 1 else "epochs",
        start,
        duration(results.training_seconds[model]),
    )


def _more_training(results: Results, model: str) -> Markup:
    """The reason why a model's quality says little of its defense."""
    return Markup(
        " With them it had {:,} optimizer steps, {} only {:,}: the difference may come from longer"
        " training, not from the defense."
    ).format(
        results.optimizer_steps[model],
        _name(results.baseline),
        results.optimizer_steps[results.baseline],
    )


def _lists(results: Results, model: str) -> Markup:
    """Changes of the recommendations themselves."""
    own, base, kept = (
        _quantity(results, model, "same_category"),
        _quantity(results, results.baseline, "same_category"),
        _quantity(results, model, "overlap"),
    )
    if kept is None:
        return Markup("")
    alike = Markup("")
    if own is not None and base is not None:
        alike = Markup("{} are of its category, against {}; ").format(
            measured(own, "articles"), measured(base, "articles")
        )
    return Markup(" Of the ten articles beside each, {}{} of them are those of {}.").format(
        alike, measured(kept, "articles"), _name(results.baseline)
    )


def _doubted(results: Results) -> set[str]:
    """Models of which a check failed."""
    return {model for model, _ in checks.failed(results)}


def _cell(results: Results, row: Row) -> pd.DataFrame:
    """The outcomes behind a row of `success`."""
    rows = results.outcomes
    chosen = (
        (rows["model"] == row["model"])
        & (rows["attack"] == row["attack"])
        & (rows["epsilon"] == row["epsilon"])
    )
    outcomes: pd.DataFrame = rows.loc[chosen]
    return outcomes


def _quantity(results: Results, model: str, quantity: str) -> Row | None:
    rows = quantities(results)
    found = records(rows[(rows["model"] == model) & (rows["quantity"] == quantity)])
    return found[0] if found else None


def _attack(results: Results, row: Row) -> Markup:
    source = made_on(results, row["attack"])
    return _name(row["attack"]) + (f" ({source})" if source else "")


def _name(name: object) -> Markup:
    return Markup("<b>{}</b>").format(name)
