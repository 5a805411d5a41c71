"""The published success rates (Normann 2020).

They stand beside those of a study with the same attack, budget and defense.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import pandas as pd

RANKS = (1, 3, 5, 10, 20, 30, 40, 50, 100, 500, 1000)


@cache
def success() -> pd.DataFrame:
    """One row a (defense, attack, epsilon, rank): published_percent of published_n tuples.

    Catalog and model were DeepFashion and MobileNetV2.
    """
    with files("advrec.reports.tables").joinpath("published-success.csv").open("rb") as file:
        rows = pd.read_csv(file)
    return rows.rename(columns={"n": "published_n", "success_percent": "published_percent"})


def beside(
    rows: pd.DataFrame, defenses: Mapping[str, str], attacks: Mapping[str, str]
) -> pd.DataFrame:
    """Add the columns published_n and published_percent; empty where nothing was published.

    Args:
        rows: with columns model, attack, epsilon and rank.
        defenses: by model; attacks: what the study's names of attacks mean, by name.
    """
    keyed = rows.assign(
        defense=rows["model"].map(dict(defenses)), _means=rows["attack"].map(dict(attacks))
    )
    known = success().rename(columns={"attack": "_means"})
    table = keyed.merge(known, on=["defense", "_means", "epsilon", "rank"], how="left")
    return table.drop(columns=["defense", "_means"]).astype({"published_n": "Int64"})
