"""Results -> the tables of the page: text in cells, intervals and n in small print."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from advrec.catalog.summary import warnings
from advrec.evaluation.checks import Check
from advrec.reports.page.cells import Cell, Table, interval, measured, number, plain
from advrec.reports.results import Results
from advrec.reports.tables import tables, trust
from advrec.reports.tables.tables import DASH, span
from advrec.run.progress import duration
from advrec.spec import accuracy
from advrec.spec.models import LABELS

SHORT = {
    "clean_accuracy": "Clean accuracy",
    "adversarial_accuracy": f"Accuracy under {accuracy.PUBLISHED}",
    "strong_adversarial_accuracy": f"Under {accuracy.CONVERGED}",
    "top5_accuracy": "Top-5 accuracy",
    "adversarial_top5_accuracy": f"Top-5 under {accuracy.PUBLISHED}",
    "texture_top1_precision": "Texture precision",
    "adversarial_texture_top1_precision": f"Texture under {accuracy.PUBLISHED}",
    "unattacked": "No attack",
    "same_category": "Same category",
    "same_texture": "Same texture",
    "overlap": "Overlap",
}
MOST_CATEGORIES = 12


def quality_table(results: Results) -> Table:
    """Recommendation quality, a row a model."""
    caption = (
        "Quality of each model on the test split, clean and under attack at epsilon "
        f"{accuracy.EPSILON:g}, and the time that its training took"
    )
    made = _comparison(
        results,
        [name for name in tables.QUALITY if _is_known(results, name)],
        caption,
        "articles",
        deltas=True,
    )
    seconds = [results.training_seconds.get(model) for model in results.study.models]
    rows = [
        [*row, Cell(DASH if value is None else duration(value))]
        for row, value in zip(made.rows, seconds, strict=True)
    ]
    return made._replace(columns=[*made.columns, "Training"], rows=rows, source="classifiers")


def exposure_table(results: Results) -> Table:
    """Success of every attack, a row a model."""
    caption = f"Success at rank {results.rank}, budget epsilon {results.epsilon:g}"
    return _comparison(results, ["unattacked", *results.attacks], caption, "tuples")


def recommendations_table(results: Results) -> Table:
    """What the ten nearest articles have in common with each, a row a model."""
    caption = "The ten articles recommended beside each, without an attack: mean share that is of its category, has one of its textures, or"
    made = _comparison(
        results,
        list(tables.LIST_QUALITY),
        f"{caption} {results.baseline} recommends too",
        "articles",
    )
    return made._replace(source="recommendations")


def _is_known(results: Results, quantity: str) -> bool:
    return quantity == "clean_accuracy" or any(
        metrics.get(quantity) is not None for metrics in results.metrics.values()
    )


def _comparison(
    results: Results, names: Sequence[str], caption: str, unit: str, *, deltas: bool = False
) -> Table:
    """`deltas`: also the difference from the model without a defense."""
    known = {
        (row["model"], row["quantity"]): row for row in tables.records(tables.quantities(results))
    }
    base = {name: known.get((results.baseline, name)) for name in names} if deltas else {}
    alone = {results.baseline, *results.trained_longer}
    body = [
        [
            Cell(
                model,
                f"defense: {LABELS[spec.defense]}{'' if spec.trained_here else '; not trained here'}",
            ),
            *(
                measured(
                    known.get((model, name)),
                    None if model in alone else base.get(name),
                )
                for name in names
            ),
        ]
        for model, spec in results.study.models.items()
    ]
    than = (
        f", and the difference from {results.baseline}{_but_not_of(results.trained_longer)},"
        if deltas and len(results.study.models) > 1
        else ""
    )
    return Table(
        f"{caption}; 95\u00a0% interval and n ({unit}){than} below each number",
        ["Model", *(SHORT.get(name) or _titled(results, name) for name in names)],
        body,
        source="defense_comparison",
    )


def _but_not_of(trained_longer: Sequence[str]) -> str:
    return f" (not of {', '.join(trained_longer)}, trained longer)" if trained_longer else ""


def _titled(results: Results, attack: str) -> str:
    source = tables.made_on(results, attack)
    return f"{attack} ({source})" if source else attack


def success_table(results: Results, model: str) -> Table:
    """Success on one model: a row an attack and rank, a column a budget."""
    rows = tables.success(results)
    known = {
        (r["attack"], r["rank"], r["epsilon"]): r
        for r in tables.records(rows[rows["model"] == model])
    }
    epsilons = results.study.evaluation.epsilons
    body: list[list[Cell]] = []
    for attack in results.attacks:
        for rank in results.study.evaluation.ranks:
            cells = [known.get((attack, rank, epsilon)) for epsilon in epsilons]
            count = span([int(cell["n"]) for cell in cells if cell])
            head = _attack(results, attack, body)
            body.append(
                [head, Cell(f"{rank:,}"), Cell(count), *(_beside_published(cell) for cell in cells)]
            )
    columns = ["Attack", "Rank", "n", *(f"ε = {epsilon:g}" for epsilon in epsilons)]
    return Table(
        f"{model}: success in percent, with 95\u00a0% interval; n is the number of tuples",
        columns,
        body,
        heads=2,
        source="success",
    )


def delivered_tables(results: Results) -> list[Table]:
    """Success of the image that arrives, a table a model: a row an attack and budget, a column a
    delivery.
    """
    rows = tables.delivered(results)
    deliveries = ["float", *results.deliveries]
    made = []
    for model, cells in rows.groupby("model", sort=False):
        known = {
            (row["attack"], row["epsilon"], row["delivery"]): row for row in tables.records(cells)
        }
        body: list[list[Cell]] = []
        for attack, epsilon in dict.fromkeys((attack, epsilon) for attack, epsilon, _ in known):
            found = [known.get((attack, epsilon, delivery)) for delivery in deliveries]
            count = span([int(row["n"]) for row in found if row])
            head = _attack(results, attack, body)
            body.append(
                [head, Cell(f"{epsilon:g}"), Cell(count), *(interval(row) for row in found)]
            )
        caption = f"{model}: success at rank {results.rank} in percent, with 95\u00a0% interval; n is the number of tuples"
        made.append(
            Table(caption, ["Attack", "ε", "n", *deliveries], body, heads=2, source="delivered")
        )
    return made


def winners_table(results: Results) -> Table | None:
    """Who made the images of an attack that is made of several: a row a winner, a column a budget."""
    rows = tables.records(tables.winners(results, restarts_as_one=True))
    if not rows:
        return None
    known = {(row["model"], row["attack"], row["winner"], row["epsilon"]): row for row in rows}
    epsilons = results.study.evaluation.epsilons
    body = []
    for names in dict.fromkeys(key[:3] for key in known):
        cells = [known.get((*names, epsilon)) for epsilon in epsilons]
        count = span([int(cell["n"]) for cell in cells if cell])
        body.append(
            [*(Cell(name) for name in names), Cell(count), *(interval(cell) for cell in cells)]
        )
    caption = "Which attack made the image: share of images in percent, with 95\u00a0% interval; n is the number of images at one budget"
    columns = ["Model", "Attack", "Made by", "n", *(f"ε = {epsilon:g}" for epsilon in epsilons)]
    return Table(caption, columns, body, heads=3, source="winners")


def checks_table(results: Results) -> Table | None:
    """What the evaluation found when it examined itself: a row a check, a column a model."""
    if not results.checks:
        return None
    models = list(results.study.models)
    known = {(model, check.name): check for model, check in results.checks}
    names = dict.fromkeys(check.name for _, check in results.checks)
    body = [
        [Cell(name), *(_judged(known.get((model, name))) for model in models)] for name in names
    ]
    return Table(
        "Checks: verdict, and what was measured below it", ["Check", *models], body, source="checks"
    )


def _judged(check: Check | None) -> Cell:
    if check is None:
        return Cell(DASH)
    measured = check.measured.replace(" %", "\u00a0%").replace("n = ", "n\u00a0=\u00a0")
    return Cell(trust.SHOWN[check.verdict], measured, alarming=check.verdict == "failed")


def cost_table(results: Results) -> Table:
    body = []
    for row in tables.records(tables.cost(results)):
        steps, passes = (
            f"{row['gradient_steps_per_row']:.1f}",
            f"{row['forward_passes_per_row']:.1f}",
        )
        known = not pd.isna(row["seconds"])
        seconds, total = (
            (f"{row['seconds_per_row']:.3f}", f"{row['seconds']:,.0f}") if known else (DASH, DASH)
        )
        nested, inherited = "yes" if row["nested"] else "no", f"{row['inherited']:,}"
        texts = (row["stop"], nested, f"{row['n']:,}", inherited, steps, passes, seconds, total)
        body.append(
            [Cell(row["model"]), _attack(results, row["attack"]), *(Cell(text) for text in texts)]
        )
    columns = [
        "Model",
        "Attack",
        "Stop",
        "Nested",
        "n",
        "Inherited",
        "Gradient steps",
        "Forward passes",
        "Seconds",
        "Seconds in all",
    ]
    return Table(
        "Mean cost of a row (one tuple at one budget); n is the number of rows",
        columns,
        body,
        heads=2,
        source="cost",
    )


def _attack(results: Results, name: str, above: Sequence[Sequence[Cell]] = ()) -> Cell:
    """An attack with what its name does not say of it, unless the row above has said so."""
    spec = results.attack(name)
    parts = [spec.attack] if spec.attack != spec.name else []
    parts += [f"{spec.restarts} restart{'s' if spec.restarts > 1 else ''}"] if spec.restarts else []
    parts += [tables.made_on(results, name)] if spec.source else []
    return Cell(name, "" if above and above[-1][0].text == name else ", ".join(parts))


def budget_table(results: Results) -> Table:
    body = []
    for (model, attack), cell in tables.budget(results).groupby(["model", "attack"], sort=False):
        excess, overshoot = (
            f"{cell['max_excess'].max():.1e}",
            f"{cell['max_raw_overshoot'].max():.4f}",
        )
        kept = Cell("yes") if cell["within_budget"].all() else Cell("NO", alarming=True)
        texts = (f"{cell['n'].sum():,}", excess, overshoot)
        body.append(
            [Cell(str(model)), _attack(results, str(attack)), *(Cell(text) for text in texts), kept]
        )
    columns = [
        "Model",
        "Attack",
        "n",
        "Largest l∞ - ε",
        "Largest overshoot before projection",
        "Kept",
    ]
    return Table(
        "Is the budget kept? Worst of all rows and budgets, in pixels of [0, 1]",
        columns,
        body,
        heads=2,
        source="budget",
    )


def catalog_tables(results: Results) -> list[Table]:
    steps = [
        [Cell(str(row["step"])), Cell(f"{row['articles']:,}"), Cell(f"{row['removed']:,}")]
        for row in tables.records(tables.preparation(results))
    ]
    splits = [
        [Cell(str(row["split"])), Cell(f"{row['articles']:,}"), Cell(f"{row['percent']:.1f} %")]
        for row in tables.records(tables.splits(results))
    ]
    made = [
        Table(
            "Preparation, step by step",
            ["Step", "Articles left", "Removed"],
            steps,
            source="preparation",
        ),
        Table("Splits", ["Split", "Articles", "Share"], splits, source="splits"),
    ]
    return [table for table in made if table.rows]


def catalog_notes(results: Results) -> list[str]:
    """What a reader must know of how the catalog was prepared and used."""
    preparation = results.preparation
    notes = []
    if "square" in preparation:
        size = preparation["image_size"]
        kept = preparation["duplicates"]
        duplicates = (
            "duplicates are kept"
            if kept == "keep"
            else f"of images with perceptual hashes within {kept} bits the first stays"
        )
        notes.append(
            f"Images are squares of {size} pixels ({preparation['square']}); {duplicates}."
        )
    notes += [f"{warning[0].upper()}{warning[1:]}." for warning in warnings(preparation)]
    if selected := [
        model
        for model, metrics in results.metrics.items()
        if str(metrics.get("selected_on")) == "test"
    ]:
        models = ", ".join(selected)
        notes.append(
            f"Without a validation split the best epoch of {models} was chosen on the test split: test accuracy may be too good."
        )
    if ignored := preparation.get("ignored"):
        notes.append(
            f"{len(ignored):,} entries of the source were ignored: {', '.join(ignored[:3])}{', ...' if len(ignored) > 3 else ''}."
        )
    return notes


def recall_table(results: Results) -> Table:
    """Without an interval: the ten neighbours of a query are not independent, a binomial one would
    be too narrow.
    """
    columns = ["recall_at_10", "queries", "build_s", "m", "ef_construction", "ef_search"]
    rows = tables.records(tables.index_recall(results))
    body = [
        [Cell(str(row["model"])), *(Cell(plain(row[column])) for column in columns)] for row in rows
    ]
    names = ["Model", "Recall at 10", "n (queries)", "Build (s)", "M", "efConstruction", "efSearch"]
    return Table(
        "Index (HNSW): share of the exact ten nearest neighbours that it finds",
        names,
        body,
        source="index_recall",
    )


def worst_case_table(results: Results, made: pd.DataFrame) -> Table:
    """Success of all attacks together: a row a model, a column a budget."""
    known = {(row["model"], row["epsilon"]): row for row in tables.records(made)}
    epsilons = results.study.evaluation.epsilons
    body = []
    for model in results.study.models:
        cells = [known.get((model, epsilon)) for epsilon in epsilons]
        counts = [span([int(cell[key]) for cell in cells if cell]) for key in ("attacks", "n")]
        body.append(
            [Cell(model), *(Cell(count) for count in counts), *(interval(cell) for cell in cells)]
        )
    caption = f"All attacks together: share of tuples that at least one of them brings to rank {results.rank}, in percent"
    columns = ["Model", "Attacks", "n (tuples)", *(f"ε = {epsilon:g}" for epsilon in epsilons)]
    return Table(f"{caption}, with 95\u00a0% interval", columns, body, source="worst_case")


def categories_table(results: Results, made: pd.DataFrame, side: str) -> Table:
    """Success of the strongest attack by category: a row a category, a column a model; of
    MOST_CATEGORIES, those most exposed over all models.
    """
    rows = made[made["side"] == side]
    known = {(row["model"], row["category"]): row for row in tables.records(rows)}
    names = list(
        rows.groupby("category")["low_percent"]
        .sum()
        .sort_values(ascending=False, kind="stable")
        .index[:MOST_CATEGORIES]
    )
    models = list(results.study.models)
    body = [
        [
            Cell(name),
            Cell(
                span([int(known[model, name]["n"]) for model in models if (model, name) in known])
            ),
        ]
        + [interval(known.get((model, name))) for model in models]
        for name in names
    ]
    whose = "attacked article" if side == "attack" else "target"
    caption = f"By category of the {whose}: success of the strongest attack on each model at rank {results.rank}"
    caption = f"{caption}, ε = {results.epsilon:g}, in percent, with 95\u00a0% interval"
    return Table(caption, ["Category", "n (tuples)", *models], body, source="categories")


def against_table(results: Results, made: pd.DataFrame) -> Table:
    """This run and another one on the same tuples: a row a (model, attack, budget)."""
    body = []
    for row in tables.records(made):
        n = int(row["n"])
        interval = f"{row['low_points']:+.1f} to {row['high_points']:+.1f}"
        texts = [
            f"{row['epsilon']:g}",
            f"{n:,}",
            number(row["percent"], n),
            number(row["other_percent"], n),
        ]
        texts += [f"{row['only_here']:,}", f"{row['only_other']:,}"]
        p_values = [
            Cell(f"{row[key]:.2g}" if row[key] >= 1e-4 else "< 0.0001")
            for key in ("p_value", "clustered_p_value")
        ]
        cells = [
            *(Cell(text) for text in texts),
            Cell(f"{row['difference_points']:+.1f}", interval),
            *p_values,
        ]
        body.append([Cell(row["model"]), _attack(results, row["attack"]), *cells])
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
    caption = f"Success at rank {results.rank} on the tuples that both runs have; 95\u00a0% interval below the difference"
    return Table(caption, ["Model", "Attack", *columns], body, heads=2, source="against")


def defects_table(results: Results, made: pd.DataFrame) -> Table:
    """Successes that are known to be none: a row each, at the headline's rank."""
    body = []
    for row in tables.records(made[made["rank"] == results.rank]):
        n = int(row["n"])
        change = f"{row['clean_distance']:.4f} → {row['adversarial_distance']:.4f}"
        texts = [
            f"{row['epsilon']:g}",
            f"{row['tuple_id']:,}",
            change,
            f"{row['clean_rank']:,} → {row['adversarial_rank']:,}",
        ]
        texts += [f"{n:,}", number(row["percent"], n), number(row["corrected_percent"], n)]
        body.append(
            [Cell(row["model"]), _attack(results, row["attack"]), *(Cell(text) for text in texts)]
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


def _beside_published(row: Mapping[str, Any] | None) -> Cell:
    cell = interval(row)
    if row is None or pd.isna(row["published_percent"]):
        return cell
    return cell._replace(
        below=f"{cell.below}; published {number(row['published_percent'], int(row['published_n']))}"
    )
