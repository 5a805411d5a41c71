"""The comparison of defenses for a terminal."""

from collections.abc import Sequence
from typing import Any

from advrec.reports.results import Results
from advrec.reports.tables import (
    category_attacks,
    changes,
    checks,
    equal,
    minimal,
    promotions,
    promotions_against,
    quantities,
    utility,
)
from advrec.reports.tables.against import Comparison
from advrec.reports.tables.rows import DASH, has_defenses, is_lone, made_on, records, span
from advrec.reports.tables.success import strongest, worse_stored
from advrec.spec import accuracy, budgets

PGD = f"{accuracy.PUBLISHED}, {accuracy.EPSILON:g}"
LABELS = {
    "clean_accuracy": "clean accuracy",
    "adversarial_accuracy": f"accuracy under {PGD}",
    "robust_accuracy": f"under {accuracy.ROBUST}, {accuracy.EPSILON:g}",
    "strong_adversarial_accuracy": f"under {accuracy.CONVERGED}, {accuracy.EPSILON:g}",
    "top5_accuracy": "top-5 accuracy",
    "adversarial_top5_accuracy": f"top-5 under {PGD}",
    "texture_top1_precision": "texture precision",
    "adversarial_texture_top1_precision": f"texture under {PGD}",
    "same_category": "top 10 of its category",
    "same_texture": "top 10 with its texture",
    "overlap": "overlap of lists",
    "unattacked": "success without attack",
}
"""Names of the quantities of `defense_comparison`; every other quantity is an attack's name."""
CHANGES = {
    "drift, median, % of length": "{drift_percent:.1f} (of 95 % at most {most_percent:.1f})",
    "old index finds": "{new_query_found_percent:.1f} (median rank {new_query_rank_median:g})",
    "new index finds": "{old_query_found_percent:.1f} (median rank {old_query_rank_median:g})",
}
"""Lines on what a defense without labels changes, in percent: their texts. What an index finds is
searched for by queries of the other model.
"""
DIFFERENCES = 10
"""Differences of two runs that are told at most."""


def comparison_text(results: Results, compared: Comparison | None = None) -> str:
    """The defense comparison as plain text for a terminal.

    Quantities stand down, models across, three in a block. Then come what the checks say, and the
    cells in which another run differs.
    """
    models = list(results.study.models)
    rows = {(row["model"], row["quantity"]): row for row in records(quantities.quantities(results))}
    success = (
        f"success at rank {results.rank}, budget epsilon {results.shown(results.epsilon)}; "
        if results.attacks
        else ""
    )
    title = f"{results.study.name}: {success}percent with 95 % interval"
    blocks = [
        _text_block(results, models[start : start + 3], rows) for start in range(0, len(models), 3)
    ]
    origins = {name: made_on(results, name) for name in results.attacks}
    notes = (
        [f"{name}: {origin}" for name, origin in origins.items() if origin],
        [*_stored(results), *_too_small(results)],
        minimal.text(results),
        utility.text(results),
        promotions.text(results),
        category_attacks.text(results),
        checks.text(results),
        [line] if (line := equal.sentence(results)) else [],
        _differences(results, compared) if compared else [],
        _missing(results),
    )
    return "\n\n".join([title, *blocks, *("\n".join(lines) for lines in notes if lines)]) + "\n"


def _stored(results: Results) -> list[str]:
    """A line a model and budget where images that a shop has stored succeed more than others."""
    lines = []
    for epsilon in results.study.evaluation.epsilons:
        for model, row in strongest(results, epsilon).items():
            worse = worse_stored(results, row)
            if worse is not None:
                lines.append(
                    f"{model} at {results.shown(epsilon)}: {row['percent']:.1f} as computed, "
                    f"{worse['percent']:.1f} stored as {worse['delivery']} ({worse['attack']})"
                )
    return lines


def _too_small(results: Results) -> list[str]:
    """A line on budgets that a shop cannot store; none where there are none."""
    small = budgets.below_one_level(results.study.evaluation.epsilons) if results.attacks else []
    shown = ", ".join(results.shown(each) for each in small)
    return [f"epsilon {shown}: {budgets.TOO_SMALL}"] if small else []


def _missing(results: Results) -> list[str]:
    """A line on missing blocks; none where there are none."""
    missing = results.count("missing")
    if not missing:
        return []
    return [
        f"PARTIAL: {missing} of {len(results.blocks)} blocks are missing; "
        "every n counts what is there"
    ]


def _differences(results: Results, compared: Comparison) -> list[str]:
    """The cells in which two runs differ, the most certain first."""
    rows, lines = compared.rows, []
    sure = rows[rows["clustered_p_value"] < 0.05].sort_values("clustered_p_value")
    if len(rows):
        lines = [
            f"against {compared.other}, on the tuples of both: "
            f"{len(sure)} of {len(rows)} cells differ (p < 0.05, by target)"
        ]
    for row in records(sure.head(DIFFERENCES)):
        lines.append(
            f"  {row['attack']} on {row['model']} at {results.shown(row['epsilon'])}: "
            f"{row['percent']:.1f} here, {row['other_percent']:.1f} there "
            f"({row['low_points']:+.1f} to {row['high_points']:+.1f} points, n = {row['n']:,})"
        )
    return (
        lines
        + promotions_against.text(results, compared.other, compared.promotions)
        + compared.notes
    )


def label(quantity: str) -> str:
    """The name of a quantity of the comparison."""
    return LABELS.get(quantity, f"success of {quantity}")


def _text_block(results: Results, models: Sequence[str], rows: dict[tuple[str, str], Any]) -> str:
    """A block of the comparison; `rows` are those of `quantities` by model and quantity."""
    lines = [["model", "n", *models]]
    if has_defenses(results):
        defenses = [results.study.models[model].defense for model in models]
        lines.append(["defense", "", *defenses])
    for quantity in quantities.quantity_names(results):
        own = [rows.get((model, quantity)) for model in models]
        if quantity in quantities.QUALITY and not any(own):
            continue
        count = span([row["n"] for row in own if row])
        texts = [DASH if row is None else _text_cell(row) for row in own]
        lines.append([label(quantity), count, *texts])
    lines += _changed(results, models)
    seconds = [results.training_seconds.get(model) for model in models]
    texts = [DASH if value is None else f"{value:,.0f}" for value in seconds]
    lines.append(["seconds of training", "", *texts])
    if is_lone(results):
        lines = [line for line in lines if line[-1] != DASH]
    return "\n".join(_aligned(lines))


def _changed(results: Results, models: Sequence[str]) -> list[list[str]]:
    """Lines on what defenses without labels change; none where none of the models has one."""
    table = {
        row["model"]: row
        | {
            "drift_percent": 100 * row["drift_median"],
            "most_percent": 100 * row["drift_95"],
        }
        for row in records(changes.changes(results))
    }
    known = [table[model] for model in models if model in table]
    lines = []
    for name, text in CHANGES.items():
        cells = [text.format(**table[model]) if model in table else DASH for model in models]
        lines.append([name, span([row["n"] for row in known]), *cells])
    return lines if known else []


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells as texts: the first column to the left, the others to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    texts = []
    for first, *others in lines:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        texts.append("  ".join([first.ljust(widths[0]), *cells]))
    return texts


def _text_cell(row: dict[str, Any]) -> str:
    return f"{row['percent']:.1f} ({row['low_percent']:.1f} to {row['high_percent']:.1f})"
