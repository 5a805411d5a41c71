"""Tables of the page on success: text in cells, intervals and n in small print."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from advrec.reports.page.cells import Table, TextCell, attack_cell, interval, number
from advrec.reports.results import Results
from advrec.reports.tables import success
from advrec.reports.tables.rows import records, span
from advrec.run.directory import LEVELS, meant
from advrec.spec import budgets

MOST_CATEGORIES = 12


def success_table(results: Results, model: str) -> Table:
    """Success on one model: a row an attack and rank, a column a budget."""
    rows = results.success
    known = {
        (r["attack"], r["rank"], r["epsilon"]): r for r in records(rows[rows["model"] == model])
    }
    epsilons = results.study.evaluation.epsilons
    body: list[list[TextCell]] = []
    for attack in results.attacks:
        for rank in results.study.evaluation.ranks:
            cells = [known.get((attack, rank, epsilon)) for epsilon in epsilons]
            count = span([int(cell["n"]) for cell in cells if cell])
            head = attack_cell(results, attack, body)
            body.append(
                [
                    head,
                    TextCell(f"{rank:,}"),
                    TextCell(count),
                    *(_beside_published(cell) for cell in cells),
                ]
            )
    columns = ["Attack", "Rank", "n", *(f"ε = {results.shown(epsilon)}" for epsilon in epsilons)]
    return Table(
        f"{model}: success in percent, with 95\u00a0% interval; n is the number of tuples",
        columns,
        body,
        heads=2,
        source="success",
    )


def delivered_tables(results: Results) -> list[Table]:
    """Success of the image that arrives, a table a model.

    A row is an attack and budget, a column a delivery.
    """
    rows = success.delivered(results)
    deliveries = ["float", *results.deliveries]
    tables = []
    for model, cells in rows.groupby("model", sort=False):
        known = {(row["attack"], row["epsilon"], row["delivery"]): row for row in records(cells)}
        body = [_unchanged(cells, deliveries)]
        for attack, epsilon in dict.fromkeys((attack, epsilon) for attack, epsilon, _ in known):
            arrived = [known.get((attack, epsilon, delivery)) for delivery in deliveries]
            count = span([int(row["n"]) for row in arrived if row])
            head = attack_cell(results, attack, body)
            body.append(
                [
                    head,
                    TextCell(results.shown(epsilon)),
                    TextCell(count),
                    *(_arrived(row) for row in arrived),
                ]
            )
        caption = (
            f"{model}: success at rank {results.rank} in percent, "
            "with 95\u00a0% interval; n is the number of tuples"
        )
        tables.append(
            Table(caption, ["Attack", "ε", "n", *deliveries], body, heads=2, source="delivered")
        )
    return tables


def _unchanged(cells: pd.DataFrame, deliveries: Sequence[str]) -> list[TextCell]:
    """The row of images that nobody attacks: they go the same way."""
    clean = cells.groupby("delivery")["clean_percent"].max()
    known = [clean.get(delivery, math.nan) for delivery in deliveries]
    shown = [interval(None) if math.isnan(each) else TextCell(f"{each:.1f}") for each in known]
    count = span([int(each) for each in cells["n"]])
    return [TextCell("none: the unchanged image"), TextCell("0"), TextCell(count), *shown]


def _arrived(row: Mapping[str, Any] | None) -> TextCell:
    cell = interval(row)
    return cell if row is None or row["seen"] else cell._replace(below=f"{cell.below}; blind")


def delivered_notes(results: Results) -> list[str]:
    """Sentences on what the section of deliveries shows; none without deliveries."""
    if not results.deliveries:
        return []
    evaluation = results.study.evaluation
    attacks = evaluation.attacks
    is_lossy = any(delivery != "png" for delivery in results.deliveries)
    notes = [
        "float is the image as it was computed, as in verdict and checks. Every other column is "
        "after the round trip through what a shop stores. Budgets hold before it: "
        + (
            f"rounding to 8 bits moves a value by up to 1/510{', a codec by more' * is_lossy}."
            if _rounds_beyond(results)
            else "the upload has 8 bits, rounded within the budget."
            + (" A codec moves values further." if is_lossy else "")
        )
    ]
    small = [results.shown(each) for each in budgets.below_one_level(evaluation.epsilons)]
    if small and not _rounds_beyond(results):
        notes.append(
            f"ε = {', '.join(small)} is below one of 255 levels: 8 bits leave the image as it was, "
            "and nothing is attacked for a delivery there."
        )
    if any(attack.made_for for attack in attacks):
        notes.append(
            "For each delivery that it sees, an attack makes an image of its own, by gradients or "
            "queries after that round trip."
        )
    if any(set(results.deliveries) - set(attack.made_for) for attack in attacks):
        notes.append(
            "Blind: the attack did not see that delivery, and its image for float was stored. Such "
            "a success is a lower bound: who knows of the delivery can do better."
        )
    size = results.study.catalog.image_size
    if any(each.startswith("upload") for each in results.deliveries):
        notes.append(
            "After upload-N the image is handed in at N pixels a side, each pixel repeated, and "
            "the shop scales it down. The adversary chooses N: a codec keeps more of a larger one."
        )
    else:
        notes.append(
            f"The upload is taken to have the model's size, {size} x {size} pixels. The adversary "
            "chooses it, and a codec keeps more of a larger one: add a delivery such as "
            f"upload-{8 * size}+jpeg-75."
        )
    return notes


def _rounds_beyond(results: Results) -> bool:
    """True where rows for deliveries are from before 0.3.0, whose rounding may leave the budget."""
    return any(
        recorded.get("delivery") and meant(recorded)["protocol"] < LEVELS
        for part, recorded in results.run.identities().items()
        if part.startswith("attacks/")
    )


def winners_table(results: Results) -> Table | None:
    """Shares of images of an attack that is made of several: a row a winner, a column a budget."""
    rows = records(success.winners(results, restarts_as_one=True))
    if not rows:
        return None
    known = {(row["model"], row["attack"], row["winner"], row["epsilon"]): row for row in rows}
    epsilons = results.study.evaluation.epsilons
    body = []
    for names in dict.fromkeys(key[:3] for key in known):
        cells = [known.get((*names, epsilon)) for epsilon in epsilons]
        count = span([int(cell["n"]) for cell in cells if cell])
        body.append(
            [
                *(TextCell(name) for name in names),
                TextCell(count),
                *(interval(cell) for cell in cells),
            ]
        )
    caption = (
        "Which attack made the image for float: share of images in percent, with 95\u00a0% "
        "interval; n is the number of images at one budget"
    )
    columns = [
        "Model",
        "Attack",
        "Made by",
        "n",
        *(f"ε = {results.shown(epsilon)}" for epsilon in epsilons),
    ]
    return Table(caption, columns, body, heads=3, source="winners")


def worst_case_table(results: Results, made: pd.DataFrame) -> Table:
    """Success of all attacks together: a row a model, a column a budget."""
    known = {(row["model"], row["epsilon"]): row for row in records(made)}
    epsilons = results.study.evaluation.epsilons
    body = []
    for model in results.study.models:
        cells = [known.get((model, epsilon)) for epsilon in epsilons]
        counts = [span([int(cell[key]) for cell in cells if cell]) for key in ("attacks", "n")]
        body.append(
            [
                TextCell(model),
                *(TextCell(count) for count in counts),
                *(interval(cell) for cell in cells),
            ]
        )
    caption = (
        "All attacks together: share of tuples that at least one of them brings to rank "
        f"{results.rank}, in percent"
    )
    columns = [
        "Model",
        "Attacks",
        "n (tuples)",
        *(f"ε = {results.shown(epsilon)}" for epsilon in epsilons),
    ]
    return Table(f"{caption}, with 95\u00a0% interval", columns, body, source="worst_case")


def categories_table(results: Results, made: pd.DataFrame, side: str) -> Table:
    """Success of the strongest attack by category: a row a category, a column a model.

    There are MOST_CATEGORIES at most: those most exposed over all models.
    """
    rows = made[made["side"] == side]
    known = {(row["model"], row["category"]): row for row in records(rows)}
    names = list(
        rows.groupby("category")["low_percent"]
        .sum()
        .sort_values(ascending=False, kind="stable")
        .index[:MOST_CATEGORIES]
    )
    models = list(results.study.models)
    body = [
        [
            TextCell(name),
            TextCell(
                span([int(known[model, name]["n"]) for model in models if (model, name) in known])
            ),
        ]
        + [interval(known.get((model, name))) for model in models]
        for name in names
    ]
    whose = "attacked article" if side == "attack" else "target"
    caption = (
        f"By category of the {whose}: success of the strongest attack on each model "
        f"at rank {results.rank}, ε = {results.shown(results.epsilon)}, in percent, "
        "with 95\u00a0% interval"
    )
    return Table(caption, ["Category", "n (tuples)", *models], body, source="categories")


def against_table(results: Results, made: pd.DataFrame) -> Table:
    """This run and another one on the same tuples: a row a (model, attack, budget)."""
    body = []
    for row in records(made):
        n = int(row["n"])
        interval = f"{row['low_points']:+.1f} to {row['high_points']:+.1f}"
        texts = [
            results.shown(row["epsilon"]),
            f"{n:,}",
            number(row["percent"], n),
            number(row["other_percent"], n),
        ]
        texts += [f"{row['only_here']:,}", f"{row['only_other']:,}"]
        p_values = [
            TextCell(f"{row[key]:.2g}" if row[key] >= 1e-4 else "< 0.0001")
            for key in ("p_value", "clustered_p_value")
        ]
        cells = [
            *(TextCell(text) for text in texts),
            TextCell(f"{row['difference_points']:+.1f}", interval),
            *p_values,
        ]
        body.append([TextCell(row["model"]), attack_cell(results, row["attack"]), *cells])
    columns = [
        "ε",
        "n (tuples)",
        "Here (%)",
        "There (%)",
        "Only here",
        "Only there",
        "Difference (points)",
        "p (McNemar)",
        "p (by target)",
    ]
    caption = (
        f"Success at rank {results.rank} on the tuples that both runs have; "
        "95\u00a0% interval below the difference"
    )
    return Table(caption, ["Model", "Attack", *columns], body, heads=2, source="against")


def defects_table(results: Results, made: pd.DataFrame) -> Table:
    """Successes that are known to be none: a row each, at the headline's rank."""
    body = []
    for row in records(made[made["rank"] == results.rank]):
        n = int(row["n"])
        change = f"{row['clean_distance']:.4f} → {row['adversarial_distance']:.4f}"
        texts = [
            results.shown(row["epsilon"]),
            f"{row['tuple_id']:,}",
            change,
            f"{row['clean_rank']:,} → {row['adversarial_rank']:,}",
        ]
        texts += [f"{n:,}", number(row["percent"], n), number(row["corrected_percent"], n)]
        body.append(
            [
                TextCell(row["model"]),
                attack_cell(results, row["attack"]),
                *(TextCell(text) for text in texts),
            ]
        )
    columns = [
        "Model",
        "Attack",
        "ε",
        "Tuple",
        "Distance",
        "Rank",
        "n",
        "Success (%)",
        "Corrected (%)",
    ]
    caption = f"Successes that are none, and success at rank {results.rank} with and without them"
    return Table(caption, columns, body, heads=2, source="defects")


def _beside_published(row: Mapping[str, Any] | None) -> TextCell:
    cell = interval(row)
    if row is None or pd.isna(row["published_percent"]):
        return cell
    return cell._replace(
        below=f"{cell.below}; published {number(row['published_percent'], int(row['published_n']))}"
    )
