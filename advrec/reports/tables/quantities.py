"""Quantities that defenses are compared by: accuracy, lists, success; percentages in 0..100."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pandas as pd

from advrec.evaluation.rates import shares, wilson
from advrec.reports.results import Results
from advrec.reports.tables import changes
from advrec.reports.tables.rows import records
from advrec.reports.tables.success import headline
from advrec.run import own_columns, schema

QUALITY = {
    "clean_accuracy": "n",
    "adversarial_accuracy": "n",
    "robust_accuracy": "n_robust",
    "strong_adversarial_accuracy": "n_strong",
    "top5_accuracy": "n",
    "adversarial_top5_accuracy": "n",
    "texture_top1_precision": "n_textures",
    "adversarial_texture_top1_precision": "n_textures",
}
"""The fractions of metrics.json and the key of the number of articles behind each."""
RETIRED = "strong_adversarial_accuracy"
"""That of runs of before 0.3.0 alone."""
LIST_QUALITY = ("same_category", "same_texture", "overlap")
"""The quantities of `Results.recommendations`."""
QUANTITY_COLUMNS = ["model", "defense", "quantity", "n", "percent", "low_percent", "high_percent"]


@lru_cache(maxsize=1)  # asked for by most of the page
def quantities(results: Results) -> pd.DataFrame:
    """One row a (model, quantity), with n and interval; an unknown quantity is absent.

    A quantity is one of these:

    - a fraction of metrics.json;
    - one of `Results.recommendations`;
    - `unattacked`: attack articles that stand at the rank before any attack;
    - an attack's name: success at the headline's rank and budget.
    """
    attacked = headline(results).rename(columns={"attack": "quantity"})
    parts = [_quality(results), _unattacked(results), attacked, results.recommendations]
    measured = [part for part in parts if len(part)]
    if not measured:
        return pd.DataFrame(columns=QUANTITY_COLUMNS)
    table = pd.concat(measured, ignore_index=True)
    return table.assign(
        defense=table["model"].map(lambda model: results.study.models[model].defense)
    )[QUANTITY_COLUMNS]


def quality_of(results: Results) -> tuple[str, dict[str, Sequence[float]]]:
    """The quality that exposure is weighed against: its name, and by model its percentage, low and
    high. Clean accuracy, or the overlap of lists where a defense without labels, which has no
    accuracy, is compared.
    """
    if kept := changes.kept(results):
        return "overlap of lists", kept
    rows = [row for row in records(quantities(results)) if row["quantity"] == "clean_accuracy"]
    measures = ("percent", "low_percent", "high_percent")
    accuracy: dict[str, Sequence[float]] = {
        row["model"]: [row[measure] for measure in measures] for row in rows
    }
    return "accuracy", accuracy


def quantity_names(results: Results) -> list[str]:
    """Names of the quantities, in the order of the comparison."""
    known = set(quantities(results)["quantity"])
    quality = [name for name in QUALITY if name in known or name != RETIRED]
    listed = [name for name in LIST_QUALITY if name in known]
    unattacked = ["unattacked"] if results.attacks else []
    return [*quality, *listed, *unattacked, *results.attacks]


def classifiers(results: Results) -> pd.DataFrame:
    """One row a (model, quantity of metrics.json): n and percent with its interval.

    delta_points says how far it lies above the model without a defense; as on the page, nothing of
    a model that trained longer than that one.
    """
    rows = quantities(results)
    rows = rows[rows["quantity"].isin(list(QUALITY))].astype({"percent": "float64"})
    base = rows[rows["model"] == results.baseline].set_index("quantity")["percent"]
    delta = rows["percent"] - rows["quantity"].map(base).astype("float64")
    alone = rows["model"].isin([results.baseline, *results.trained_longer])
    return rows.assign(delta_points=delta.mask(alone)).reset_index(drop=True)


def defense_comparison(results: Results) -> pd.DataFrame:
    """One row a model: defense, columns of each quantity, seconds of training by the clock.

    The columns are <quantity>_percent, _low_percent, _high_percent and _n; unknown is empty.
    """
    measured = quantities(results).set_index(["model", "quantity"])
    rows = []
    for model, spec in results.study.models.items():
        row: dict[str, Any] = {"model": model, "defense": spec.defense}
        row |= {"success_rank": results.rank, "success_epsilon": results.epsilon}
        for quantity in quantity_names(results):
            there = (model, quantity) in measured.index
            for column in ("percent", "low_percent", "high_percent", "n"):
                name = f"{quantity}_{column}"
                row[name] = measured.loc[(model, quantity), column] if there else None
        row["training_seconds"] = results.training_seconds.get(model)
        rows.append(row)
    table = pd.DataFrame(rows)
    counts = [column for column in table if str(column).endswith("_n")]
    return table.astype(dict.fromkeys(counts, "Int64"))


def training(results: Results) -> pd.DataFrame:
    """One row an epoch of a model that was trained here: columns of schema.HISTORY, and those of
    own_columns where a model has them.
    """
    parts = [epochs.assign(model=model) for model, epochs in results.history.items()]
    table = (
        pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=schema.HISTORY.names)
    )
    own = {*own_columns.DRIFT_HISTORY.names, *own_columns.TEXTURE_HISTORY.names}
    columns = dict.fromkeys(
        ["model", *schema.HISTORY.names, *(name for name in table if name in own)]
    )
    return table.reindex(columns=list(columns))


def chance(results: Results) -> tuple[float, float] | None:
    """Accuracy and share of its category, in percent, that a guess has.

    The first guess always names the largest category of the test split. The second draws ten
    articles at random. None without test articles, or categories.
    """
    catalog = results.labels
    test = catalog.loc[catalog["split"] == "test", "category"].value_counts()
    if len(catalog) < 2 or not len(test) or not catalog["category"].any():
        return None
    sizes = catalog["category"].value_counts().to_numpy()
    pairs_alike = float((sizes * (sizes - 1)).sum())
    pairs = len(catalog) * (len(catalog) - 1)
    return 100.0 * test.iloc[0] / test.sum(), 100.0 * pairs_alike / pairs


def _quality(results: Results) -> pd.DataFrame:
    rows = []
    for model, metrics in results.metrics.items():
        for quantity, count in QUALITY.items():
            fraction, n = metrics.get(quantity), metrics.get(count)
            if fraction is not None and n:
                shares_of_n = (fraction, *map(float, wilson(round(fraction * n), n)))
                rows.append((model, quantity, int(n), *(100.0 * share for share in shares_of_n)))
    return pd.DataFrame(
        rows, columns=["model", "quantity", "n", "percent", "low_percent", "high_percent"]
    )


def _unattacked(results: Results) -> pd.DataFrame:
    each = results.outcomes.drop_duplicates(["model", "tuple_id"])
    hits = each[["model", "target_id"]].assign(won=each["clean_rank"] <= results.rank)
    return shares(hits, ["model"]).assign(quantity="unattacked")
