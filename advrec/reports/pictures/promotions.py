"""Figures of promotions: exposure against the budget, and of each article before and after."""

from collections.abc import Callable, Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advrec.reports.pictures.canvas import (
    INK,
    Shape,
    error_bars,
    marker_of,
    palette,
    panel_per_model,
)

KINDS = ("all", "cold", "tail", "head")


def exposure(
    rows: pd.DataFrame,
    panels: Sequence[str],
    attacks: Sequence[str],
    rank: int,
    shape: Shape,
    written: Callable[[float], str],
) -> Figure:
    """HR@K (%) after the attack against the budget, one panel a model, one colour an attack, with
    intervals as bars; a dotted line is HR@K before.

    Args:
        rows: promotions.exposure of one rank and kind of articles, without deliveries.
        written: a budget as the study wrote it.
    """
    colours = palette(attacks)

    def draw(axes: Axes, model: str) -> None:
        own = rows[rows["model"] == model]
        for place, attack in enumerate(attacks):
            curve = own[own["attack"] == attack]
            if curve.empty:
                continue
            percent, low, high = (
                100.0 * curve[f"hr_after{bound}"] for bound in ("", "_low", "_high")
            )
            bars = error_bars(percent, low.fillna(percent), high.fillna(percent))
            marker = marker_of(place)
            style = {"color": colours[attack], "marker": marker, "capsize": 2, "label": attack}
            axes.errorbar(curve["epsilon"], percent, yerr=bars, **style)
        axes.axhline(
            100.0 * own["hr_before"].mean(), color=INK, linestyle=":", lw=1, label="before"
        )
        axes.set_xticks(sorted(own["epsilon"].unique()))
        axes.xaxis.set_major_formatter(lambda value, _: written(value))
        audience = own["audience"].iloc[0]
        axes.set(title=f"{model} before {audience}", xlabel="budget ε (pixels in [0, 1])")
        axes.set_ylim(bottom=0)

    return panel_per_model(panels, shape, f"HR@{rank} (%)", draw)


def articles(
    rows: pd.DataFrame, panels: Sequence[str], titles: dict[str, str], rank: int, shape: Shape
) -> Figure:
    """HR@K (%) of each attacked article, a line from before to after; one panel a model, one
    colour a kind of article, in each the articles from high to low.

    Args:
        rows: model, kind, before, after of each article, 0..1, in order.
        titles: of the panels.
    """
    colours = dict(zip(KINDS, sns.color_palette("colorblind", len(KINDS)), strict=True))

    def draw(axes: Axes, model: str) -> None:
        own = rows[rows["model"] == model].reset_index(drop=True)
        for kind, part in own.groupby("kind", sort=False):
            before, after = 100.0 * part["before"], 100.0 * part["after"]
            axes.vlines(part.index, before, after, color=colours[str(kind)], lw=1.5)
            axes.plot(
                part.index, after, "o", color=colours[str(kind)], markersize=4, label=str(kind)
            )
        axes.set_xticks([])
        axes.set(title=titles[model], xlabel="attacked articles")
        axes.set_ylim(bottom=0)

    return panel_per_model(panels, shape, f"HR@{rank} (%)", draw)
