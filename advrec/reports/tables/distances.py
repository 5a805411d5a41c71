"""Cosine distances before and after an attack, with quantile regressions.

Source: Koenker and Bassett, Regression quantiles, Econometrica 46, 1978.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from advrec.reports.results import Results

QUANTILES = (0.1, 0.5, 0.9)
DOTS = 512
"""Tuples of a model at most, the first."""
PAIR_COLUMNS = ["model", "attack", "epsilon", "tuple_id", "clean_distance", "adversarial_distance"]
LINE_COLUMNS = ["model", "attack", "epsilon", "n", "quantile", "intercept", "slope"]
FEWEST = 10
"""Tuples that a line is fitted to."""


def pairs(results: Results, strongest: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row a (model, tuple): distance to the target before and after one attack.

    The budget is the headline's, the tuples are the first DOTS. Among the attacks that never stop
    the attack is the one that gets nearest, by the median of the tuples that all have. Where all
    stop it is the strongest.

    Args:
        strongest: success.strongest.
    """
    full = {attack.name for attack in results.study.evaluation.attacks if attack.stop == "never"}
    parts = []
    for model, best in strongest.items():
        rows = results.outcomes
        rows = rows[
            (rows["model"] == model)
            & (rows["epsilon"] == results.epsilon)
            & (rows["tuple_id"] < DOTS)
        ]
        by_attack = (
            rows[rows["attack"].isin(full)]
            .pivot(index="tuple_id", columns="attack", values="adversarial_distance")
            .dropna()
        )
        attack = by_attack.median().idxmin() if len(by_attack) else best["attack"]
        parts.append(rows.loc[rows["attack"] == attack, PAIR_COLUMNS].sort_values("tuple_id"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=PAIR_COLUMNS)


def quantile_lines(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row a (model, quantile): the line of the distance after over the distance before.

    Args:
        pairs: from the function `pairs`.
    """
    rows = []
    for (model, attack, epsilon), cell in pairs.groupby(
        ["model", "attack", "epsilon"], sort=False, observed=True
    ):
        before, after = (
            cell["clean_distance"].to_numpy(np.float64),
            cell["adversarial_distance"].to_numpy(np.float64),
        )
        if len(cell) < FEWEST or not np.ptp(before):
            continue
        for quantile in QUANTILES:
            intercept, slope = fit(before, after, quantile)
            rows.append((model, attack, epsilon, len(cell), quantile, intercept, slope))
    return pd.DataFrame(rows, columns=LINE_COLUMNS)


def fit(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], quantile: float) -> tuple[float, float]:
    """Intercept and slope of the line below which a share `quantile` of the points lies.

    Args:
        x, y: (n,), the coordinates of the points.
        quantile: in 0..1.
    """
    from sklearn.linear_model import QuantileRegressor  # seconds to import, for this alone

    model = QuantileRegressor(quantile=quantile, alpha=0.0, solver="highs").fit(x[:, None], y)
    return float(model.intercept_), float(model.coef_[0])
