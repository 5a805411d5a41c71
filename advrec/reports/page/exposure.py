"""Sentences of the verdict on exposure: of images as computed, and as a shop stores them."""

from collections.abc import Mapping

from markupsafe import Markup

from advrec.evaluation.rates import shares
from advrec.reports.page.words import Row, attack, cell, measured, name
from advrec.reports.results import Results
from advrec.reports.tables import success
from advrec.reports.tables.exposure import worst_case
from advrec.reports.tables.rows import records, undefended
from advrec.spec import budgets


def sentences(results: Results, best: Mapping[str, Row]) -> list[Markup]:
    """The exposure of the baseline, and of every other model without a defense.

    Args:
        best: the strongest attack on each model.
    """
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
        name(model),
        " (no defense)" if defense == "none" else f" (defense {defense})",
        attack(results, best[model]),
        results.rank,
        measured(best[model]),
        results.shown(results.epsilon),
    )
    rows = cell(results, best[model])
    before = shares(rows.assign(won=rows["clean_rank"] <= results.rank), ["model"])
    others = [other for other in undefended(results) if other != model and other in best]
    return [
        sentence + _levels(results) + _budgets(results, best[model]),
        *_all_together(results, best[model]),
        Markup("Without the attack {} of the same articles stand there.").format(
            measured(records(before)[0])
        ),
        *(_other(results, best[other]) for other in others),
    ]


def stored(results: Results, row: Row) -> Markup:
    """The success of images that a shop has stored, where it is higher than a row's of `success`;
    nothing where it is not.
    """
    worse = success.worse_stored(results, row)
    if worse is None:
        return Markup("")
    return Markup(" Stored as {} it is higher: {} succeeds in {}.").format(
        worse["delivery"], attack(results, worse), measured(worse)
    )


def too_small(results: Results, epsilon: float) -> Markup:
    """A budget below one of 255 levels is called so; nothing of others."""
    if not budgets.below_one_level([epsilon]):
        return Markup("")
    return Markup(" {} is {}.").format(results.shown(epsilon), budgets.TOO_SMALL)


def small_budgets(results: Results) -> str:
    """The same of all such budgets of the study, as text; empty without any."""
    small = budgets.below_one_level(results.study.evaluation.epsilons)
    if not small:
        return ""
    shown = ", ".join(results.shown(each) for each in small)
    return f"ε = {shown}: {budgets.TOO_SMALL}."


def _other(results: Results, row: Row) -> Markup:
    """The exposure of another model without a defense."""
    sentence = Markup("On {} the strongest attack, {}, succeeds in {} at budget epsilon {}.")
    shown = results.shown(row["epsilon"])
    return sentence.format(
        name(row["model"]), attack(results, row), measured(row), shown
    ) + _budgets(results, row)


def _levels(results: Results) -> Markup:
    """The headline's budget in grey levels; nothing where it was written so."""
    if results.in_levels:
        return Markup("")
    return Markup(" That is {:.3g} of a pixel's 255 levels at most.").format(255 * results.epsilon)


def _budgets(results: Results, row: Row) -> Markup:
    """Whatever is to be said of the headline's budget, and the success at the smallest one."""
    said = stored(results, row) + too_small(results, row["epsilon"])
    smallest = _smallest_budget(results, row["model"])
    if smallest is None:
        return said
    sentence = Markup(" At budget {} the strongest, {}, succeeds in {}.").format(
        results.shown(smallest["epsilon"]), attack(results, smallest), measured(smallest)
    )
    return said + sentence + stored(results, smallest) + too_small(results, smallest["epsilon"])


def _smallest_budget(results: Results, model: str) -> Row | None:
    """The highest success at the smallest budget; None where the headline's is the smallest."""
    rows = results.success
    smaller = rows[
        (rows["model"] == model)
        & (rows["rank"] == results.rank)
        & (rows["epsilon"] > 0)
        & (rows["epsilon"] < results.epsilon)
    ]
    if smaller.empty:
        return None
    in_order = smaller.sort_values(["epsilon", "percent"], ascending=[False, True], kind="stable")
    return records(in_order)[-1]


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
