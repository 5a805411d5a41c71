"""Tables -> figures.

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
from matplotlib.ticker import MaxNLocator

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
        _legend(figure, panels, columns)
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


def convergence(rows: pd.DataFrame, models: Sequence[str], attacks: Sequence[str], where: str, shape: Shape) -> Figure:
    """Success (%) against gradient steps, one panel a model, one colour an attack: steps for an attack that stops, a point for one
    that does not.

    Args:
        rows: exposure.convergence.
        where: rank and budget, for the axis.
    """
    with _styled():
        colours = palette(attacks)
        columns = 1 if shape == "narrow" else min(len(models), 3)
        figure, panels = _panels(len(models), columns)
        for axes, model in zip(panels, models, strict=True):
            for place, attack in enumerate(attacks):
                curve = rows[(rows["model"] == model) & (rows["attack"] == attack)]
                if curve.empty:
                    continue
                if len(curve) == 1:
                    marker = MARKERS[(place + place // 10) % len(MARKERS)]
                    errors = [[(curve["percent"] - curve["low_percent"]).item()], [(curve["high_percent"] - curve["percent"]).item()]]
                    axes.errorbar(
                        curve["gradient_steps"], curve["percent"], yerr=errors, color=colours[attack], marker=marker, linestyle="none",
                        label=attack, capsize=2,
                    )  # fmt: skip
                else:
                    axes.step(curve["gradient_steps"], curve["percent"], where="post", color=colours[attack], label=attack)
                    axes.fill_between(
                        curve["gradient_steps"], curve["low_percent"], curve["high_percent"], step="post", color=colours[attack], alpha=0.15
                    )
            # No steps (noise) have their place left of one.
            axes.set_xscale("symlog", linthresh=1)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.set(title=model, ylim=(-4, 104), xlim=(-0.1, None), xlabel="gradient steps on a tuple")
        for axes in panels[::columns]:
            axes.set_ylabel(f"success {where} (%)")
        _legend(figure, panels, columns)
    return figure


def distances(pairs: pd.DataFrame, lines: pd.DataFrame, models: Sequence[str], shape: Shape) -> Figure:
    """Cosine distance to the target before (x) and after (y) the attack, one panel a model, with quantile regressions and the identity.

    Args:
        pairs: distances.pairs.
        lines: distances.quantile_lines.
    """
    with _styled():
        colours = palette(models)
        columns = 1 if shape == "narrow" else min(len(models), 3)
        figure, panels = _panels(len(models), columns)
        limit = float(max(pairs["clean_distance"].max(), pairs["adversarial_distance"].max(), 0.1)) * 1.05
        for axes, model in zip(panels, models, strict=True):
            rows, fits = pairs[pairs["model"] == model], lines[lines["model"] == model]
            axes.plot([0, limit], [0, limit], "--", color=mpl.rcParams["text.color"], lw=1, label="no change")
            axes.plot(rows["clean_distance"], rows["adversarial_distance"], ".", color=colours[model], alpha=0.5, markersize=4)
            for quantile, style in ((0.9, ":"), (0.5, "-"), (0.1, "-.")):
                fit = fits[fits["quantile"] == quantile]
                if len(fit):
                    ends = rows["clean_distance"].agg(["min", "max"])
                    axes.plot(
                        ends, fit["intercept"].item() + fit["slope"].item() * ends, style, color=mpl.rcParams["text.color"], lw=1.6,
                        label=f"{quantile:.0%} quantile",
                    )  # fmt: skip
            attack = rows["attack"].iloc[0] if len(rows) else "no outcomes"
            axes.set(title=f"{model}: {attack}", xlim=(0, limit), ylim=(0, limit), xlabel="cosine distance before")
        for axes in panels[::columns]:
            axes.set_ylabel("cosine distance after")
        _legend(figure, panels, columns)
    return figure


def training(epochs: pd.DataFrame, models: Sequence[str], shape: Shape) -> Figure:
    """Validation accuracy by epoch, clean and attacked, one panel a model; beneath it the steps of the attack where they change.

    Args:
        epochs: tables.training.
        models: those that were trained.
    """
    with _styled():
        ink = mpl.rcParams["text.color"]
        columns = 1 if shape == "narrow" else min(len(models), 3)
        figure, panels = _panels(len(models), columns)
        colours = dict(zip(("clean", "attacked"), sns.color_palette("colorblind", 2), strict=True))
        for axes, model in zip(panels, models, strict=True):
            rows = epochs[epochs["model"] == model]
            axes.plot(rows["epoch"], 100 * rows["validation_clean_accuracy"], "-", color=colours["clean"], label="clean")
            attacked = 100 * rows["validation_adversarial_accuracy"]
            axes.plot(rows["epoch"], attacked, "--", color=colours["attacked"], label="under the training's own attack")
            changes = rows[rows["attack_steps"].ne(rows["attack_steps"].shift())]
            for epoch, k in zip(changes["epoch"], changes["attack_steps"], strict=True) if len(changes) > 1 else ():
                axes.axvline(epoch, color=GRID, lw=1)
                axes.text(epoch, 101, f"k={k}", color=ink, fontsize=7)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set(title=model, ylim=(-4, 112), xlabel="epoch")
        for axes in panels[::columns]:
            axes.set_ylabel("validation accuracy (%)")
        _legend(figure, panels, columns)
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


def _legend(figure: Figure, panels: Sequence[Axes], columns: int) -> None:
    """One legend of all panels, below them."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=min(len(entries), 3 if columns == 1 else 6) or 1
    )


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
