"""The Pareto front of a search, and its figure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from advrec.reports.pictures.canvas import rendered
from advrec.run.files import write_atomically

Mode = Literal["max", "min"]
Form = Literal["png", "svg"]
FORMS: tuple[Form, ...] = get_args(Form)


def front(trials: pd.DataFrame, modes: Mapping[Any, Mode]) -> npt.NDArray[np.bool_]:
    """Mask (n,) of the rows of `trials` that no other row dominates.

    A row dominates another that is nowhere better and somewhere worse.

    Args:
        modes: whether an objective, a column of `trials`, is to be large or small.
    """
    losses = _losses(trials, modes)
    no_worse = (losses[:, None] <= losses[None]).all(2)
    better = (losses[:, None] < losses[None]).any(2)
    return np.asarray(~(no_worse & better).any(0))


def best(front_rows: pd.DataFrame, modes: Mapping[Any, Mode]) -> dict[str, Any]:
    """The row of the front nearest to the best value of every objective.

    Each objective is scaled to its range on the front.
    """
    losses = _losses(front_rows, modes)
    span = np.ptp(losses, axis=0)
    scaled = (losses - losses.min(axis=0)) / np.where(span > 0, span, 1.0)
    row = front_rows.iloc[int(np.argmin((scaled**2).sum(axis=1)))]
    return {str(name): value for name, value in row.items()}


def figure(
    trials: pd.DataFrame,
    front_rows: pd.DataFrame,
    chosen: str,
    modes: Mapping[Any, Mode],
    form: Form,
) -> bytes:
    """Trials by their first two objectives, with the front joined and the best one marked.

    With one objective: all trials in order.
    """
    drawn = Figure(figsize=(5.2, 4.0), layout="constrained")
    axes = drawn.add_subplot()
    names = list(modes)
    if len(names) == 1:
        axes.plot(100 * trials[names[0]].sort_values().to_numpy(), "o", color="0.4")
        axes.set(xlabel="trials, in order", ylabel=_label(names[0], modes))
    else:
        x, y = names[:2]
        marked = front_rows[front_rows["trial"] == chosen]
        axes.plot(100 * trials[x], 100 * trials[y], "o", color="0.7", label="trial")
        axes.plot(100 * front_rows[x], 100 * front_rows[y], "o-", color="C0", label="Pareto front")
        axes.plot(
            100 * marked[x], 100 * marked[y], "*", color="C3", markersize=14, label="best.yaml"
        )
        axes.set(xlabel=_label(x, modes), ylabel=_label(y, modes))
        axes.legend()
    axes.grid(alpha=0.3)
    return rendered(drawn, form)


def save(
    path: Path,
    trials: pd.DataFrame,
    front_rows: pd.DataFrame,
    chosen: str,
    modes: Mapping[Any, Mode],
    form: Form,
) -> None:
    """Write `figure` to a file."""
    drawn = figure(trials, front_rows, chosen, modes, form)
    write_atomically(path, lambda temporary: temporary.write_bytes(drawn))


def _losses(trials: pd.DataFrame, modes: Mapping[Any, Mode]) -> npt.NDArray[np.float64]:
    """(rows, objectives), all to be small."""
    columns = [
        trials[name].to_numpy(np.float64) * (-1.0 if mode == "max" else 1.0)
        for name, mode in modes.items()
    ]
    return np.stack(columns, axis=1)


def _label(name: str, modes: Mapping[Any, Mode]) -> str:
    return (
        f"{name.replace('_', ' ')} (%), {'higher' if modes[name] == 'max' else 'lower'} is better"
    )
