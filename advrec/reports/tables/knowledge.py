"""The ladder of knowledge: success of attacks by what the adversary has."""

from typing import Any

import pandas as pd

from advrec.attacks import names
from advrec.evaluation.rates import SHARE, paired_difference
from advrec.reports.results import Results
from advrec.reports.tables.rows import made_on, records
from advrec.spec.attacks import AUTO, RANK, AttackSpec, family

NAME = "knowledge"
NOTHING, NO_ACCESS, LISTS, DISTANCES, MODEL = RUNGS = (
    "nothing",
    "no access",
    "lists alone",
    "distances",
    "the model",
)
"""The adversary's knowledge, from little to much."""
OF_FAMILY = {"noise": NOTHING, RANK: LISTS, "square": DISTANCES}
ABOVE = ["above_noise", "above_noise_low", "above_noise_high"]
COLUMNS = [
    *("model", "knowledge", "attack", "made_on", "queries", "epsilon", "rank"),
    *SHARE,
    *ABOVE,
]


def rung(attack: AttackSpec, model: str) -> str | None:
    """The knowledge of an adversary of a model who makes this attack; None where it is on no rung.

    Nobody knows what a function of the user's own asks for. An attack that is made on the model
    and on others as well, and minimal-K, which aims at one rank, say nothing of a rung.
    """
    if attack.own or attack.minimal or attack.for_audiences:
        return None
    kind = OF_FAMILY.get(family(attack.attack), MODEL)
    if attack.sources == (model,) or not attack.sources:
        return kind
    return NO_ACCESS if kind == MODEL and model not in attack.sources else None


def ladder(results: Results) -> pd.DataFrame:
    """One row a (model, rung, attack, epsilon, rank): COLUMNS, rung by rung. Empty where a study
    has attacks of one rung alone.

    Of the attacks that know the model only one counts: auto, or else the one that solves most.
    above_noise is the difference to the first attack that knows nothing, in points on the same
    tuples, with its 95 % interval; missing without one.
    """
    parts = [part for model in results.study.models for part in _of_model(results, model)]
    table = pd.DataFrame(parts, columns=COLUMNS)
    return table if table["knowledge"].nunique() > 1 else table.iloc[:0]


def _of_model(results: Results, model: str) -> list[dict[str, Any]]:
    rows = results.success[results.success["model"] == model]
    known = {name: rung(results.attack(name), model) for name in dict.fromkeys(rows["attack"])}
    wins = rows.groupby("attack")["successes"].sum()
    strong = [name for name, kind in known.items() if kind == MODEL]
    autos = [name for name in strong if results.attack(name).attack == AUTO]
    best = next(iter(autos), max(strong, key=wins.__getitem__, default=None))
    noise = next((name for name, kind in known.items() if kind == NOTHING), None)
    chosen = [
        (name, kind) for name, kind in known.items() if kind and (kind != MODEL or name == best)
    ]
    made = []
    for name, kind in sorted(chosen, key=lambda each: RUNGS.index(each[1])):
        for row in records(rows[rows["attack"] == name]):
            above = dict.fromkeys(ABOVE)
            if noise not in (None, name):
                above = dict(zip(ABOVE, _difference(results, row, str(noise)), strict=True))
            made.append(
                row
                | above
                | {
                    "knowledge": kind,
                    "made_on": made_on(results, name),
                    "queries": queries(results, name),
                }
            )
    return made


def queries(results: Results, name: str) -> int:
    """Lists or distances that an attack asks for at most; 0 where it asks for neither."""
    attack = results.attack(name)
    asks = not attack.sources and family(attack.attack) in (RANK, "square")
    return names.parse(attack.attack).number * (1 + attack.restarts) if asks else 0


def _difference(results: Results, row: dict[str, Any], noise: str) -> tuple[float, float, float]:
    """Success of a row minus that of noise, in points, and its interval."""
    every = results.outcomes
    cell = every[(every["model"] == row["model"]) & (every["epsilon"] == row["epsilon"])]
    won = cell.assign(won=cell["adversarial_rank"] <= row["rank"]).set_index("tuple_id")
    mine, theirs = (won[won["attack"] == name] for name in (row["attack"], noise))
    both = mine[mine.index.isin(theirs.index)]
    if both.empty:
        return (float("nan"),) * 3
    difference = both["won"].astype(int) - theirs.loc[both.index, "won"].astype(int)
    low, high = paired_difference(difference, both["target_id"])
    return 100.0 * float(difference.mean()), 100.0 * low, 100.0 * high
