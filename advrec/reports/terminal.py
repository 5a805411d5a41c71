"""Results -> the comparison of defenses for a terminal."""

from collections.abc import Sequence
from typing import Any

from advrec.reports.results import Results
from advrec.reports.tables import tables, trust
from advrec.reports.tables.against import Comparison
from advrec.spec import accuracy

PGD = f"{accuracy.PUBLISHED}, {accuracy.EPSILON:g}"
LABELS = {
    "clean_accuracy": "clean accuracy",
    "adversarial_accuracy": f"accuracy under {PGD}",
    "strong_adversarial_accuracy": f"under {accuracy.CONVERGED}, {accuracy.EPSILON:g}",
    "top5_accuracy": "top-5 accuracy",
    "adversarial_top5_accuracy": f"top-5 under {PGD}",
    "texture_top1_precision": "texture precision",
    "adversarial_texture_top1_precision": f"texture under {PGD}",
    "same_category": "top 10 of its category",
    "same_texture": "top 10 with its texture",
    "overlap": "top 10 as without defense",
    "unattacked": "success without attack",
}
"""How a quantity of `defense_comparison` is called; every other quantity is an attack's name."""


SHOWN = 10  # differences of two runs


def comparison_text(results: Results, compared: Comparison | None = None) -> str:
    """The defense comparison as plain text for a terminal: quantities down, models across, three in
    a block; then what the checks say, and where another run differs.
    """
    models = list(results.study.models)
    known = {
        (row["model"], row["quantity"]): row for row in tables.records(tables.quantities(results))
    }
    title = (
        f"{results.study.name}: success at rank {results.rank}, budget epsilon {results.epsilon:g}; "
        "percent with 95 % interval"
    )
    parts = [
        _text_block(results, models[start : start + 3], known) for start in range(0, len(models), 3)
    ]
    transfers = [
        f"{name}: {tables.made_on(results, name)}"
        for name in results.attacks
        if tables.made_on(results, name)
    ]
    missing = results.count("missing")
    partial = (
        [
            f"PARTIAL: {missing} of {len(results.blocks)} blocks are missing; every n counts what is there"
        ]
        if missing
        else []
    )
    differing = _differences(compared) if compared else []
    parts += [
        "\n".join(lines) for lines in (transfers, trust.text(results), differing, partial) if lines
    ]
    return "\n\n".join([title, *parts]) + "\n"


def _differences(compared: Comparison) -> list[str]:
    """The cells in which two runs differ, the most certain first."""
    rows = compared.rows
    sure = rows[rows["clustered_p_value"] < 0.05].sort_values("clustered_p_value")
    lines = [
        f"against {compared.other}, on the tuples of both: {len(sure)} of {len(rows)} cells differ (p < 0.05, by target)"
    ]
    for row in tables.records(sure.head(SHOWN)):
        lines.append(
            f"  {row['attack']} on {row['model']} at {row['epsilon']:g}: {row['percent']:.1f} here, {row['other_percent']:.1f} there "
            f"({row['low_points']:+.1f} to {row['high_points']:+.1f} points, n = {row['n']:,})"
        )
    return lines + compared.notes


def label(quantity: str) -> str:
    """How a quantity of the comparison is called."""
    return LABELS.get(quantity, f"success of {quantity}")


def _text_block(results: Results, models: Sequence[str], known: dict[tuple[str, str], Any]) -> str:
    lines = [
        ["model", "n", *models],
        ["defense", "", *(results.study.models[model].defense for model in models)],
    ]
    for quantity in tables.quantity_names(results):
        rows = [known.get((model, quantity)) for model in models]
        counts = [row["n"] for row in rows if row]
        lines.append(
            [
                label(quantity),
                tables.span(counts),
                *(tables.DASH if row is None else _text_cell(row) for row in rows),
            ]
        )
    seconds = [results.training_seconds.get(model) for model in models]
    lines.append(
        [
            "seconds of training",
            "",
            *(tables.DASH if value is None else f"{value:,.0f}" for value in seconds),
        ]
    )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True)),
            ]
        )
        for line in lines
    )


def _text_cell(row: dict[str, Any]) -> str:
    return f"{row['percent']:.1f} ({row['low_percent']:.1f} to {row['high_percent']:.1f})"
