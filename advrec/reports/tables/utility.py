"""Utility of hybrid recommenders, and how far it falls when embeddings are perturbed."""

from functools import lru_cache
from typing import Any

import pandas as pd

from advrec.reports.results import Results
from advrec.reports.tables.rows import records
from advrec.run import identity
from advrec.run.files import read_json

COLUMNS = ["model", "recommender", "by", "articles", "quantity", "n", "value", "low", "high"]
ATTACKED = ["epsilon", "n", "before", "after", "percent", "low_percent", "high_percent"]
PUBLISHED = {
    ("vbpr", 0.05): (-4.2, -8.7),
    ("vbpr", 0.1): (-11.9, -30.4),
    ("vbpr", 0.2): (-31.8, -67.7),
    ("amr", 0.05): (-2.6, -1.4),
    ("amr", 0.1): (-6.2, -5.3),
    ("amr", 0.2): (-18.4, -20.2),
}
"""Relative changes of NDCG@10 in percent, on Pinterest and Amazon (Tang et al. 2019, table 3)."""
SHOWN = {"auc": "AUC", "hr@10": "HR@10", "ndcg@10": "NDCG@10"}
"""Names of the quantities that terminal and page show."""
KINDS = ("all", "warm", "cold")


@lru_cache(maxsize=1)
def _metrics(results: Results) -> list[tuple[str, str, dict[str, Any]]]:
    """Name, kind and metrics.json of each hybrid that is there and compared."""
    paths = {
        model: (spec.recommender, results.run.model(model) / "metrics.json")
        for model, spec in identity.recorded_study(results.run).hybrids.items()
        if spec.compared and results.run.bank(model).exists()
    }
    return [(model, kind, read_json(path)) for model, (kind, path) in paths.items()]


def utility(results: Results) -> pd.DataFrame:
    """One row a (hybrid, by, articles, quantity): mean over held-out purchases, 0..1, and interval.

    - by: whose order of the articles is meant, the model's, or that of popularity or chance, which
      have no interval where they are known exactly;
    - articles: all that were held out, the warm ones, or those without a purchase in training;
    - quantity: auc, hr@K, ndcg@K; ties count as the mean over all their orders.
    """
    rows = [
        {"model": model, "recommender": kind, **row}
        for model, kind, metrics in _metrics(results)
        for row in metrics["utility"]
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def feature_attacks(results: Results) -> pd.DataFrame:
    """One row a (hybrid, epsilon): NDCG@10 of held-out purchases, 0..1, before and after every
    embedding was moved, the relative change in percent with interval, and the published ones.
    """
    rows = []
    for model, kind, metrics in _metrics(results):
        for row in metrics["feature_attacks"]:
            pinterest, amazon = PUBLISHED.get((kind, row["epsilon"]), (None, None))
            published = {"pinterest_percent": pinterest, "amazon_percent": amazon}
            rows.append({"model": model, "recommender": kind, **row, **published})
    columns = ["model", "recommender", *ATTACKED, "pinterest_percent", "amazon_percent"]
    return pd.DataFrame(rows, columns=columns)


def tables(results: Results) -> dict[str, pd.DataFrame]:
    """Both tables by the name of their file; none where there is no hybrid."""
    found = {"utility": utility(results), "feature_attacks": feature_attacks(results)}
    return {name: table for name, table in found.items() if len(table)}


def compared(results: Results) -> list[tuple[str, str, dict[str, Any]]]:
    """Whose order, articles, and rows of `utility` by quantity: of each hybrid, then of popularity
    and chance, which are the same beside each.
    """
    table = utility(results)
    models = list(dict.fromkeys(table["model"]))
    orders = [(model, model, "model") for model in models]
    orders += [(by, model, by) for model in models[:1] for by in ("popularity", "chance")]
    found = []
    for articles in KINDS:
        for name, model, by in orders:
            own = table[(table["model"] == model) & (table["by"] == by)]
            rows = {row["quantity"]: row for row in records(own[own["articles"] == articles])}
            if SHOWN.keys() <= rows.keys():
                found.append((name, articles, rows))
    return found


def is_drawn(results: Results) -> bool:
    """Say whether the purchases are drawn ones, which are called synthetic everywhere."""
    bought = results.study.interactions
    return bought is not None and bought.source == "synthetic"


def text(results: Results) -> list[str]:
    """Lines for a terminal; none where there is no hybrid."""
    lines = [
        f"  {articles} articles, {name}: "
        + ", ".join(f"{label} {_number(rows[quantity])}" for quantity, label in SHOWN.items())
        + f" (n = {rows['auc']['n']:,})"
        for name, articles, rows in compared(results)
    ]
    drawn = "synthetic " if is_drawn(results) else ""
    title = f"held-out {drawn}purchases of users, with 95 % interval:"
    return [title, *lines] if lines else []


def _number(row: dict[str, Any]) -> str:
    exact = pd.isna(row["low"])
    return f"{row['value']:.3f}" + ("" if exact else f" ({row['low']:.3f} to {row['high']:.3f})")
