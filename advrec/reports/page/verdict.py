"""Sentences that the page begins with: exposure, what each defense saves and changes, choice."""

from functools import partial
from typing import NamedTuple

from markupsafe import Markup

from advrec.evaluation.rates import difference, paired_difference
from advrec.reports.page import choice, exposure, promotions
from advrec.reports.page.minimal import median_budgets
from advrec.reports.page.words import Row, attack, cell, measured, name
from advrec.reports.results import Results
from advrec.reports.tables import checks, door
from advrec.reports.tables.quantities import quantities
from advrec.reports.tables.rows import records, undefended
from advrec.reports.tables.success import strongest
from advrec.run.progress import duration
from advrec.spec import chains

CAVEAT = Markup(
    "A stronger attack may exist, so every success rate is a lower bound of what an adversary "
    "can do. As the highest of several estimates, the success of the strongest attack leans "
    "upwards a little."
)
NO_ORIGINAL = Markup(" Its parts began with different models, so it is held against none.")


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
        exposed = [*exposure.sentences(results, best), *median_budgets(results), CAVEAT]
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


def _saving(results: Results, model: str, best: dict[str, Row]) -> Markup:
    if model not in best:
        return Markup("{}: not known yet, no attack on it at budget epsilon {} is done.").format(
            name(model), results.shown(results.epsilon)
        )
    own = best[model]
    if results.epsilon in door.blindly(results, model):
        return Markup(
            "{}: attacked only blindly at budget epsilon {}, so nothing says what its ingest "
            "saves; add auto."
        ).format(name(model), results.shown(results.epsilon))
    doubt = " (a check of it failed: see below)" if model in _doubted(results) else ""
    sentence = Markup("{}{}: the strongest attack on it, {}, succeeds in {}").format(
        name(model), doubt, attack(results, own), measured(own)
    )
    stored = exposure.stored(results, own)
    first = results.base(model)
    if first is None:
        return sentence + "." + stored + NO_ORIGINAL
    if first not in best:
        return sentence + "." + stored
    base = best[first]
    against = Markup("{}, against {} on {}").format(sentence, measured(base), name(first))
    change = _on_the_same_tuples(results, own, base)
    return against + change + _budgets_of_savings(results, model, first) + stored


def _budgets_of_savings(results: Results, model: str, base: str) -> Markup:
    """The study's budgets at which a defense saves more than what may be chance; nothing where
    there is one budget alone.
    """
    saved: list[str] = []
    vain: list[str] = []
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
    both = cell(results, own).merge(cell(results, base), on="tuple_id", suffixes=("", "_base"))
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
        unknown = Markup("{}: not known, its accuracy was not measured.").format(name(model))
        return choice.changed(results, model) or _joined(results, model) or unknown
    sentence = Markup("{}: clean accuracy {}").format(name(model), measured(own, "articles"))
    if base is None:
        return sentence + "."
    if model in results.trained_longer:
        return Markup("{}, against {} for {}.{}{}").format(
            sentence,
            measured(base, "articles"),
            name(results.baseline),
            _lists(results, model) + _training(results, model),
            _more_training(results, model),
        )
    sides = [(row["percent"], row["low_percent"], row["high_percent"]) for row in (own, base)]
    change = _change(own["percent"] - base["percent"], *difference(*sides))
    return Markup("{}, against {} for {}{}{}").format(
        sentence,
        measured(base, "articles"),
        name(results.baseline),
        change,
        _lists(results, model) + _training(results, model),
    )


def _joined(results: Results, model: str) -> Markup | None:
    """The lists of a joined model with a part that was defended without labels; None of others."""
    if not chains.has_label_free(results.whole.models, model):
        return None
    kept, first = _quantity(results, model, "overlap"), results.base(model)
    if first is None:
        return Markup("{}: not known.{}").format(name(model), NO_ORIGINAL)
    if kept is None:
        return None
    said = Markup("{}: overlap of lists: {} with those of {}.")
    return said.format(name(model), measured(kept, "articles"), name(first))


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
    start = Markup(" after those of {}").format(name(spec.init)) if spec.init != "none" else ""
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
        name(results.baseline),
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
        alike = Markup(" Of the ten articles beside each, {} are of its category, against {}.")
        alike = alike.format(measured(own, "articles"), measured(base, "articles"))
    said = Markup(" Overlap of lists: {} with those of {}.")
    return alike + said.format(measured(kept, "articles"), name(results.baseline))


def _doubted(results: Results) -> set[str]:
    """Models of which a check failed, or that were attacked only blindly."""
    blind = [model for model in door.guarded(results) if door.blindly(results, model)]
    return {*blind, *(model for model, _ in checks.failed(results))}


def _quantity(results: Results, model: str, quantity: str) -> Row | None:
    rows = quantities(results)
    found = records(rows[(rows["model"] == model) & (rows["quantity"] == quantity)])
    return found[0] if found else None
