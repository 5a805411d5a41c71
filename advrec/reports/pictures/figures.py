"""Figures of the report, each drawn from a table: a matplotlib Figure of its own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from advrec.reports.pictures.canvas import (
    GRID,
    MARKERS,
    PANEL_INCHES,
    Shape,
    blank_panels,
    error_bars,
    marker_of,
    palette,
    panel_per_model,
    styled,
)


class Tradeoff(NamedTuple):
    """One model as a point: percentages with their intervals."""

    model: str
    quality: Sequence[float]
    """Clean accuracy, or overlap of lists: value, low, high."""
    success: tuple[float, float, float]
    """Success of the strongest attack: value, low, high."""


def success_curves(
    success: pd.DataFrame,
    models: Sequence[str],
    attacks: Sequence[str],
    rank: int,
    shape: Shape,
    written: Callable[[float], str],
) -> Figure:
    """Success (%) at `rank` against the budget, one panel a model, one colour an attack, intervals
    as bars.

    Args:
        success: Results.success.
        models: the panels, in order.
        attacks: the colours, in order.
        written: a budget as the study wrote it.
    """
    shown = success[success["rank"] == rank]

    def draw(axes: Axes, model: str) -> None:
        _curves(axes, shown[shown["model"] == model], attacks, palette(attacks), written)
        axes.set(title=model, ylim=(-4, 104), xlabel="budget ε (pixels in [0, 1])")

    return panel_per_model(models, shape, f"success at rank {rank} (%)", draw)


def comparison(
    headline: pd.DataFrame,
    points: Sequence[Tradeoff],
    models: Sequence[str],
    where: str,
    axis: str,
    shape: Shape,
) -> Figure:
    """Success of every attack on every model as bars, and success against quality as points.

    Args:
        headline: success.headline.
        points: one a model whose quality and success are both known.
        models: the colours, in order.
        where: rank and budget of the headline, for the axis.
        axis: the name of the quality.
    """
    with styled():
        colours = palette(models)
        figure, (bars, scatter) = blank_panels(
            2, *((1, PANEL_INCHES) if shape == "narrow" else (2, 1.4 * PANEL_INCHES))
        )
        if len(headline):
            _bars(bars, headline, models, colours)
        bars.set(
            title="Success of each attack", xlabel="", ylabel=f"success {where} (%)", ylim=(0, 104)
        )
        _scatter(scatter, points, colours)
        title = f"Success and {axis}"
        scatter.set(title=title, xlabel=f"{axis} (%)", ylabel=f"success {where} (%)")
        scatter.set(xlim=(0, 102), ylim=(-4, 104))
        _legend(figure, models, colours)
    return figure


def attacks(headline: pd.DataFrame, models: Sequence[str], where: str) -> Figure:
    """Success of every attack on every model as bars; its arguments are those of `comparison`."""
    with styled():
        figure, (bars,) = blank_panels(1, 1, 1.4 * PANEL_INCHES)
        if len(headline):
            _bars(bars, headline, models, palette(models))
        title = models[0] if len(models) == 1 else "Success of each attack"
        bars.set(title=title, xlabel="", ylabel=f"success {where} (%)", ylim=(0, 104))
        if len(models) > 1:
            _legend(figure, models, palette(models))
    return figure


def convergence(
    rows: pd.DataFrame, models: Sequence[str], attacks: Sequence[str], where: str, shape: Shape
) -> Figure:
    """Success (%) against gradient steps, one panel a model, one colour an attack: steps for an
    attack that stops, a point for one that does not.

    Args:
        rows: convergence.convergence.
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
                errors, marker = error_bars(percent, low, high), marker_of(place)
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
            else:
                _steps(axes, curve, "gradient_steps", attack, colour)
        axes.set_xscale("symlog", linthresh=1)  # an attack without gradients has its place at 0
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set(title=model, ylim=(-4, 104), xlim=(-0.1, None), xlabel="gradient steps on a tuple")

    return panel_per_model(models, shape, f"success {where} (%)", draw)


def minimal(
    rows: pd.DataFrame,
    models: Sequence[str],
    attacks: Sequence[str],
    shape: Shape,
    written: Callable[[float], str],
    ticks: Sequence[float] | None = None,
) -> Figure:
    """Tuples that fall (%) against the budget, one panel a model, one colour an attack.

    Args:
        rows: minimal.curve.
        written: a budget as the study wrote it.
        ticks: budgets that the axis names.
    """

    def draw(axes: Axes, model: str) -> None:
        for attack in attacks:
            curve = rows[(rows["model"] == model) & (rows["attack"] == attack)]
            _steps(axes, curve, "epsilon", attack, palette(attacks)[attack])
        if ticks is not None:
            axes.set_xticks(ticks)
        axes.xaxis.set_major_formatter(lambda value, _: written(value))
        axes.set(title=model, ylim=(-4, 104), xlim=(0, None), xlabel="budget ε (pixels in [0, 1])")

    return panel_per_model(models, shape, "tuples that fall (%)", draw)


def _steps(axes: Axes, curve: pd.DataFrame, x: str, label: str, colour: Any) -> None:
    """A share that rises in steps, with its interval; nothing without rows."""
    if len(curve):
        axes.step(curve[x], curve["percent"], where="post", color=colour, label=label)
        low, high = curve["low_percent"], curve["high_percent"]
        axes.fill_between(curve[x], low, high, step="post", color=colour, alpha=0.15)


def distances(
    pairs: pd.DataFrame, lines: pd.DataFrame, models: Sequence[str], shape: Shape
) -> Figure:
    """Cosine distance to the target before (x) and after (y) the attack, one panel a model, with
    quantile regressions and the identity.

    Args:
        pairs: distances.pairs.
        lines: distances.quantile_lines.
    """
    farthest = max(pairs["clean_distance"].max(), pairs["adversarial_distance"].max(), 0.1)
    limit = 1.05 * float(farthest)

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

    return panel_per_model(models, shape, "cosine distance after", draw)


def training(epochs: pd.DataFrame, models: Sequence[str], shape: Shape) -> Figure:
    """Validation accuracy by epoch, clean and attacked, one panel a model; above it the steps of
    the attack where they change.

    Args:
        epochs: quantities.training.
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
        steps = zip(changes["epoch"], changes["attack_steps"], strict=True)
        for epoch, k in steps if len(changes) > 1 else ():
            axes.axvline(epoch, color=GRID, lw=1)
            axes.text(epoch, 101, f"k={k}", fontsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(title=model, ylim=(-4, 112), xlabel="epoch")

    return panel_per_model(models, shape, "validation accuracy (%)", draw)


def _curves(
    axes: Axes,
    rows: pd.DataFrame,
    attacks: Sequence[str],
    colours: Mapping[str, Any],
    written: Callable[[float], str],
) -> None:
    for place, attack in enumerate(attacks):
        curve = rows[rows["attack"] == attack]
        if curve.empty:
            continue
        percent = curve["percent"]
        errors = error_bars(percent, curve["low_percent"], curve["high_percent"])
        axes.errorbar(
            curve["epsilon"],
            percent,
            yerr=errors,
            color=colours[attack],
            marker=marker_of(place),
            label=attack,
            capsize=2,
        )
    if rows.empty:
        axes.text(0.5, 0.5, "no outcomes", transform=axes.transAxes, ha="center")
    else:
        axes.set_xticks(sorted(rows["epsilon"].unique()))
        axes.xaxis.set_major_formatter(lambda value, _: written(value))


def _bars(
    axes: Axes, headline: pd.DataFrame, models: Sequence[str], colours: Mapping[str, Any]
) -> None:
    attacks = list(headline["attack"].unique())
    bars = {"x": "attack", "y": "percent", "hue": "model", "order": attacks, "hue_order": models}
    style = {"palette": dict(colours), "errorbar": None, "saturation": 1, "legend": False}
    sns.barplot(headline, **bars, **style, ax=axes)
    width = 0.8 / len(models)
    for row in headline.to_dict("records"):
        middle = attacks.index(row["attack"]) - 0.4 + (models.index(row["model"]) + 0.5) * width
        low, high = row["percent"] - row["low_percent"], row["high_percent"] - row["percent"]
        ink = mpl.rcParams["text.color"]
        axes.errorbar(middle, row["percent"], yerr=[[low], [high]], color=ink, capsize=2, lw=1)
    axes.tick_params(axis="x", rotation=30 if len(attacks) > 5 else 0)
    axes.grid(visible=False, axis="x")


def _legend(figure: Figure, models: Sequence[str], colours: Mapping[str, Any]) -> None:
    """A legend of all models, whether or not they have points."""
    keys = []
    for place, model in enumerate(models):
        marker = MARKERS[place % len(MARKERS)]
        key = Line2D([], [], color=colours[model], marker=marker, markersize=8, label=model)
        key.set_linestyle("none")
        keys.append(key)
    figure.legend(handles=keys, loc="outside lower center", ncols=min(len(keys), 4))


def _scatter(axes: Axes, points: Sequence[Tradeoff], colours: Mapping[str, Any]) -> None:
    places = list(colours)
    for point in points:
        marker = MARKERS[places.index(point.model) % len(MARKERS)]
        (x, left, right), (y, low, high) = point.quality, point.success
        axes.errorbar(
            *(x, y),
            xerr=[[x - left], [right - x]],
            yerr=[[y - low], [high - y]],
            color=colours[point.model],
            marker=marker,
            markersize=8,
            capsize=2,
            linestyle="none",
        )
    if not points:
        axes.text(0.5, 0.5, "accuracy or success not known", transform=axes.transAxes, ha="center")
