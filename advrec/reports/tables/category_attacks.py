"""The attack on a whole category as a table: what it holds of the users' lists."""

from functools import lru_cache

import pandas as pd

from advrec.reports.results import Results
from advrec.reports.tables.rows import records
from advrec.run import category_attacks as schema
from advrec.run.tables import read_outcomes

COLUMNS = ["model", "towards", "epsilon", "rank", "origin", "target", "articles", "users"]
WORTH = ["chr_before", "chr_after", "ndcg_before", "ndcg_after"]
CHANGE = ["linf_max", "linf_mean", "l2_max", "l2_mean", "seconds"]


@lru_cache(maxsize=1)  # terminal and files ask for it
def category_attacks(results: Results) -> pd.DataFrame:
    """One row a (hybrid, towards, epsilon, rank), in the study's order; none without such attacks.

    All images of the category `origin` are swapped at once. CHR and NDCG, 0..1, are those of its
    articles in the lists of all users.
    """
    whole = results.whole
    wanted, ranks = whole.evaluation.category_attack, whole.evaluation.ranks
    rows = []
    if wanted is not None:
        found = read_outcomes(results.run.category_attacks, schema.category_attacks(ranks))
        known = {(row["model"], row["attack"], row["epsilon"]): row for row in found.to_pylist()}
        rows = [
            {**row, "towards": towards, "rank": rank}
            | {name: row[f"{name}_{rank}"] for name in WORTH}
            for model, spec in whole.hybrids.items()
            for towards in wanted.towards
            for epsilon in whole.evaluation.epsilons
            for row in [known.get((model, towards, epsilon))]
            for rank in ranks
            if spec.compared and row is not None
        ]
    return pd.DataFrame(rows, columns=[*COLUMNS, *WORTH, *CHANGE])


def text(results: Results) -> list[str]:
    """Lines for a terminal, at the largest budget; none without such attacks."""
    table = category_attacks(results)
    if table.empty:
        return []
    aim = results.whole.evaluation.aim
    largest = table[(table["epsilon"] == table["epsilon"].max()) & (table["rank"] == aim)]
    first = records(largest)[0]
    return [
        f"all images of {first['origin']} ({first['articles']:,}) attacked to resemble "
        f"{first['target']}, epsilon {results.shown(first['epsilon'])}; its share of the first "
        f"{aim} places of {first['users']:,} users:",
        *(
            f"  {row['model']}, towards {row['towards']}: "
            f"{100 * row['chr_before']:.1f} % before, {100 * row['chr_after']:.1f} % after"
            for row in records(largest)
        ),
    ]
