"""A run directory -> report/: the page, every table as CSV and LaTeX, every figure as PNG and SVG."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from advrec.errors import ConfigError
from advrec.reports import figures, page, tables
from advrec.reports.figures import Shape, Tradeoff
from advrec.reports.results import Results, read
from advrec.store import Run, write_atomically, write_text

LONG_TABLE = 40
"""Rows above which a LaTeX table may break across pages."""


def write_report(run: Run, *, partial: bool = False) -> Path:
    """Write report/ of a run directory and return report/index.html, which is written last.

    Args:
        run: what `advrec evaluate` has left; blocks that were set aside may be absent.
        partial: also accept a run with missing blocks; the page then says so and every n is the true one.

    Raises:
        ConfigError: the run holds no study or no tuples, or blocks are missing and `partial` is false.
        AdvrecError: the report cannot be written.
    """
    results = read(run)
    missing, total = results.count("missing"), len(results.blocks)
    if missing and not partial:
        raise ConfigError(
            f"{run.directory}: {missing} of {total} blocks are missing; "
            "run `advrec evaluate` to compute them, or pass --partial to report what is there"
        )
    for name, table in tables.all_tables(results).items():
        write_text(run.report / "tables" / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
        write_text(run.report / "tables" / f"{name}.tex", _latex(table))
    curves = _figure(run, "success", lambda shape: _curves(results, shape))
    comparison = _figure(run, "comparison", lambda shape: _comparison(results, shape))
    index = run.report / "index.html"
    write_text(index, page.render(results, curves, comparison))
    return index


def _figure(run: Run, name: str, draw: Callable[[Shape], Figure]) -> dict[str, bytes]:
    """Save one figure and return the SVG of every variant that the page chooses from."""
    wide = draw("wide")
    variants = {"wide-light": figures.rendered(wide, "svg"), "narrow-light": figures.rendered(draw("narrow"), "svg")}
    _write(run.report / "figures" / f"{name}.png", figures.rendered(wide, "png"))
    _write(run.report / "figures" / f"{name}.svg", variants["wide-light"])
    dark = {variant.replace("light", "dark"): figures.darkened(svg) for variant, svg in variants.items()}
    return variants | dark


def _curves(results: Results, shape: Shape) -> Figure:
    models = list(results.study.models)
    return figures.success_curves(tables.success(results), models, results.attacks, results.rank, shape)


def _comparison(results: Results, shape: Shape) -> Figure:
    where = f"at rank {results.rank}, ε = {results.largest_epsilon:g}"
    models = list(results.study.models)
    return figures.comparison(tables.headline(results), _tradeoffs(results), models, where, shape)


def _tradeoffs(results: Results) -> list[Tradeoff]:
    rows = tables.records(tables.quantities(results))
    accuracy = {row["model"]: row for row in rows if row["quantity"] == "clean_accuracy"}
    best = tables.strongest(results)
    return [
        Tradeoff(
            model, _value_and_interval(accuracy[model], "percent"), _value_and_interval(best[model], "success_percent")
        )
        for model in results.study.models
        if model in accuracy and model in best
    ]


def _value_and_interval(row: dict[str, Any], value: str) -> tuple[float, float, float]:
    return row[value], row["low_percent"], row["high_percent"]


def _latex(table: pd.DataFrame) -> str:
    """Needs the package booktabs, and longtable for long tables."""
    text: str = table.to_latex(
        index=False, escape=True, float_format="%.4g", na_rep="--", longtable=len(table) > LONG_TABLE
    )
    return text


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
