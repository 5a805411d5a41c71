"""The figure of the ladder of knowledge: success against the queries that it takes."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advrec.reports.pictures.canvas import (
    Shape,
    error_bars,
    marker_of,
    palette,
    panel_per_model,
)


def ladder(rows: pd.DataFrame, models: Sequence[str], rank: int, shape: Shape) -> Figure:
    """Success (%) at a rank against queries, one panel a model: points with intervals for attacks
    that ask, lines across for those that do not.

    Args:
        rows: tables.knowledge.ladder at one rank and budget, with a column `label`.
    """
    colours = palette(list(dict.fromkeys(rows["label"])))
    most = max(10, int(rows["queries"].max()))

    def draw(axes: Axes, model: str) -> None:
        own = rows[rows["model"] == model]
        for label, part in own.groupby("label", sort=False):
            part = part.sort_values("queries")
            style = {"color": colours[str(label)], "label": str(label)}
            if not part["queries"].any():
                for percent, low, high in part[
                    ["percent", "low_percent", "high_percent"]
                ].to_numpy():
                    axes.axhline(percent, **style)
                    axes.axhspan(low, high, color=style["color"], alpha=0.1)
                continue
            bars = error_bars(part["percent"], part["low_percent"], part["high_percent"])
            marker = marker_of(list(colours).index(str(label)))
            axes.errorbar(
                part["queries"], part["percent"], yerr=bars, marker=marker, capsize=2, **style
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set(title=model, ylim=(-4, 104), xlim=(1, 1.3 * most), xlabel="queries on a tuple")

    return panel_per_model(models, shape, f"success at rank {rank} (%)", draw)
