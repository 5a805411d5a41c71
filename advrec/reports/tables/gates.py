"""Gates of a study, judged by its rows: a sentence each, and a table."""

from typing import Any, Literal, NamedTuple

import pandas as pd

from advrec.evaluation.rates import SHARE, shares
from advrec.reports.results import Results
from advrec.reports.tables.rows import records
from advrec.run import schema
from advrec.spec.base import FLOAT
from advrec.spec.gates import Gate

Verdict = Literal["passed", "failed", "not judged"]
COLUMNS = ["model", "attack", "epsilon", "rank", "delivery", "above_percent", "verdict", *SHARE]


class Judged(NamedTuple):
    """A gate with its verdict."""

    gate: Gate
    name: str
    """The judged cell, in words."""
    verdict: Verdict
    reason: str
    """Measurement and bound, or the reason why there is none."""
    seconds: float
    """Time of the attacks behind it."""
    measured: dict[str, Any]
    """Columns of SHARE; none where no tuple was measured."""

    @property
    def sentence(self) -> str:
        """The verdict with its reason, in one sentence."""
        return f"gate {self.verdict}: {self.name}: {self.reason}"


def judge(results: Results) -> list[Judged]:
    """Judge every gate of the study, in its order.

    A gate fails where the lower bound of the interval of `rates.shares` lies above its `above`; or
    where all its work was set aside. While blocks of its attack on its model are missing it is not
    judged.
    """
    return [_judged(results, gate) for gate in results.study.fail_if]


def gates(results: Results) -> pd.DataFrame:
    """One row a gate: the cell that it names, verdict, and success with its interval."""
    rows = [
        {**each.gate.model_dump(), "verdict": each.verdict, **each.measured}
        for each in judge(results)
    ]
    table = pd.DataFrame(rows).rename(columns={"above": "above_percent"})
    return table.reindex(columns=COLUMNS)


def _judged(results: Results, gate: Gate) -> Judged:
    rows, blocks = results.outcomes, results.blocks
    blocks = blocks[blocks["part"] == "attacks"]
    column = "adversarial_rank" if gate.delivery == FLOAT else schema.delivered(gate.delivery)[1]
    cell = rows[
        (rows["model"] == gate.model)
        & (rows["attack"] == gate.attack)
        & (rows["epsilon"] == gate.epsilon)
        & rows[column].notna()
    ]
    own = blocks[(blocks["model"] == gate.model) & (blocks["attack"] == gate.attack)]
    missing, set_aside = (own[own["state"] == state] for state in ("missing", "set aside"))
    counted = shares(cell.assign(won=cell[column] <= gate.rank), ["model"])
    measured = {key: records(counted)[0][key] for key in SHARE} if len(counted) else {}
    verdict: Verdict
    if len(missing):
        verdict, measured = "not judged", {}
        reason = f"{len(missing)} of {len(own)} blocks are missing; `advrec evaluate` makes them"
    elif not measured:
        verdict = "failed"
        reason = (
            f"nothing was measured, so nothing says that success is at most {gate.above:g} %; "
            f"`advrec status {results.run.directory}` says what was set aside, and why"
        )
    else:
        is_above = measured["low_percent"] > gate.above
        verdict = "failed" if is_above else "passed"
        given_up = f", {set_aside['tuples'].sum():,} set aside" if len(set_aside) else ""
        reason = (
            f"success {measured['percent']:.1f} % (95 % interval {measured['low_percent']:.1f} to "
            f"{measured['high_percent']:.1f}, n = {measured['n']:,} tuples{given_up}); "
            f"its lower bound is {'above' if is_above else 'not above'} {gate.above:g} %"
        )
    name = f"{gate.attack} on {gate.model} at epsilon {results.shown(gate.epsilon)}"
    delivered = "" if gate.delivery == FLOAT else f" after {gate.delivery}"
    name += f", rank {gate.rank}{delivered}"
    return Judged(gate, name, verdict, reason, float(cell["seconds"].sum()), measured)
