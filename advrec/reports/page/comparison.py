"""Tables of the page that compare defenses: a row a model, text in cells, intervals below."""

from collections.abc import Sequence

import pandas as pd

from advrec.reports.page.cells import Table, TextCell, measured, number
from advrec.reports.results import Results
from advrec.reports.tables import changes, quantities
from advrec.reports.tables.rows import DASH, has_defenses, made_on, records
from advrec.run.progress import duration
from advrec.spec import accuracy
from advrec.spec.chains import joined
from advrec.spec.models import LABELS

SHORT = {
    "clean_accuracy": "Clean accuracy",
    "adversarial_accuracy": f"Accuracy under {accuracy.PUBLISHED}",
    "robust_accuracy": f"Under {accuracy.ROBUST}",
    "strong_adversarial_accuracy": f"Under {accuracy.CONVERGED}",
    "top5_accuracy": "Top-5 accuracy",
    "adversarial_top5_accuracy": f"Top-5 under {accuracy.PUBLISHED}",
    "texture_top1_precision": "Texture precision",
    "adversarial_texture_top1_precision": f"Texture under {accuracy.PUBLISHED}",
    "unattacked": "No attack",
    "same_category": "Same category",
    "same_texture": "Same texture",
    "overlap": "Overlap of lists",
}


def quality_table(results: Results) -> Table:
    """Recommendation quality, where any is known, and the time of training, a row a model."""
    known = [name for name in quantities.QUALITY if _is_known(results, name)]
    caption = (
        "Quality of each model on the test split, clean and under attack at epsilon "
        f"{accuracy.EPSILON:g}, and the time that its training took"
    )
    table = _comparison(results, known, caption, "articles", deltas=True)
    if not known:
        table = table._replace(caption="Time that the training of each model took")
    seconds = [results.training_seconds.get(model) for model in results.study.models]
    rows = [
        [*row, TextCell(DASH if value is None else duration(value))]
        for row, value in zip(table.rows, seconds, strict=True)
    ]
    return table._replace(columns=[*table.columns, "Training"], rows=rows, source="classifiers")


def exposure_table(results: Results) -> Table:
    """Success of every attack, a row a model."""
    caption = f"Success at rank {results.rank}, budget epsilon {results.shown(results.epsilon)}"
    return _comparison(results, ["unattacked", *results.attacks], caption, "tuples")


def recommendations_table(results: Results) -> Table:
    """Common ground of each article and its ten nearest, a row a model."""
    words = {
        "same_category": "is of its category",
        "same_texture": "has one of its textures",
        "overlap": f"{results.baseline} recommends too{_or_originals(results)} (overlap of lists)",
    }
    known = set(results.recommendations["quantity"])
    shown = [name for name in quantities.LIST_QUALITY if name in known]
    caption = (
        "The ten articles recommended beside each, without an attack: mean share that "
        + " or ".join(words[name] for name in shown)
    )
    table = _comparison(
        results,
        shown,
        caption,
        "articles",
    )
    return table._replace(source="recommendations")


def changes_table(results: Results) -> Table | None:
    """Costs of defenses without labels, a row a model; None where there is none."""
    rows = records(changes.changes(results))
    if not rows:
        return None
    shares = ("same_category_percent", "original_same_category_percent")
    labelled = any(pd.notna(row[share]) for row in rows for share in shares)
    body = []
    for row in rows:
        n = int(row["n"])
        low, high = number(row["low_percent"], n), number(row["high_percent"], n)
        cells = [
            TextCell(row["model"], f"against {row['original']}"),
            TextCell(
                f"{number(row['overlap_percent'], n)} %", f"{low} to {high}; n = {n:,} articles"
            ),
        ]
        if labelled:
            own, first = (DASH if pd.isna(row[each]) else f"{row[each]:.1f} %" for each in shares)
            cells.append(TextCell(own, f"original: {first}"))
        drift, most = (f"{100 * row[key]:.1f} %" for key in ("drift_median", "drift_95"))
        cells.append(TextCell(drift, f"of 95 % of the articles at most {most}"))
        for query in ("new_query", "old_query"):
            rank = f"median rank {row[f'{query}_rank_median']:g}"
            cells.append(TextCell(f"{row[f'{query}_found_percent']:.1f} %", rank))
        body.append(cells)
    columns = ["Model", SHORT["overlap"], *["Same category"] * labelled, "Drift, median"]
    return Table(
        "What each defense without labels changes. Overlap of lists: mean share of a list's ten "
        "articles that the original's list has too. Drift: the way of clean embeddings, in percent "
        "of their length. Last columns: the share of the original's lists that ranks among the "
        "first ten",
        [*columns, "Old index, new queries", "New index, old queries"],
        body,
        source="changes",
    )


def _is_known(results: Results, quantity: str) -> bool:
    return any(metrics.get(quantity) is not None for metrics in results.metrics.values())


def _comparison(
    results: Results, names: Sequence[str], caption: str, unit: str, *, deltas: bool = False
) -> Table:
    """`deltas`: also the difference from the model without a defense."""
    rows = {(row["model"], row["quantity"]): row for row in records(quantities.quantities(results))}
    alone = {results.baseline, *results.trained_longer} if deltas else set(results.study.models)
    body, defended = [], has_defenses(results)
    for model, spec in results.study.models.items():
        notes = [f"defense: {LABELS[spec.defense]}"] if defended else []
        if joined(spec):
            notes.append(f"{' and '.join(joined(spec))}, joined")
        elif not spec.trained_here:
            notes.append("not trained here")
        cells = [
            measured(
                rows.get((model, name)),
                None if model in alone else rows.get((results.baseline, name)),
            )
            for name in names
        ]
        body.append([TextCell(model, "; ".join(notes)), *cells])
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


def _or_originals(results: Results) -> str:
    """The words for originals of defenses without labels, where one is not the baseline."""
    bases = {results.base(model) for model in results.study.models} - {None, results.baseline}
    return ", or the original of a defense without labels" if bases else ""


def _but_not_of(trained_longer: Sequence[str]) -> str:
    return f" (not of {', '.join(trained_longer)}, trained longer)" if trained_longer else ""


def _titled(results: Results, attack: str) -> str:
    source = made_on(results, attack)
    return f"{attack} ({source})" if source else attack
