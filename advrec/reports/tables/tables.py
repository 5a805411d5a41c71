"""Results -> tables: one row a thing; percentages are 0..100 and stand beside their n and 95 %
interval.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pandas as pd

from advrec.evaluation.rates import CELL, SHARE, shares, wilson
from advrec.reports.results import Results
from advrec.reports.tables import distances, exposure, trust
from advrec.run import schema
from advrec.spec.base import SPLITS
from advrec.spec.study import AUTO

DASH = "–"  # noqa: RUF001 - what stands where a value is not known
QUALITY = {
    "clean_accuracy": "n",
    "adversarial_accuracy": "n",
    "strong_adversarial_accuracy": "n_strong",
    "top5_accuracy": "n",
    "adversarial_top5_accuracy": "n",
    "texture_top1_precision": "n_textures",
    "adversarial_texture_top1_precision": "n_textures",
}
"""The fractions of metrics.json and the key of the number of articles behind each."""
LIST_QUALITY = ("same_category", "same_texture", "overlap")
"""The quantities of `recommendations`."""
QUANTITY_COLUMNS = ["model", "defense", "quantity", "n", "percent", "low_percent", "high_percent"]
DELIVERED_COLUMNS = [*CELL, "rank", "delivery", *SHARE]
WINNER_COLUMNS = [*CELL, "winner", *SHARE]
BUDGET_TOLERANCE = 1e-6
"""float32 pixels: an excess below this is rounding, not a broken budget."""


def all_tables(results: Results) -> dict[str, pd.DataFrame]:
    """Every table by the name of its file."""
    return {
        "success": success(results),
        "delivered": delivered(results),
        "winners": winners(results),
        "checks": trust.checks(results),
        "worst_case": exposure.worst_case(results),
        "categories": exposure.categories(results, strongest(results)),
        "convergence": exposure.convergence(results),
        "defects": exposure.defects(results),
        "quantile_lines": distances.quantile_lines(distances.pairs(results, strongest(results))),
        "classifiers": classifiers(results),
        "training": training(results),
        "defense_comparison": defense_comparison(results),
        "blocks": blocks(results),
        "cost": cost(results),
        "budget": budget(results),
        "recommendations": recommendations(results),
        "index_recall": index_recall(results),
        "preparation": preparation(results),
        "splits": splits(results),
    }


def success(results: Results) -> pd.DataFrame:
    """One row a (model, attack, epsilon, rank), in the study's order; columns of
    rates.success_table, and published_n and published_percent where the study that advrec grew from
    has published the same.
    """
    return results.success


def headline(results: Results) -> pd.DataFrame:
    """The rows of `success` at the headline's rank and budget: one a (model, attack)."""
    rows = success(results)
    chosen = (rows["rank"] == results.rank) & (rows["epsilon"] == results.epsilon)
    return rows[chosen].reset_index(drop=True)


def strongest(results: Results) -> dict[str, dict[str, Any]]:
    """By model, the row of `headline` with the highest success, of equal ones the last that the
    study lists; a model without outcomes is absent.
    """
    best: dict[str, dict[str, Any]] = {}
    for row in records(headline(results)):
        if row["model"] not in best or row["percent"] >= best[row["model"]]["percent"]:
            best[row["model"]] = row
    return best


@lru_cache(maxsize=1)  # asked for by most of the page
def quantities(results: Results) -> pd.DataFrame:
    """What defenses are compared by, tidy: one row a (model, quantity), with n and interval; what
    is unknown is absent.

    A quantity is a fraction of metrics.json, one of `recommendations`, `unattacked` (attack
    articles that stand at the rank before any attack) or an attack's name (success at the
    headline's rank and budget).
    """
    attacked = headline(results).rename(columns={"attack": "quantity"})
    parts = [_quality(results), _unattacked(results), attacked, results.recommendations]
    measured = [part for part in parts if len(part)]
    if not measured:
        return pd.DataFrame(columns=QUANTITY_COLUMNS)
    made = pd.concat(measured, ignore_index=True)
    return made.assign(
        defense=made["model"].map(lambda model: results.study.models[model].defense)
    )[QUANTITY_COLUMNS]


def classifiers(results: Results) -> pd.DataFrame:
    """One row a (model, quantity of metrics.json): n, percent with its interval, and how many
    points it lies above the model without a defense (delta_points).
    """
    rows = quantities(results)
    rows = rows[rows["quantity"].isin(list(QUALITY))].astype({"percent": "float64"})
    base = rows[rows["model"] == results.baseline].set_index("quantity")["percent"]
    delta = rows["percent"] - rows["quantity"].map(base).astype("float64")
    return rows.assign(delta_points=delta.where(rows["model"] != results.baseline)).reset_index(
        drop=True
    )


def training(results: Results) -> pd.DataFrame:
    """One row an epoch of a model that was trained here: columns of schema.HISTORY."""
    parts = [epochs.assign(model=model) for model, epochs in results.history.items()]
    made = (
        pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=schema.HISTORY.names)
    )
    return made.reindex(columns=["model", *schema.HISTORY.names])


def defense_comparison(results: Results) -> pd.DataFrame:
    """One row a model: defense, then <quantity>_percent, _low_percent, _high_percent and _n, and
    the seconds that its training took by the clock; unknown is empty.
    """
    known = quantities(results).set_index(["model", "quantity"])
    rows = []
    for model, spec in results.study.models.items():
        row: dict[str, Any] = {"model": model, "defense": spec.defense}
        row |= {"success_rank": results.rank, "success_epsilon": results.epsilon}
        for quantity in quantity_names(results):
            there = (model, quantity) in known.index
            for column in ("percent", "low_percent", "high_percent", "n"):
                name = f"{quantity}_{column}"
                row[name] = known.loc[(model, quantity), column] if there else None
        row["training_seconds"] = results.training_seconds.get(model)
        rows.append(row)
    made = pd.DataFrame(rows)
    counts = [column for column in made if str(column).endswith("_n")]
    return made.astype(dict.fromkeys(counts, "Int64"))


def quantity_names(results: Results) -> list[str]:
    """In the order of the comparison."""
    listed = [
        quantity
        for quantity in LIST_QUALITY
        if (results.recommendations["quantity"] == quantity).any()
    ]
    return [*QUALITY, *listed, "unattacked", *results.attacks]


def blocks(results: Results) -> pd.DataFrame:
    """One row a (model, attack): tuples and blocks asked for, those done, set aside and missing."""
    rows = []
    for (model, attack), cell in results.blocks.groupby(["model", "attack"], sort=False):
        states = cell["state"].value_counts()
        row = {"model": model, "attack": attack, "tuples": results.tuples}
        row["tuples_done"] = int(cell.loc[cell["state"] == "done", "tuples"].sum())
        row |= {"blocks": len(cell), "done": int(states.get("done", 0))}
        row |= {
            "set_aside": int(states.get("set aside", 0)),
            "missing": int(states.get("missing", 0)),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def delivered(results: Results) -> pd.DataFrame:
    """One row a (model, attack, epsilon, delivery): success at the headline's rank of the image as
    it was computed (float) and as it comes back from each delivery of the study; empty where the
    study has no other delivery than float.
    """
    columns = {"float": "adversarial_rank"} | {
        delivery: schema.delivered(delivery)[1] for delivery in results.deliveries
    }
    if not results.deliveries:
        return pd.DataFrame(columns=DELIVERED_COLUMNS)
    parts = []
    for delivery, column in columns.items():
        known = results.outcomes[results.outcomes[column].notna()]
        hits = known[[*CELL, "target_id"]].assign(won=known[column] <= results.rank)
        parts.append(shares(hits, CELL).assign(delivery=delivery))
    made = pd.concat(parts).assign(rank=results.rank)
    return results.in_study_order(made, ["epsilon"])[DELIVERED_COLUMNS]


def winners(results: Results, *, restarts_as_one: bool = False) -> pd.DataFrame:
    """One row a (model, attack, epsilon, winner) of the attacks that are made of several: n images,
    those that this winner made (successes), and their share; the winner of most images first.

    Args:
        restarts_as_one: count all restarts of an attack as one winner.
    """
    several = [
        spec.name
        for spec in results.study.evaluation.attacks
        if spec.attack == AUTO or spec.restarts
    ]
    rows = results.outcomes[results.outcomes["attack"].isin(several)]
    names = (
        rows["winner"].str.replace(r" restart \d+$", ", restarted", regex=True)
        if restarts_as_one
        else rows["winner"]
    )
    images = rows[[*CELL, "target_id"]].assign(winner=names)
    counted = (
        images.groupby(["attack", "winner"], observed=True)
        .size()
        .sort_values(ascending=False, kind="stable")
        .reset_index()
    )
    parts = [
        shares(
            images[images["attack"] == row["attack"]].assign(won=images["winner"] == row["winner"]),
            CELL,
        ).assign(winner=row["winner"])
        for row in records(counted)
    ]
    return (
        results.in_study_order(pd.concat(parts), ["epsilon"])[WINNER_COLUMNS]
        if parts
        else pd.DataFrame(columns=WINNER_COLUMNS)
    )


def cost(results: Results) -> pd.DataFrame:
    """One row a (model, attack): how the study runs the attack, n (rows, tuple x epsilon), rows
    that a smaller budget had solved, means of steps, passes and seconds, and seconds in all.
    """
    grouped = results.outcomes.astype({"seconds": "float64"}).groupby(
        ["model", "attack"], observed=True
    )
    made = grouped.agg(
        n=("tuple_id", "size"),
        inherited=("inherited", "sum"),
        gradient_steps_per_row=("gradient_steps", "mean"),
        forward_passes_per_row=("forward_passes", "mean"),
        seconds_per_row=("seconds", "mean"),
        seconds=("seconds", lambda seconds: seconds.sum(min_count=1)),  # nan where none is known
    ).reset_index()
    specs = [results.attack(name) for name in made["attack"]]
    settings = {"stop": "stop", "nested": "nested", "restarts": "restarts", "from": "source"}
    for place, (column, field) in enumerate(settings.items(), start=2):
        made.insert(place, column, [getattr(spec, field) for spec in specs])
    return results.in_study_order(made, [])


def budget(results: Results) -> pd.DataFrame:
    """One row a (model, attack, epsilon) whose images were measured: how far one leaves its budget,
    in the end and before projection.

    max_excess is max(linf - epsilon), negative where the budget is not used up; max_raw_overshoot
    is max(raw_linf - epsilon), never below 0. Both in pixels of [0, 1].
    """
    rows = results.outcomes[results.outcomes["linf"].notna()].astype(
        {"linf": "float64", "raw_linf": "float64"}
    )
    rows = rows.assign(
        excess=rows["linf"] - rows["epsilon"],
        raw=(rows["raw_linf"] - rows["epsilon"]).clip(lower=0.0),
    )
    grouped = rows.groupby(["model", "attack", "epsilon"], observed=True)
    made = grouped.agg(
        n=("tuple_id", "size"), max_excess=("excess", "max"), max_raw_overshoot=("raw", "max")
    ).reset_index()
    made["within_budget"] = made["max_excess"] <= BUDGET_TOLERANCE
    return results.in_study_order(made, ["epsilon"])


def chance(results: Results) -> tuple[float, float] | None:
    """What knows nothing reaches, in percent: always naming the largest category of the test split,
    and ten articles drawn at random, of which so many have the article's category; None without
    test articles.
    """
    catalog = results.labels
    test = catalog.loc[catalog["split"] == "test", "category"].value_counts()
    if len(catalog) < 2 or not len(test):
        return None
    sizes = catalog["category"].value_counts().to_numpy()
    return 100.0 * test.iloc[0] / test.sum(), 100.0 * float((sizes * (sizes - 1)).sum()) / (
        len(catalog) * (len(catalog) - 1)
    )


def index_recall(results: Results) -> pd.DataFrame:
    """One row a model: recall of the ten nearest neighbours (0..1), queries, and how the index was
    built.
    """
    columns = ["recall_at_10", "queries", "build_s", "m", "ef_construction", "ef_search"]
    rows = [
        {"model": model, **{column: results.index.get(model, {}).get(column) for column in columns}}
        for model in results.study.models
    ]
    return pd.DataFrame(rows, columns=["model", *columns])


def recommendations(results: Results) -> pd.DataFrame:
    """One row a (model, quantity): n articles whose ten nearest are known, and the mean share of
    these ten, in percent with interval, that have the article's category, one of its textures, or a
    place in the list of the model without a defense too (overlap).
    """
    return results.recommendations


def preparation(results: Results) -> pd.DataFrame:
    """One row a step of the preparation: articles left and articles that the step removed."""
    steps = results.preparation.get("steps", [])
    made = pd.DataFrame(steps, columns=["step", "articles"])
    removed = -made["articles"].diff().fillna(0) if len(made) else made["articles"]
    return made.assign(removed=removed.astype("int64"))


def splits(results: Results) -> pd.DataFrame:
    """One row a split: articles and their share in percent."""
    counts = results.preparation.get("splits", {})
    rows = [(split, counts[split]) for split in SPLITS if split in counts]
    made = pd.DataFrame(rows, columns=["split", "articles"])
    total = made["articles"].sum()
    return made.assign(
        percent=100.0 * made["articles"] / total if total else pd.Series(dtype="float64")
    )


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as mappings by column."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def made_on(results: Results, attack: str) -> str:
    """Where an attack's perturbations come from, if not from the model that it is measured on."""
    source = results.attack(attack).source
    return f"made on {source}" if source else ""


def span(counts: Sequence[int]) -> str:
    """One number for equal counts, the smallest and the largest for others, a dash for none."""
    if not counts:
        return DASH
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _quality(results: Results) -> pd.DataFrame:
    rows = []
    for model, metrics in results.metrics.items():
        for quantity, count in QUALITY.items():
            fraction, n = metrics.get(quantity), metrics.get(count)
            if fraction is not None and n:
                low, high = wilson(round(fraction * n), n)
                rows.append(
                    (
                        model,
                        quantity,
                        int(n),
                        100.0 * fraction,
                        100.0 * float(low),
                        100.0 * float(high),
                    )
                )
    return pd.DataFrame(
        rows, columns=["model", "quantity", "n", "percent", "low_percent", "high_percent"]
    )


def _unattacked(results: Results) -> pd.DataFrame:
    each = results.outcomes.drop_duplicates(["model", "tuple_id"])
    hits = each[["model", "target_id"]].assign(won=each["clean_rank"] <= results.rank)
    return shares(hits, ["model"]).assign(quantity="unattacked")
