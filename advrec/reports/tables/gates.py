"""Gates of a study, judged by its rows: a sentence each, and a table."""

from typing import Any, Literal, NamedTuple

import pandas as pd

from advrec.evaluation import bootstrap
from advrec.evaluation.rates import SHARE, shares
from advrec.reports.results import Results
from advrec.reports.tables import promotions
from advrec.reports.tables.rows import records
from advrec.run import schema
from advrec.run.cells import PROMOTIONS
from advrec.spec.audiences import NEIGHBOURS
from advrec.spec.base import FLOAT
from advrec.spec.gates import Gate

Verdict = Literal["passed", "failed", "not judged"]
COLUMNS = [
    *("model", "attack", "audience", "epsilon", "rank", "delivery"),
    *("above_percent", "verdict", *SHARE),
]


class Judged(NamedTuple):
    """A gate with its verdict."""

    gate: Gate
    audience: str
    """Before whom it judges."""
    name: str
    """The judged cell, in words."""
    verdict: Verdict
    reason: str
    """Measurement and bound, or the reason why there is none."""
    seconds: float
    """Time of the attacks behind it."""
    measured: dict[str, Any]
    """Columns of SHARE, those that are known; none where nothing was measured."""

    @property
    def sentence(self) -> str:
        """The verdict with its reason, in one sentence."""
        return f"gate {self.verdict}: {self.name}: {self.reason}"


def judge(results: Results) -> list[Judged]:
    """Judge every gate of the study, in its order.

    A gate fails where the lower bound of its interval lies above its `above`; or where nothing has
    such a bound: all its work was set aside, or one article alone was promoted. The interval is
    that of `rates.shares`, or before an audience a bootstrap over articles. While blocks of its
    attack on its model are missing it is not judged.
    """
    return [_judged(results, gate) for gate in results.study.fail_if]


def gates(results: Results) -> pd.DataFrame:
    """One row a gate: the cell that it names, verdict, and success with its interval; before an
    audience HR@K after the attack.
    """
    rows = [
        {
            **each.gate.model_dump(),
            "audience": each.audience,
            "verdict": each.verdict,
            **each.measured,
        }
        for each in judge(results)
    ]
    table = pd.DataFrame(rows).rename(columns={"above": "above_percent"})
    return table.reindex(columns=COLUMNS)


def _judged(results: Results, gate: Gate) -> Judged:
    attack = results.attack(gate.attack)
    audience = gate.audience or results.whole.audiences_of(gate.model, attack)[0]
    on_tuples = audience == NEIGHBOURS
    blocks = results.blocks
    own = blocks[
        (blocks["part"] == ("attacks" if on_tuples else PROMOTIONS))
        & (blocks["model"] == gate.model)
        & (blocks["attack"] == gate.attack)
    ]
    missing, set_aside = (own[own["state"] == state] for state in ("missing", "set aside"))
    measured, seconds = _tuples(results, gate) if on_tuples else _articles(results, gate)
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
    elif pd.isna(measured["low_percent"]):
        verdict = "failed"
        reason = (
            f"HR@{gate.rank} {measured['percent']:.1f} % of one article, which has no interval, so "
            f"nothing says that it is at most {gate.above:g} %; promote more articles"
        )
    else:
        is_above = measured["low_percent"] > gate.above
        verdict = "failed" if is_above else "passed"
        given_up = f", {set_aside['tuples'].sum():,} set aside" if len(set_aside) else ""
        what, how, unit = (
            ("success", "95 % interval", "tuples")
            if on_tuples
            else (f"HR@{gate.rank}", "95 % bootstrap interval over articles", "articles")
        )
        reason = (
            f"{what} {measured['percent']:.1f} % ({how} {measured['low_percent']:.1f} to "
            f"{measured['high_percent']:.1f}, n = {measured['n']:,} {unit}{given_up}); "
            f"its lower bound is {'above' if is_above else 'not above'} {gate.above:g} %"
        )
    name = f"{gate.attack} on {gate.model}{'' if on_tuples else f' before {audience}'}"
    delivered = "" if gate.delivery == FLOAT else f" after {gate.delivery}"
    name += f" at epsilon {results.shown(gate.epsilon)}, rank {gate.rank}{delivered}"
    return Judged(gate, audience, name, verdict, reason, seconds, measured)


def _tuples(results: Results, gate: Gate) -> tuple[dict[str, Any], float]:
    """Success on tuples, and the seconds of the attacks."""
    rows = results.outcomes
    column = "adversarial_rank" if gate.delivery == FLOAT else schema.delivered(gate.delivery)[1]
    cell = rows[
        (rows["model"] == gate.model)
        & (rows["attack"] == gate.attack)
        & (rows["epsilon"] == gate.epsilon)
        & rows[column].notna()
    ]
    counted = shares(cell.assign(won=cell[column] <= gate.rank), ["model"])
    measured = {key: records(counted)[0][key] for key in SHARE} if len(counted) else {}
    return measured, float(cell["seconds"].sum())


def _articles(results: Results, gate: Gate) -> tuple[dict[str, Any], float]:
    """HR@K of promoted articles after the attack, and the seconds of the attacks."""
    rows = promotions.rows(results)
    cell = rows[
        (rows["model"] == gate.model)
        & (rows["attack"] == gate.attack)
        & (rows["epsilon"] == gate.epsilon)
        & (rows["delivery"] == gate.delivery)
    ]
    if cell.empty:
        return {}, 0.0
    found = bootstrap.bounded(100.0 * cell[[f"hr_after_{gate.rank}"]].set_axis(["percent"], axis=1))
    measured = {"n": len(cell), "percent": found["percent"]}
    measured |= {f"{bound}_percent": found[f"percent_{bound}"] for bound in ("low", "high")}
    return measured, float(cell["seconds"].sum())
