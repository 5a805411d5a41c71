"""Tables -> figures: success curves and the defense comparison.

Every figure is a matplotlib Figure of its own, drawn without pyplot's global state; its styles apply within one call.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

Shape = Literal["wide", "narrow"]
"""wide: panels side by side; narrow: one below the other, for a phone."""

INK, PAPER, GRID = "#1f2328", "#ffffff", "#d9dde3"
DARK = {INK: "#e6e8eb", PAPER: "#16191d", GRID: "#363c45"}
MARKERS = "osD^vPX<>h"
PANEL_INCHES = 3.6


class Tradeoff(NamedTuple):
    """One model as a point: percentages with their intervals."""

    model: str
    accuracy: tuple[float, float, float]
    """Clean accuracy: value, low, high."""
    success: tuple[float, float, float]
    """Of the strongest attack: value, low, high."""


def success_curves(
    success: pd.DataFrame, models: Sequence[str], attacks: Sequence[str], rank: int, shape: Shape
) -> Figure:
    """Success (%) at `rank` against the budget, one panel a model, one colour an attack, Wilson intervals as bars.

    Args:
        success: tables.success.
        models: the panels, in order.
        attacks: the colours, in order.
    """
    shown = success[success["rank"] == rank]
    with _styled():
        colours = palette(attacks)
        columns = 1 if shape == "narrow" else min(len(models), 3)
        figure, panels = _panels(len(models), columns)
        for axes, model in zip(panels, models, strict=True):
            _curves(axes, shown[shown["model"] == model], attacks, colours)
            axes.set(title=model, ylim=(-4, 104), xlabel="budget ε (pixels in [0, 1])")
        for axes in panels[::columns]:
            axes.set_ylabel(f"success at rank {rank} (%)")
        handles, labels = _legend_entries(panels)
        figure.legend(
            handles, labels, loc="outside lower center", ncols=min(len(labels), 3 if columns == 1 else 6) or 1
        )
    return figure


def comparison(
    headline: pd.DataFrame, points: Sequence[Tradeoff], models: Sequence[str], where: str, shape: Shape
) -> Figure:
    """Success of every attack on every model as bars, and success against clean accuracy as points.

    Args:
        headline: tables.headline.
        points: one a model whose accuracy and success are both known.
        models: the colours, in order.
        where: rank and budget of the headline, for the axis.
    """
    with _styled():
        colours = palette(models)
        figure, (bars, scatter) = _panels(2, *((1, PANEL_INCHES) if shape == "narrow" else (2, 1.4 * PANEL_INCHES)))
        if len(headline):
            _bars(bars, headline, models, colours)
        bars.set(title="Success of each attack", xlabel="", ylabel=f"success {where} (%)", ylim=(0, 104))
        _scatter(scatter, points, colours)
        title = "Success and clean accuracy"
        scatter.set(title=title, xlabel="clean accuracy (%)", ylabel=f"success {where} (%)")
        scatter.set(xlim=(0, 102), ylim=(-4, 104))
        keys = [_key(model, colours[model], place) for place, model in enumerate(models)]
        figure.legend(handles=keys, loc="outside lower center", ncols=min(len(keys), 4))
    return figure


def rendered(figure: Figure, form: Literal["svg", "png"]) -> bytes:
    """The figure as a file's content; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if form == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "advrec"}):
        figure.savefig(buffer, format=form, dpi=160, metadata=metadata)
    figure.set_layout_engine("none")  # the panels stay where they are: the next form needs no layout of its own
    return buffer.getvalue()


def darkened(svg: bytes) -> bytes:
    """The same figure for a dark page: ink, paper and grid change their colours, data keep theirs."""
    text = svg.decode()
    for light, dark in DARK.items():
        text = text.replace(light, dark)
    return text.encode()


def palette(names: Sequence[str]) -> dict[str, Any]:
    """A colour a name, safe for the colour-blind; beyond ten they repeat, and the markers tell them apart."""
    return dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True))


def _curves(axes: Axes, rows: pd.DataFrame, attacks: Sequence[str], colours: Mapping[str, Any]) -> None:
    for place, attack in enumerate(attacks):
        curve = rows[rows["attack"] == attack]
        if curve.empty:
            continue
        percent = curve["success_percent"]
        errors = _errors(percent, curve["low_percent"], curve["high_percent"])
        marker = MARKERS[(place + place // 10) % len(MARKERS)]
        axes.errorbar(
            curve["epsilon"], percent, yerr=errors, color=colours[attack], marker=marker, label=attack, capsize=2
        )
    if rows.empty:
        axes.text(0.5, 0.5, "no outcomes", transform=axes.transAxes, ha="center")
    else:
        axes.set_xticks(sorted(rows["epsilon"].unique()))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _bars(axes: Axes, headline: pd.DataFrame, models: Sequence[str], colours: Mapping[str, Any]) -> None:
    attacks = list(headline["attack"].unique())
    sns.barplot(
        headline, x="attack", y="success_percent", hue="model", order=attacks, hue_order=models,
        palette=dict(colours), errorbar=None, saturation=1, ax=axes, legend=False,
    )  # fmt: skip
    width = 0.8 / len(models)
    for row in headline.to_dict("records"):
        middle = attacks.index(row["attack"]) - 0.4 + (models.index(row["model"]) + 0.5) * width
        low, high = row["success_percent"] - row["low_percent"], row["high_percent"] - row["success_percent"]
        ink = mpl.rcParams["text.color"]
        axes.errorbar(middle, row["success_percent"], yerr=[[low], [high]], color=ink, capsize=2, lw=1)
    axes.tick_params(axis="x", rotation=30 if len(attacks) > 5 else 0)
    axes.grid(visible=False, axis="x")


def _key(model: str, colour: Any, place: int) -> Line2D:
    """A legend entry for a model, whether or not it has a point."""
    return Line2D(
        [], [], color=colour, marker=MARKERS[place % len(MARKERS)], markersize=8, linestyle="none", label=model
    )


def _scatter(axes: Axes, points: Sequence[Tradeoff], colours: Mapping[str, Any]) -> None:
    places = list(colours)
    for point in points:
        marker = MARKERS[places.index(point.model) % len(MARKERS)]
        (x, left, right), (y, low, high) = point.accuracy, point.success
        axes.errorbar(
            x, y, xerr=[[x - left], [right - x]], yerr=[[y - low], [high - y]], color=colours[point.model],
            marker=marker, markersize=8, capsize=2, linestyle="none",
        )  # fmt: skip
    if not points:
        axes.text(0.5, 0.5, "accuracy or success not known", transform=axes.transAxes, ha="center")


def _errors(percent: pd.Series, low: pd.Series, high: pd.Series) -> list[pd.Series]:
    return [percent - low, high - percent]


def _panels(number: int, columns: int, width: float = PANEL_INCHES) -> tuple[Figure, list[Axes]]:
    rows = -(-number // columns)
    figure = Figure(figsize=(width * columns, 3.1 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for surplus in axes[number:]:
        surplus.remove()
    return figure, axes[:number]


def _legend_entries(panels: Sequence[Axes]) -> tuple[list[Any], list[str]]:
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    return list(entries.values()), list(entries)


@contextmanager
def _styled() -> Iterator[None]:
    colours: dict[Any, Any] = {
        "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": GRID,
        "grid.color": GRID, "figure.facecolor": PAPER, "axes.facecolor": PAPER, "savefig.facecolor": PAPER,
        "legend.frameon": False, "axes.titlesize": 11, "axes.labelsize": 10, "axes.titleweight": "bold",
    }  # fmt: skip
    context = sns.plotting_context("paper", font_scale=1.05)
    with context, sns.axes_style("whitegrid"), mpl.rc_context(colours):
        yield
