"""Sentences on the smallest budgets that minimal-K found."""

from markupsafe import Markup

from advrec.reports.page.exposure import too_small
from advrec.reports.results import Results
from advrec.reports.tables import minimal


def median_budgets(results: Results) -> list[Markup]:
    """The budget at which half of all tuples fall, of each model that minimal-K attacked."""
    largest = results.study.evaluation.epsilons[-1]
    return [
        Markup(
            "<b>{}</b>: half of all tuples reach rank {} at budget epsilon {} ({}, and every other "
            "attack at the budgets of the study).{}"
        ).format(
            median.model,
            median.rank,
            _budget(results, median.epsilon, largest),
            median.attack,
            too_small(results, median.epsilon),
        )
        for median in minimal.medians(results)
    ]


def _budget(results: Results, epsilon: float, largest: float) -> str:
    """A budget in pixels and in grey levels; above the largest one nothing more is known."""
    known = epsilon <= largest
    shown, sign = (epsilon, "") if known else (largest, "> ")
    levels = f"{sign}{255 * shown:.2g}/255"
    return levels if results.in_levels else f"{sign}{shown:.2g}, {levels}"
