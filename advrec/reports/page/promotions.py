"""The section of the page on audiences: who sees a promoted article, before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from advrec.reports.page.cells import Table, TextCell, attack_cell
from advrec.reports.results import Results
from advrec.reports.tables import promotions, reached, utility
from advrec.reports.tables.promotions import ALL
from advrec.reports.tables.rows import DASH, records
from advrec.spec.audiences import USERS
from advrec.spec.base import FLOAT

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Promotions:
    """Exposure before audiences."""

    exposure: Sequence[Table]
    """A table a model."""
    differences: Table | None
    kinds: Table | None
    groups: Table | None
    utility: Table | None
    budgets: Table | None
    cost: Table


def section(results: Results) -> Promotions | None:
    """The section; None where nothing was promoted."""
    if promotions.exposure(results).empty:
        return None
    return Promotions(
        exposure=_exposure(results),
        differences=_differences(results),
        kinds=_kinds(results),
        groups=_groups(results),
        utility=_beside_utility(results),
        budgets=_budgets(results),
        cost=_cost(results),
    )


def sentences(results: Results) -> list[Markup]:
    """The verdict: by the strongest attack on each model, and by smallest budgets."""
    rank = results.study.evaluation.aim
    said = [
        Markup(
            "<b>{}</b>: one picture by the attack <b>{}</b> at budget epsilon {} puts an article "
            "among the first {} of {} of {}. Before the attack it is {}."
        ).format(
            row["model"],
            row["attack"],
            results.shown(row["epsilon"]),
            rank,
            _strong(row, "hr_after"),
            _queries(row),
            _strong(row, "hr_before"),
        )
        for row in promotions.strongest(results).values()
    ]
    said += [
        Markup(
            "<b>{}</b>: at budget epsilon {} the attack <b>{}</b> pushes an article down. Before "
            "it, the article is among the first {} of {} of {}; after it, of {}."
        ).format(
            row["model"],
            results.shown(row["epsilon"]),
            row["attack"],
            rank,
            _strong(row, "hr_before"),
            _queries(row),
            _strong(row, "hr_after"),
        )
        for row in promotions.strongest(results, "demote").values()
    ]
    return said + [_median_budget(results, row) for row in _smallest(results)]


def _queries(row: Row) -> str:
    return "the users" if row["audience"] == USERS else "the targets (by weight)"


def _strong(row: Row, name: str) -> Markup:
    """A mean in percent, with its interval and n."""
    value, low, high = _percents(row, name)
    known = f"n\u00a0=\u00a0{row['n']:,} article{'s' * (row['n'] > 1)}"
    known = known if np.isnan(low) else f"95\u00a0% interval {low:.1f} to {high:.1f}, {known}"
    return Markup("<strong>{:.1f}\u00a0%</strong> ({})").format(value, known)


def _percents(row: Row, name: str) -> tuple[float, float, float]:
    return 100.0 * row[name], 100.0 * row[f"{name}_low"], 100.0 * row[f"{name}_high"]


def _cell(row: Row | None, name: str) -> TextCell:
    """A mean in percent and its interval."""
    if row is None:
        return TextCell(DASH)
    value, low, high = _percents(row, name)
    return TextCell(f"{value:.1f} %", "" if np.isnan(low) else f"{low:.1f} to {high:.1f}")


def _points(row: Row, name: str) -> TextCell:
    value, low, high = _percents(row, name)
    return TextCell(f"{value:+.1f}", "" if np.isnan(low) else f"{low:+.1f} to {high:+.1f}")


def _exposure(results: Results) -> list[Table]:
    """A table a model: a row an attack and rank, columns before and at each budget."""
    table = promotions.exposure(results)
    table = table[(table["articles"] == ALL) & (table["delivery"] == FLOAT)]
    epsilons = results.study.evaluation.epsilons
    found = []
    for (model, audience), own in table.groupby(["model", "audience"], sort=False):
        body: list[list[TextCell]] = []
        for (attack, rank), rows in own.groupby(["attack", "rank"], sort=False):
            known = {row["epsilon"]: row for row in records(rows)}
            first, last = next(iter(known.values())), list(known.values())[-1]
            medians = f"{first['median_rank_before']:,g} → {last['median_rank_after']:,g}"
            body.append(
                [
                    attack_cell(results, str(attack), body),
                    TextCell(f"{rank:,}"),
                    TextCell(f"{first['n']:,}"),
                    _cell(first, "hr_before"),
                    *(_cell(known.get(epsilon), "hr_after") for epsilon in epsilons),
                    TextCell(f"{100 * last['ndcg_before']:.1f} → {100 * last['ndcg_after']:.1f}"),
                    TextCell(medians),
                    TextCell(f"{100 * last['raised']:.0f} %"),
                ]
            )
        at = f"ε = {results.shown(last['epsilon'])}"
        columns = ["Attack", "K", "n", "HR@K before"]
        columns += [f"ε = {results.shown(epsilon)}" for epsilon in epsilons]
        columns += [f"NDCG@K (%), {at}", f"Median rank, {at}", f"Articles raised, {at}"]
        caption = (
            f"{model} before {audience}: HR@K, the share that has the article among its first K"
        )
        found.append(Table(caption, columns, body, heads=2, source="promotions"))
    return found


def _differences(results: Results) -> Table | None:
    table = promotions.differences(results)
    rank = results.study.evaluation.aim
    rows = records(table[(table["rank"] == rank) & (table["delivery"] == FLOAT)])
    body = [
        [
            TextCell(row["model"], f"before {row['audience']}"),
            TextCell(f"{row['attack']} - {row['other']}"),
            TextCell(results.shown(row["epsilon"])),
            TextCell(f"{row['n']:,}"),
            _points(row, "hr_difference"),
            _points(row, "ndcg_difference"),
        ]
        for row in rows
    ]
    caption = "One attack minus another, in points, on the same articles"
    columns = ["Model", "Attacks", "ε", "n", f"HR@{rank}", f"NDCG@{rank}"]
    source = "promotion_differences"
    return Table(caption, columns, body, heads=2, source=source) if body else None


def against_table(results: Results, made: pd.DataFrame) -> Table | None:
    """This run and another one on the same articles; None where they share none."""
    body = [
        [
            TextCell(row["model"], f"before {row['audience']}"),
            attack_cell(results, row["attack"]),
            TextCell(results.shown(row["epsilon"])),
            TextCell(row["delivery"]),
            TextCell(f"{row['n']:,}"),
            TextCell(f"{100.0 * row['hr_after']:.1f}"),
            TextCell(f"{100.0 * row['other_hr_after']:.1f}"),
            _points(row, "hr_difference"),
        ]
        for row in records(made)
    ]
    columns = ["Model", "Attack", "ε", "Delivery", "n (articles)"]
    columns += ["Here (%)", "There (%)", "Difference (points)"]
    rank = results.study.evaluation.aim
    caption = f"HR@{rank} after the attack, on the articles that both runs attacked"
    source = "promotions_against"
    return Table(caption, columns, body, heads=2, source=source) if body else None


def _kinds(results: Results) -> Table | None:
    """Cold, tail and head articles, by the strongest attack on each model."""
    table = promotions.exposure(results)
    rank, body = results.study.evaluation.aim, []
    for model, best in promotions.strongest(results).items():
        own = table[(table["model"] == model) & (table["articles"] != ALL)]
        for name in ("attack", "epsilon", "rank", "delivery"):
            own = own[own[name] == best[name]]
        body += [
            [
                TextCell(model, f"{best['attack']}, ε = {results.shown(best['epsilon'])}"),
                TextCell(row["articles"]),
                TextCell(f"{row['n']:,}"),
                *(_cell(row, name) for name in ("hr_before", "hr_after")),
                _points(row, "hr_change"),
            ]
            for row in records(own)
        ]
    caption = f"Which articles rise: HR@{rank} of cold, tail and head articles"
    columns = ["Model", "Articles", "n", "Before", "After", "Change (points)"]
    return Table(caption, columns, body, heads=2, source="promotions") if body else None


def _groups(results: Results) -> Table | None:
    """Taste groups, by the strongest attack on each model."""
    table, body = reached.groups(results), []
    for model, best in promotions.strongest(results).items():
        own = table[table["model"] == model]
        for name in ("attack", "epsilon", "rank"):
            own = own[own[name] == best[name]]
        body += [
            [
                TextCell(model, f"{best['attack']}, ε = {results.shown(best['epsilon'])}"),
                TextCell(f"{row['group']:g}"),
                TextCell(f"{row['users']:,}"),
                TextCell(f"{row['n']:,}"),
                *(_cell(row, name) for name in ("hr_before", "hr_after")),
                _points(row, "hr_change"),
            ]
            for row in records(own)
        ]
    rank = results.study.evaluation.aim
    caption = f"Who is reached: HR@{rank} by the users' taste group"
    columns = ["Model", "Group", "Users", "Articles", "Before", "After", "Change (points)"]
    return Table(caption, columns, body, heads=2, source=reached.NAME) if body else None


def _beside_utility(results: Results) -> Table | None:
    """Utility of a hybrid for its users beside what an adversary gets out of it."""
    worth = {name: rows for name, articles, rows in utility.compared(results) if articles == "all"}
    rank, body = results.study.evaluation.aim, []
    for model, best in promotions.strongest(results).items():
        if model in worth:
            known = (worth[model][quantity]["value"] for quantity in utility.SHOWN)
            body.append(
                [
                    TextCell(model),
                    *(TextCell(f"{value:.3f}") for value in known),
                    *(_cell(best, name) for name in ("hr_before", "hr_after")),
                    TextCell(best["attack"], f"ε = {results.shown(best['epsilon'])}"),
                ]
            )
    caption = "Utility beside exposure: held-out purchases of users, and attacked articles"
    columns = ["Model", *utility.SHOWN.values(), f"Exposure HR@{rank} before", "After", "Attack"]
    return Table(caption, columns, body, source="utility") if body else None


def _smallest(results: Results) -> list[Row]:
    """The share to be reached and the articles' smallest budgets, by model and attack."""
    groups = promotions.budgets(results).groupby(
        ["model", "attack", "share"], observed=True, sort=False
    )
    return [
        {
            "model": model,
            "attack": attack,
            "share": share,
            "n": len(own),
            "found": int(np.isfinite(own["epsilon_high"]).sum()),
            "quartiles": np.quantile(own["epsilon_high"], (0.25, 0.5, 0.75), method="higher"),
        }
        for (model, attack, share), own in groups
    ]


def _median_budget(results: Results, row: Row) -> Markup:
    return Markup(
        "<b>{}</b>: half of {:,} articles reach {:g}\u00a0% of the audience at budget epsilon "
        "{} ({})."
    ).format(
        row["model"],
        row["n"],
        100.0 * row["share"],
        _budget(results, row["quartiles"][1]),
        row["attack"],
    )


def _budgets(results: Results) -> Table | None:
    body = [
        [
            TextCell(row["model"]),
            TextCell(row["attack"], f"{100 * row['share']:g} % of the audience"),
            TextCell(f"{row['n']:,}"),
            TextCell(f"{row['found']:,}"),
            *(TextCell(_budget(results, each)) for each in row["quartiles"]),
        ]
        for row in _smallest(results)
    ]
    caption = "Smallest budgets that reach the share of the audience: quartiles over articles"
    columns = ["Model", "Attack", "n", "Found", "A quarter within", "Half within", "Three quarters"]
    source = "promotion_budgets"
    return Table(caption, columns, body, heads=2, source=source) if body else None


def _cost(results: Results) -> Table:
    body = []
    for row in records(promotions.spent(results)):
        spent = [f"{row[f'{name}_per_article']:,.1f}" for name in promotions.SPENT]
        nested = "yes" if row["nested"] else "no"
        texts = (nested, row["through"] or DASH, f"{row['n']:,}", f"{row['budgets']}", *spent)
        body.append(
            [
                TextCell(row["model"], f"before {row['audience']}"),
                attack_cell(results, row["attack"]),
                *(TextCell(text) for text in (*texts, f"{row['seconds']:,.0f}")),
            ]
        )
    columns = ["Model", "Attack", "Nested", "Through", "n", "Budgets", "Gradient steps"]
    columns += ["Forward passes", "Seconds", "Seconds in all"]
    caption = "Mean cost of a promoted article, all its budgets together"
    return Table(caption, columns, body, heads=2, source="promotion_cost")


def _budget(results: Results, epsilon: float) -> str:
    largest = results.study.evaluation.epsilons[-1]
    if epsilon > largest:
        return f"> {results.shown(largest)}"
    return f"{255 * epsilon:.2g}/255" if results.in_levels else f"{epsilon:.2g}"
