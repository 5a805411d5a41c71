"""Tables of the page on checks, cost, budget, catalog and index."""

import pandas as pd

from advrec.catalog.summary import warnings
from advrec.evaluation.verdicts import Check
from advrec.reports.page.cells import Table, TextCell, attack_cell, plain
from advrec.reports.results import Results
from advrec.reports.tables import checks, cost, preparation
from advrec.reports.tables.rows import DASH, records


def checks_table(results: Results) -> Table | None:
    """Checks of the evaluation: a row a check, a column a model."""
    if not results.checks:
        return None
    models = list(dict.fromkeys(model for model, _ in results.checks))
    known = {(model, check.name): check for model, check in results.checks}
    names = dict.fromkeys(check.name for _, check in results.checks)
    body = [
        [TextCell(name), *(_judged(known.get((model, name))) for model in models)] for name in names
    ]
    return Table(
        "Checks: verdict, and what was measured below it", ["Check", *models], body, source="checks"
    )


def _judged(check: Check | None) -> TextCell:
    if check is None:
        return TextCell(DASH)
    measured = check.measured.replace(" %", "\u00a0%").replace("n = ", "n\u00a0=\u00a0")
    return TextCell(
        checks.VERDICT_WORDS[check.verdict], measured, alarming=check.verdict == "failed"
    )


def cost_table(results: Results) -> Table:
    body = []
    for row in records(cost.cost(results)):
        steps, passes = (
            f"{row['gradient_steps_per_row']:.1f}",
            f"{row['forward_passes_per_row']:.1f}",
        )
        known = not pd.isna(row["seconds"])
        seconds, total = (
            (f"{row['seconds_per_row']:.3f}", f"{row['seconds']:,.0f}") if known else (DASH, DASH)
        )
        nested, inherited = "yes" if row["nested"] else "no", f"{row['inherited']:,}"
        seen = row["through"] or DASH
        texts = (row["stop"], nested, seen, f"{row['n']:,}", inherited, steps, passes)
        body.append(
            [
                TextCell(row["model"]),
                attack_cell(results, row["attack"]),
                *(TextCell(text) for text in (*texts, seconds, total)),
            ]
        )
    columns = [
        "Model",
        "Attack",
        "Stop",
        "Nested",
        "Through",
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


def budget_table(results: Results) -> Table:
    body = []
    for (model, attack), cell in cost.budget(results).groupby(["model", "attack"], sort=False):
        excess, overshoot = (
            f"{cell['max_excess'].max():.1e}",
            f"{cell['max_raw_overshoot'].max():.4f}",
        )
        kept = TextCell("yes") if cell["within_budget"].all() else TextCell("NO", alarming=True)
        texts = (f"{cell['n'].sum():,}", excess, overshoot)
        body.append(
            [
                TextCell(str(model)),
                attack_cell(results, str(attack)),
                *(TextCell(text) for text in texts),
                kept,
            ]
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
        [
            TextCell(str(row["step"])),
            TextCell(f"{row['articles']:,}"),
            TextCell(f"{row['removed']:,}"),
        ]
        for row in records(preparation.preparation(results))
    ]
    splits = [
        [
            TextCell(str(row["split"])),
            TextCell(f"{row['articles']:,}"),
            TextCell(f"{row['percent']:.1f} %"),
        ]
        for row in records(preparation.splits(results))
    ]
    tables = [
        Table(
            "Preparation, step by step",
            ["Step", "Articles left", "Removed"],
            steps,
            source="preparation",
        ),
        Table("Splits", ["Split", "Articles", "Share"], splits, source="splits"),
    ]
    return [table for table in tables if table.rows]


def catalog_notes(results: Results) -> list[str]:
    """Sentences on the preparation and use of the catalog."""
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
    if model := results.run.identities().get("tuples", {}).get("lists_of"):
        notes.append(f"Neither article of a tuple stands in the other's list of ten by {model}.")
    notes += [f"{warning[0].upper()}{warning[1:]}." for warning in warnings(preparation)]
    if selected := [
        model
        for model, metrics in results.metrics.items()
        if str(metrics.get("selected_on")) == "test"
    ]:
        models = ", ".join(selected)
        notes.append(
            f"Without a validation split the best epoch of {models} was chosen on the test split: "
            "test accuracy may be too good."
        )
    if ignored := preparation.get("ignored"):
        first, rest = ", ".join(ignored[:3]), ", ..." if len(ignored) > 3 else ""
        notes.append(f"{len(ignored):,} entries of the source were ignored: {first}{rest}.")
    return notes


def recall_table(results: Results) -> Table:
    """Without an interval: the ten neighbours of a query are not independent, a binomial one would
    be too narrow.
    """
    columns = {
        "recall_at_10": "Recall at 10",
        "queries": "n (queries)",
        "recall_at_10_without_copies": "Recall without copies",
        "queries_without_copies": "n without copies",
        "copies": "Copies",
        "build_s": "Build (s)",
        "m": "M",
        "ef_construction": "efConstruction",
        "ef_search": "efSearch",
    }
    made = cost.index_recall(results)
    if made["copies"].isna().all():
        columns = {key: name for key, name in columns.items() if "copies" not in key}
    rows = records(made)
    body = [
        [TextCell(str(row["model"])), *(TextCell(plain(row[column])) for column in columns)]
        for row in rows
    ]
    names = ["Model", *columns.values()]
    return Table(
        "Index (HNSW): share of the exact ten nearest neighbours that it finds",
        names,
        body,
        source="index_recall",
    )
