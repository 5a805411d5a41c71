"""Differences of two runs, by paired tests: their tuples are the same articles."""

from typing import NamedTuple

import pandas as pd
import pyarrow.parquet as pq

from advrec.errors import ConfigError
from advrec.evaluation.rates import CELL, clustered_sign, mcnemar, paired_difference
from advrec.reports.results import Results
from advrec.reports.tables import promotions_against
from advrec.run import schema
from advrec.run.tables import read_table

COLUMNS = [
    *(*CELL, "rank", "n", "percent", "other_percent", "only_here", "only_other"),
    *("difference_points", "low_points", "high_points", "p_value", "clustered_p_value"),
]


class Comparison(NamedTuple):
    """One run beside another one."""

    other: str
    """Its directory."""
    rows: pd.DataFrame
    """against; empty where no tuple was attacked in both."""
    promotions: pd.DataFrame
    """promotions_against.against, likewise."""
    notes: list[str]
    """differences."""

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Those that have rows, by the name of their file."""
        every = {"against": self.rows, "promotions_against": self.promotions}
        return {name: table for name, table in every.items() if len(table)}


def compare(results: Results, other: Results) -> Comparison:
    """Compare two runs.

    Raises:
        ConfigError: they have nothing in common.
    """
    rows, promoted = against(results, other), promotions_against.against(results, other)
    if rows.empty and promoted.empty:
        raise ConfigError(
            f"{other.run.directory}: shares no model, attack, budget and tuple or promoted article "
            f"with {results.run.directory}, all by name; runs of one catalog and of one seed share "
            "their tuples"
        )
    notes = differences(results, other) + promotions_against.notes(results, other)
    return Comparison(str(other.run.directory), rows, promoted, notes)


def against(results: Results, other: Results) -> pd.DataFrame:
    """One row a (model, attack, epsilon) of both runs, at the headline's rank.

    A row counts the n tuples that both runs have: the same target and attack article, by name. Its
    columns are:

    - success here and there, and the tuples that succeed in one run alone;
    - the difference in points with its 95 % interval (rates.paired_difference, by target);
    - McNemar's exact p-value, which takes tuples as independent;
    - the p-value of sums by target, which does not.
    """
    both = _keyed(results).merge(
        _keyed(other), on=[*CELL, "target", "attacked"], suffixes=("", "_other")
    )
    rows = []
    for key, cell in both.groupby(CELL, observed=True, sort=False):
        here, there, n = cell["rank"] <= results.rank, cell["rank_other"] <= results.rank, len(cell)
        only_here, only_other = int((here & ~there).sum()), int((there & ~here).sum())
        differences = here.astype(int) - there.astype(int)
        low, high = paired_difference(differences, cell["target"])
        difference = 100.0 * float(differences.mean())
        shares = (100.0 * here.mean(), 100.0 * there.mean(), only_here, only_other)
        p_values = mcnemar(only_here, only_other), clustered_sign(differences, cell["target"])
        rows.append(
            (*key, results.rank, n, *shares, difference, 100.0 * low, 100.0 * high, *p_values)
        )
    return results.in_study_order(pd.DataFrame(rows, columns=COLUMNS), ["epsilon"])


def differences(results: Results, other: Results) -> list[str]:
    """Sentences on the differences of the runs that bear on the comparison."""
    both = {attack.name for attack in results.study.evaluation.attacks} & {
        attack.name for attack in other.study.evaluation.attacks
    }
    changed = sorted(name for name in both if results.attack(name) != other.attack(name))
    said = [f"Of one name but with other settings: {', '.join(changed)}."] if changed else []
    for model in sorted(results.whole.models.keys() & other.whole.models.keys()):
        here, there = (each.whole.models[model].model_dump() for each in (results, other))
        keys = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
        changes = ", ".join(f"{key} ({here.get(key)} here, {there.get(key)} there)" for key in keys)
        said += [f"The model {model} differs in {changes}."] if keys else []
    sizes = [pq.read_metadata(each.run.catalog).num_rows for each in (results, other)]
    if sizes[0] != sizes[1]:
        said.append(
            f"The catalogs hold {sizes[0]:,} and {sizes[1]:,} articles: "
            "the same rank is harder to reach among more."
        )
    if other.count("missing"):
        said.append(
            f"The other run is unfinished: {other.count('missing'):,} of its "
            f"{len(other.blocks):,} blocks are missing."
        )
    return said


def _keyed(results: Results) -> pd.DataFrame:
    """The outcomes by names of articles; of a pair that comes twice the first."""
    names = read_table(results.run.catalog, schema.CATALOG)["name"].to_pandas()
    rows = results.outcomes
    keyed = pd.DataFrame(
        {
            **{key: rows[key] for key in CELL},
            "target": names.iloc[rows["target_id"]].to_numpy(),
            "attacked": names.iloc[rows["attack_id"]].to_numpy(),
            "rank": rows["adversarial_rank"],
        }
    )
    return keyed.drop_duplicates([*CELL, "target", "attacked"])
