"""Tables -> figures.

Every figure is a matplotlib Figure of its own, drawn without pyplot's global state; its styles
apply within one call.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    """Success (%) at `rank` against the budget, one panel a model, one colour an attack, intervals
    as bars.

    Args:
        success: tables.success.
        models: the panels, in order.
        attacks: the colours, in order.
    """
    shown = success[success["rank"] == rank]

    def draw(axes: Axes, model: str) -> None:
        _curves(axes, shown[shown["model"] == model], attacks, palette(attacks))
        axes.set(title=model, ylim=(-4, 104), xlabel="budget ε (pixels in [0, 1])")

    return _each(models, shape, f"success at rank {rank} (%)", draw)


def comparison(
    headline: pd.DataFrame,
    points: Sequence[Tradeoff],
    models: Sequence[str],
    where: str,
    shape: Shape,
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
        figure, (bars, scatter) = _panels(
            2, *((1, PANEL_INCHES) if shape == "narrow" else (2, 1.4 * PANEL_INCHES))
        )
        if len(headline):
            _bars(bars, headline, models, colours)
        bars.set(
            title="Success of each attack", xlabel="", ylabel=f"success {where} (%)", ylim=(0, 104)
        )
        _scatter(scatter, points, colours)
        title = "Success and clean accuracy"
        scatter.set(title=title, xlabel="clean accuracy (%)", ylabel=f"success {where} (%)")
        scatter.set(xlim=(0, 102), ylim=(-4, 104))
        keys = [_key(model, colours[model], place) for place, model in enumerate(models)]
        figure.legend(handles=keys, loc="outside lower center", ncols=min(len(keys), 4))
    return figure


def convergence(
    rows: pd.DataFrame, models: Sequence[str], attacks: Sequence[str], where: str, shape: Shape
) -> Figure:
    """Success (%) against gradient steps, one panel a model, one colour an attack: steps for an
    attack that stops, a point for one that does not.

    Args:
        rows: exposure.convergence.
        where: rank and budget, for the axis.
    """

    def draw(axes: Axes, model: str) -> None:
        for place, attack in enumerate(attacks):
            curve, colour = (
                rows[(rows["model"] == model) & (rows["attack"] == attack)],
                palette(attacks)[attack],
            )
            steps, percent, low, high = (
                curve[name] for name in ("gradient_steps", "percent", "low_percent", "high_percent")
            )
            if len(curve) == 1:
                errors, marker = _errors(percent, low, high), _marker(place)
                axes.errorbar(
                    steps,
                    percent,
                    yerr=errors,
                    color=colour,
                    marker=marker,
                    linestyle="none",
                    label=attack,
                    capsize=2,
                )
            elif len(curve):
                axes.step(steps, percent, where="post", color=colour, label=attack)
                axes.fill_between(steps, low, high, step="post", color=colour, alpha=0.15)
        axes.set_xscale("symlog", linthresh=1)  # an attack without gradients has its place at 0
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set(title=model, ylim=(-4, 104), xlim=(-0.1, None), xlabel="gradient steps on a tuple")

    return _each(models, shape, f"success {where} (%)", draw)


def distances(
    pairs: pd.DataFrame, lines: pd.DataFrame, models: Sequence[str], shape: Shape
) -> Figure:
    """Cosine distance to the target before (x) and after (y) the attack, one panel a model, with
    quantile regressions and the identity.

    Args:
        pairs: distances.pairs.
        lines: distances.quantile_lines.
    """
    limit = (
        float(max(pairs["clean_distance"].max(), pairs["adversarial_distance"].max(), 0.1)) * 1.05
    )

    def draw(axes: Axes, model: str) -> None:
        ink = mpl.rcParams["text.color"]
        rows, own = pairs[pairs["model"] == model], lines[lines["model"] == model]
        fits = {
            quantile: (intercept, slope)
            for quantile, intercept, slope in own[["quantile", "intercept", "slope"]].to_numpy()
        }
        axes.plot([0, limit], [0, limit], "--", color=ink, lw=1, label="no change")
        axes.plot(
            rows["clean_distance"],
            rows["adversarial_distance"],
            ".",
            color=palette(models)[model],
            alpha=0.5,
            markersize=4,
        )
        ends = rows["clean_distance"].agg(["min", "max"])
        for quantile, style in ((0.9, ":"), (0.5, "-"), (0.1, "-.")):
            if quantile in fits:
                intercept, slope = fits[quantile]
                axes.plot(
                    ends,
                    intercept + slope * ends,
                    style,
                    color=ink,
                    lw=1.6,
                    label=f"{quantile:.0%} quantile",
                )
        attack = rows["attack"].iloc[0] if len(rows) else "no outcomes"
        axes.set(
            title=f"{model}: {attack}",
            xlim=(0, limit),
            ylim=(0, limit),
            xlabel="cosine distance before",
        )

    return _each(models, shape, "cosine distance after", draw)


def training(epochs: pd.DataFrame, models: Sequence[str], shape: Shape) -> Figure:
    """Validation accuracy by epoch, clean and attacked, one panel a model; above it the steps of
    the attack where they change.

    Args:
        epochs: tables.training.
        models: those that were trained.
    """
    clean, attacked = sns.color_palette("colorblind", 2)

    def draw(axes: Axes, model: str) -> None:
        rows = epochs[epochs["model"] == model]
        axes.plot(
            rows["epoch"], 100 * rows["validation_clean_accuracy"], "-", color=clean, label="clean"
        )
        percent = 100 * rows["validation_adversarial_accuracy"]
        if rows["attack_steps"].any():
            axes.plot(
                rows["epoch"],
                percent,
                "--",
                color=attacked,
                label="under the training's own attack",
            )
        changes = rows[rows["attack_steps"].ne(rows["attack_steps"].shift())]
        for epoch, k in (
            zip(changes["epoch"], changes["attack_steps"], strict=True) if len(changes) > 1 else ()
        ):
            axes.axvline(epoch, color=GRID, lw=1)
            axes.text(epoch, 101, f"k={k}", fontsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(title=model, ylim=(-4, 112), xlabel="epoch")

    return _each(models, shape, "validation accuracy (%)", draw)


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
    """The same figure for a dark page: ink, paper and grid change their colours, data keep theirs."""
    text = svg.decode()
    for light, dark in DARK.items():
        text = text.replace(light, dark)
    return text.encode()


def palette(names: Sequence[str]) -> dict[str, Any]:
    """A colour a name, safe for the colour-blind; beyond ten they repeat, and the markers tell them
    apart.
    """
    return dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True))


def _curves(
    axes: Axes, rows: pd.DataFrame, attacks: Sequence[str], colours: Mapping[str, Any]
) -> None:
    for place, attack in enumerate(attacks):
        curve = rows[rows["attack"] == attack]
        if curve.empty:
            continue
        percent = curve["percent"]
        errors = _errors(percent, curve["low_percent"], curve["high_percent"])
        axes.errorbar(
            curve["epsilon"],
            percent,
            yerr=errors,
            color=colours[attack],
            marker=_marker(place),
            label=attack,
            capsize=2,
        )
    if rows.empty:
        axes.text(0.5, 0.5, "no outcomes", transform=axes.transAxes, ha="center")
    else:
        axes.set_xticks(sorted(rows["epsilon"].unique()))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _bars(
    axes: Axes, headline: pd.DataFrame, models: Sequence[str], colours: Mapping[str, Any]
) -> None:
    attacks = list(headline["attack"].unique())
    sns.barplot(
        headline, x="attack", y="percent", hue="model", order=attacks, hue_order=models,
        palette=dict(colours), errorbar=None, saturation=1, ax=axes, legend=False,
    )  # fmt: skip
    width = 0.8 / len(models)
    for row in headline.to_dict("records"):
        middle = attacks.index(row["attack"]) - 0.4 + (models.index(row["model"]) + 0.5) * width
        low, high = row["percent"] - row["low_percent"], row["high_percent"] - row["percent"]
        ink = mpl.rcParams["text.color"]
        axes.errorbar(middle, row["percent"], yerr=[[low], [high]], color=ink, capsize=2, lw=1)
    axes.tick_params(axis="x", rotation=30 if len(attacks) > 5 else 0)
    axes.grid(visible=False, axis="x")


def _key(model: str, colour: Any, place: int) -> Line2D:
    """A legend entry for a model, whether or not it has a point."""
    return Line2D(
        [],
        [],
        color=colour,
        marker=MARKERS[place % len(MARKERS)],
        markersize=8,
        linestyle="none",
        label=model,
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


def _marker(place: int) -> str:
    """Colours repeat after ten: then the markers are others."""
    return MARKERS[(place + place // 10) % len(MARKERS)]


def _errors(percent: pd.Series, low: pd.Series, high: pd.Series) -> list[pd.Series]:
    return [percent - low, high - percent]


def _each(
    models: Sequence[str], shape: Shape, ylabel: str, draw: Callable[[Axes, str], None]
) -> Figure:
    """A panel a model, with one legend."""
    with _styled():
        columns = 1 if shape == "narrow" else min(len(models), 3)
        figure, panels = _panels(len(models), columns)
        for axes, model in zip(panels, models, strict=True):
            draw(axes, model)
        for axes in panels[::columns]:
            axes.set_ylabel(ylabel)
        _legend(figure, panels, columns)
    return figure


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
    room = (2 if max(map(len, entries), default=0) < 15 else 1) if columns == 1 else 6
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=min(len(entries), room) or 1,
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
