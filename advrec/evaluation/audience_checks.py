"""The examination of attacks on whole audiences: what an evaluation concludes from its probes. Free
of torch.

As in `checks`, with HR@K in the place of success: what share of its audience an article reaches.
"""

import itertools
from collections.abc import Sequence

import pandas as pd

from advrec.evaluation import bootstrap, probes
from advrec.evaluation.checks import budget_kept
from advrec.evaluation.probes import EVERYTHING, budgets
from advrec.evaluation.verdicts import (
    GAIN,
    Check,
    Difference,
    judged,
    side,
    unknown,
    worst,
)
from advrec.run import promotions
from advrec.run.cells import PROMOTION_CHECKS
from advrec.run.directory import Run
from advrec.run.tables import read_outcomes, refuse_copies
from advrec.spec.budgets import shown
from advrec.spec.study import Study

MOST = 50.0
"""Percent of its audience: where a picture without a limit reaches so many, it need not reach more
than the largest budget does. One picture does not suit everybody: on drawn garments, 19 % of VBPR's
users at rank 10.
"""
MASKED = (
    "gradients masked? Trust no white-box number of this model; look for rounding, saturation or "
    "randomness in its encoder"
)


def examine(run: Run, study: Study) -> list[tuple[str, Check]]:
    """Each model with each check of attacks on its audience, in the study's order.

    Raises:
        AdvrecError: rows stand twice.
    """
    wanted = [cell for cell in probes.cells(study) if cell.part == PROMOTION_CHECKS]
    if not wanted:
        return []
    evaluation = study.evaluation
    columns = promotions.promotions(evaluation.ranks, evaluation.round_trips, evaluation.seen)
    own = read_outcomes(run.promotions, columns).to_pandas()
    found = read_outcomes(run.promotion_checks, promotions.promotions(evaluation.ranks)).to_pandas()
    refuse_copies(found, run.promotion_checks, of="article_id")
    made = {(cell.model, cell.attack.name, each) for cell in wanted for each in cell.epsilons}
    keys = pd.MultiIndex.from_frame(found[["model", "attack", "epsilon"]])
    found = found[keys.isin(made)]
    audiences = {cell.model: cell.audience for cell in wanted}
    return [
        (model, check._replace(name=f"{check.name}, before {audience}"))
        for model, audience in audiences.items()
        for check in judge(study, found[found["model"] == model], own[own["model"] == model])
    ]


def judge(study: Study, found: pd.DataFrame, own: pd.DataFrame) -> list[Check]:
    """The checks of one model before its audience.

    Args:
        found: rows of the probes on it, with the column attack.
        own: rows of the study's own attacks on it, likewise.
    """
    known = _Probes(found, study.evaluation.aim)
    middle, largest = budgets(study)
    white, longer = (probes.AUDIENCE.white, middle), (probes.AUDIENCE.longer, middle)
    weak = "not converged: give the study's attacks more steps or restarts"
    strongest = probes.AUDIENCE.white, largest
    return [
        budget_kept(own, found),
        _no_budget(known),
        known.gain("the attack beats noise", ("noise", largest), strongest, at_least=0.0),
        _monotone(study, known),
        *_strong_enough(study, known, own, longer, weak),
        known.gain("more steps are never worse", white, longer, at_least=-GAIN, remedy=weak),
        known.gain(
            "twice the steps gain nothing to speak of", white, longer, at_most=GAIN, remedy=weak
        ),
        known.gain(
            "a restart gains nothing to speak of",
            white,
            (probes.AUDIENCE.restarted, middle),
            at_most=GAIN,
            remedy=weak,
        ),
        _everything(known, largest),
        known.gain(
            "gradients beat no gradients",
            (probes.AUDIENCE.black_box, largest),
            strongest,
            at_least=0.0,
            remedy=MASKED,
        ),
    ]


class _Probes:
    """Rows of the probes, of articles that have an audience."""

    def __init__(self, rows: pd.DataFrame, aim: int) -> None:
        self.rows, self.aim = rows[rows["audience_size"] > 0], aim
        self.moves = bool((self.rows["score_shift"] != 0.0).any())
        """Some image moves some score; none does of a recommender without images."""

    def reached(self, attack: str, epsilon: float, rows: pd.DataFrame | None = None) -> pd.Series:
        """HR@K (n,) in percent after an attack, indexed by article."""
        known = self.rows if rows is None else rows
        known = known[(known["attack"] == attack) & (known["epsilon"] == epsilon)]
        return 100.0 * known.set_index("article_id")[f"hr_after_{self.aim}"].sort_index()

    def gain(
        self,
        name: str,
        before: tuple[str, float],
        after: tuple[str, float],
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        remedy: str = MASKED,
        outcomes: pd.DataFrame | None = None,
    ) -> Check:
        """HR@K after one attack minus that after another, in points, on the same articles.

        Args:
            outcomes: rows of `after`, where it is no probe.
        """
        first, second = self.reached(*before), self.reached(*after, outcomes)
        both = first.index.intersection(second.index)
        if not len(both):
            return unknown(name)
        first, second = first[both], second[both]
        bounds = bootstrap.means((second - first).to_numpy()[:, None])
        difference = Difference(*(float(each[0]) for each in bounds))
        text = (
            f"{side(*after)} {second.mean():.1f} %, {side(*before)} {first.mean():.1f} % of HR@"
            f"{self.aim}: {difference}, n = {len(both)}"
        )
        if not self.moves or not (first.any() or second.any()):
            return Check(name, "information", f"{text}; {self.nothing}, so nothing is tested", "")
        return Check(name, difference.keeps(at_least, at_most), text, remedy)

    @property
    def nothing(self) -> str:
        return "nobody is reached" if self.moves else "no image moves any score"


def _no_budget(known: _Probes) -> Check:
    rows = known.rows[(known.rows["attack"] == "fgsm") & (known.rows["epsilon"] == 0.0)]
    after = [name for name in rows.columns if "_after" in name]
    changed = (rows[after].to_numpy() != rows[_before(after)].to_numpy()).any(axis=1)
    changed |= (rows[["improved", "score_shift"]] != 0.0).any(axis=1).to_numpy()
    text = f"{int(changed.sum())} of {len(rows)} articles have other ranks at budget 0 than before"
    remedy = "a fault of advrec: please report it; no number of this run counts"
    return judged("no budget, no change", not changed.any(), len(rows), text, remedy)


def _before(after: Sequence[str]) -> list[str]:
    return [name.replace("_after", "_before") for name in after]


def _monotone(study: Study, known: _Probes) -> Check:
    name, white = "exposure rises with the budget", probes.AUDIENCE.white
    epsilons = [epsilon for epsilon in study.evaluation.epsilons if epsilon > 0]
    steps = [
        known.gain("", (white, smaller), (white, larger), at_least=-GAIN)
        for smaller, larger in itertools.pairwise(epsilons)
    ]
    steps = [step for step in steps if step.verdict != "not measured"]
    if not steps:
        return Check(name, "not measured", "", "needs two budgets above 0")
    reached = {epsilon: known.reached(white, epsilon) for epsilon in epsilons}
    share = ", ".join(
        f"{own.mean():.1f} % at {shown(epsilon)}" for epsilon, own in reached.items() if len(own)
    )
    text = f"HR@{known.aim} {share}, n = {min(map(len, reached.values()))}"
    if all(step.verdict == "information" for step in steps):
        return Check(name, "information", f"{text}; {known.nothing}, so nothing is tested", "")
    remedy = (
        "a larger budget contains the smaller one: the attack gets lost on this model; use "
        "nested: true, or more steps"
    )
    return Check(name, worst(step.verdict for step in steps), text, remedy)


def _strong_enough(
    study: Study, known: _Probes, own: pd.DataFrame, probe: tuple[str, float], remedy: str
) -> list[Check]:
    """The study's strongest attack against a probe; nothing where it has none that goes on whatever
    share it has reached.
    """
    name, (_, epsilon) = "the study's attacks are as strong as the checks'", probe
    names = [
        attack.name
        for attack in study.evaluation.attacks
        if not attack.sources and attack.share is None and attack.goal == "promote"
    ]
    articles = known.reached(*probe).index
    rows = own[
        own["article_id"].isin(articles) & own["attack"].isin(names) & (own["epsilon"] == epsilon)
    ]
    means = {each: known.reached(each, epsilon, rows).mean() for each in rows["attack"].unique()}
    if not names:
        return []
    if not means:
        return [unknown(name)]
    best = max(means, key=lambda each: means[each])
    after = best, epsilon
    return [known.gain(name, probe, after, at_least=-GAIN, remedy=remedy, outcomes=rows)]


def _everything(known: _Probes, largest: float) -> Check:
    """Passed where a picture without a limit reaches more than the largest budget does, or most."""
    unlimited = probes.AUDIENCE.unlimited, EVERYTHING
    name, within = "without a limit more are reached", (probes.AUDIENCE.white, largest)
    more = known.gain(name, within, unlimited, at_least=GAIN)
    is_most = known.reached(*unlimited).mean() >= MOST
    passes = is_most and more.verdict in ("failed", "undecided")
    return more._replace(verdict="passed") if passes else more
