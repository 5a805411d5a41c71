"""The canvas of figures: style, colours, panels, legend, and files.

Figures are drawn without pyplot's global state; the style applies within one call.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Shape = Literal["wide", "narrow"]
"""wide: panels side by side; narrow: one below the other, for a phone."""

INK, PAPER, GRID = "#1f2328", "#ffffff", "#d9dde3"
DARK = {INK: "#e6e8eb", PAPER: "#16191d", GRID: "#363c45"}
MARKERS = "osD^vPX<>h"
PANEL_INCHES = 3.6


def palette(names: Sequence[str]) -> dict[str, Any]:
    """A colour a name, safe for the colour-blind; beyond ten they repeat, and the markers tell them
    apart.
    """
    return dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True))


def rendered(figure: Figure, form: Literal["svg", "png"]) -> bytes:
    """The figure as a file's content; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if form == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "advrec"}):
        figure.savefig(buffer, format=form, dpi=160, metadata=metadata)
    # the panels stay where they are: the next form needs no layout of its own
    figure.set_layout_engine("none")
    return buffer.getvalue()


def darkened(svg: bytes) -> bytes:
    """The same figure for a dark page: ink, paper and grid change, data keep their colours."""
    text = svg.decode()
    for light, dark in DARK.items():
        text = text.replace(light, dark)
    return text.encode()


def marker_of(place: int) -> str:
    """The marker at a place in a legend; colours repeat after ten, then the markers are others."""
    return MARKERS[(place + place // 10) % len(MARKERS)]


def error_bars(percent: pd.Series, low: pd.Series, high: pd.Series) -> list[pd.Series]:
    """Lengths of the bars below and above the values."""
    return [percent - low, high - percent]


def panel_per_model(
    models: Sequence[str], shape: Shape, ylabel: str, draw: Callable[[Axes, str], None]
) -> Figure:
    """A panel a model, drawn by `draw(axes, model)`, with one legend."""
    with styled():
        columns = 1 if shape == "narrow" else min(len(models), 3)
        figure, panels = blank_panels(len(models), columns)
        for axes, model in zip(panels, models, strict=True):
            draw(axes, model)
        for axes in panels[::columns]:
            axes.set_ylabel(ylabel)
        shared_legend(figure, panels, columns)
    return figure


def blank_panels(
    number: int, columns: int, width: float = PANEL_INCHES
) -> tuple[Figure, list[Axes]]:
    """A figure with `number` panels in so many columns, `width` inches each."""
    rows = -(-number // columns)
    figure = Figure(figsize=(width * columns, 3.1 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for surplus in axes[number:]:
        surplus.remove()
    return figure, axes[:number]


def shared_legend(figure: Figure, panels: Sequence[Axes], columns: int) -> None:
    """Add one legend of all panels, below them."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    room = (2 if max(map(len, entries), default=0) < 15 else 1) if columns == 1 else 6
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=min(len(entries), room) or 1,
    )


@contextmanager
def styled() -> Iterator[None]:
    """Apply the style of the report's figures."""
    colours: dict[Any, Any] = {
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
        **dict.fromkeys(("axes.edgecolor", "grid.color"), GRID),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), PAPER),
        "legend.frameon": False,
        "axes.titlesize": 11,
        "axes.labelsize": 10,
        "axes.titleweight": "bold",
    }
    context = sns.plotting_context("paper", font_scale=1.05)
    with context, sns.axes_style("whitegrid"), mpl.rc_context(colours):
        yield


def level_ticks(largest: float) -> list[float]:
    """Budgets from 0 to the largest, at round numbers of levels: 0, 1/255, 2/255, ..."""
    levels = MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(0.0, 255 * largest)
    return [level / 255 for level in levels if 0.0 <= level <= 255 * largest + 1e-6]
