"""Cost of a study as tables: blocks done, steps and seconds, the budget kept, the index."""

import pandas as pd

from advrec.reports.results import Results

DONE = ["model", "attack", "all", "all_done", "blocks", "done", "set_aside", "missing"]
BUDGET_TOLERANCE = 1e-6
"""float32 pixels: an excess below this is rounding, not a broken budget."""


def blocks(results: Results) -> pd.DataFrame:
    """One row a (model, attack): tuples and blocks asked for, done, set aside and missing."""
    return done(results, "attacks").rename(columns={"all": "tuples", "all_done": "tuples_done"})


def done(results: Results, part: str) -> pd.DataFrame:
    """The same of a part of the run, attacks or promotions: `all` are tuples or articles."""
    rows = []
    own = results.blocks[results.blocks["part"] == part]
    for (model, attack), cell in own.groupby(["model", "attack"], sort=False):
        states = cell["state"].value_counts()
        row = {"model": model, "attack": attack, "all": int(cell["tuples"].sum())}
        row["all_done"] = int(cell.loc[cell["state"] == "done", "tuples"].sum())
        row |= {"blocks": len(cell), "done": int(states.get("done", 0))}
        row |= {
            "set_aside": int(states.get("set aside", 0)),
            "missing": int(states.get("missing", 0)),
        }
        rows.append(row)
    return pd.DataFrame(rows, columns=DONE)


def cost(results: Results) -> pd.DataFrame:
    """One row a (model, attack): settings, n, and means of steps, passes and seconds.

    n counts rows (tuple x epsilon). Rows that were not attacked: inherited are those that a smaller
    budget had solved, projected those that were hopeless at the next larger one. The last column is
    seconds in all.
    """
    grouped = results.outcomes.astype({"seconds": "float64"}).groupby(
        ["model", "attack"], observed=True
    )
    table = grouped.agg(
        n=("tuple_id", "size"),
        inherited=("inherited", "sum"),
        projected=("projected", "sum"),
        gradient_steps_per_row=("gradient_steps", "mean"),
        forward_passes_per_row=("forward_passes", "mean"),
        seconds_per_row=("seconds", "mean"),
        seconds=("seconds", lambda seconds: seconds.sum(min_count=1)),  # nan where none is known
    ).reset_index()
    specs = [results.attack(name) for name in table["attack"]]
    settings = ("stop", "nested", "restarts")
    for place, field in enumerate(settings, start=2):
        table.insert(place, field, [getattr(spec, field) for spec in specs])
    made_on = [" ".join(spec.sources) or None for spec in specs]
    table.insert(2 + len(settings), "from", made_on)
    table.insert(3 + len(settings), "through", [" ".join(spec.through) for spec in specs])
    return results.in_study_order(table, [])


def budget(results: Results) -> pd.DataFrame:
    """One row a (model, attack, epsilon) whose images were measured: the budget and its excess.

    max_excess is max(linf - epsilon) of all images, also those made for deliveries, negative where
    the budget is not used up; max_raw_overshoot is max(raw_linf - epsilon), never below 0. Both in
    pixels of [0, 1].
    """
    rows = results.outcomes[results.outcomes["linf"].notna()].astype(
        dict.fromkeys([*results.norms, "raw_linf"], "float64")
    )
    rows = rows.assign(
        excess=rows[results.norms].max(axis=1) - rows["epsilon"],
        raw=(rows["raw_linf"] - rows["epsilon"]).clip(lower=0.0),
    )
    grouped = rows.groupby(["model", "attack", "epsilon"], observed=True)
    table = grouped.agg(
        n=("tuple_id", "size"), max_excess=("excess", "max"), max_raw_overshoot=("raw", "max")
    ).reset_index()
    table["within_budget"] = table["max_excess"] <= BUDGET_TOLERANCE
    return results.in_study_order(table, ["epsilon"])


def index_recall(results: Results) -> pd.DataFrame:
    """One row a model: recall of the ten nearest neighbours (0..1), queries, settings.

    The same of queries that are no copies, and the number of copies, are empty where articles show
    no equal images.
    """
    columns = [
        *("recall_at_10", "queries", "recall_at_10_without_copies", "queries_without_copies"),
        *("copies", "build_s", "m", "ef_construction", "ef_search"),
    ]
    rows = [
        {"model": model, **{column: results.index.get(model, {}).get(column) for column in columns}}
        for model in results.study.models
    ]
    return pd.DataFrame(rows, columns=["model", *columns])
