"""The examination of an evaluation by itself: what it concludes from its probes. Free of torch.

After Carlini et al. 2019 (On evaluating adversarial robustness) and the flags of AutoAttack (Croce
& Hein 2020): an attack that is too weak, or that a model only hides its gradients from, makes a
model look safe.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import pandas as pd

from advrec.evaluation.probes import (
    BLACK_BOX,
    BLIND,
    EVERYTHING,
    LONGER,
    RESTARTED,
    UNLIMITED,
    WHITE_BOX,
    budgets,
    other_model,
    transfer_name,
)
from advrec.evaluation.rates import clustered, paired_difference, wilson
from advrec.evaluation.verdicts import GAIN, Check, Difference, judged, side, unknown, worst
from advrec.spec import chains
from advrec.spec.attacks import ENSEMBLES
from advrec.spec.audiences import NEIGHBOURS
from advrec.spec.budgets import shown
from advrec.spec.study import Study

NEARLY_ALL = 97.0  # percent, of the interval's upper bound: 60 of 64, or 15 of 16, still pass
FEW = 0.01  # of the images may have no gradient, by the lower bound of the interval: 2 of 64
SAME = 1e-5  # cosine distance: two embeddings of one image differ by less
KNOWING = "who knows of the ingest does better"
"""The check that models with an ingest have alone."""
COLLAPSED_COSINE, COLLAPSED_RANK = 0.95, 3.0


def judge(
    study: Study,
    model: str,
    rank: int,
    probes: pd.DataFrame,
    outcomes: pd.DataFrame,
    health: Mapping[str, Any],
) -> list[Check]:
    """The checks of one model.

    Args:
        rank: success is a rank of at most this.
        probes: rows of the cells of `cells`, with the columns model and attack.
        outcomes: rows of the study's own attacks, likewise.
        health: what health.measure gave; empty if it is not there. Where no tuples are attacked the
            checks are those of it alone.
    """
    own = outcomes[outcomes["model"] == model]
    if not study.evaluation.measures(NEIGHBOURS):
        return _health(health)
    known = _Probes(probes[probes["model"] == model], rank)
    middle, largest = budgets(study)
    or_auto = (
        ""
        if any(attack.attack in ENSEMBLES for attack in study.evaluation.attacks)
        else ", or use auto"
    )
    weak = f"not converged: give the study's attacks more steps or restarts{or_auto}"
    other = transfer_name(other_model(study, model) or "")
    return [
        budget_kept(own, known.rows),
        _no_budget(known),
        _monotone(study, known, or_auto),
        _strong_enough(study, known, own, middle, weak),
        *_converged(known, middle, weak),
        _everything(known),
        *_unmasked(known, largest, other),
        *(_knowing(known, largest) if chains.ingests(study.models, model) else ()),
        known.gain("one gradient step against noise", ("noise", largest), ("fgsm", largest)),
        *_health(health),
    ]


def _converged(known: "_Probes", epsilon: float, remedy: str) -> list[Check]:
    """Twice the steps and one more restart against the probe."""
    probe, longer = (WHITE_BOX, epsilon), (LONGER, epsilon)
    few, restart = "twice the steps gain nothing to speak of", "a restart gains nothing to speak of"
    return [
        known.gain("more steps are never worse", probe, longer, at_least=0.0, remedy=remedy),
        known.gain(few, probe, longer, at_most=GAIN, remedy=remedy),
        known.gain(restart, probe, (RESTARTED, epsilon), at_most=GAIN, remedy=remedy),
    ]


def _unmasked(known: "_Probes", epsilon: float, other: str) -> list[Check]:
    """Gradients against no gradients, and against those of another model."""
    masked = (
        "gradients masked? Trust no white-box number of this model; look for rounding, "
        "saturation or randomness in it"
    )
    probe = (WHITE_BOX, epsilon)
    blind, foreign = "gradients beat no gradients", "gradients beat another model's"
    return [
        known.gain(blind, (BLACK_BOX, epsilon), probe, at_least=0.0, remedy=masked),
        known.gain(foreign, (other, epsilon), probe, at_least=0.0, remedy=masked),
    ]


def _knowing(known: "_Probes", epsilon: float) -> list[Check]:
    """An attack that knows of the ingest against one that is blind to it (Athalye et al. 2018)."""
    remedy = (
        "gradients obfuscated at the door? Trust no white-box number of this model; look at the "
        "slope of its ingest"
    )
    sides = (BLIND, epsilon), (WHITE_BOX, epsilon)
    return [known.gain(KNOWING, *sides, at_least=0.0, remedy=remedy)]


class _Probes:
    def __init__(self, rows: pd.DataFrame, rank: int) -> None:
        self.rows, self.rank = rows, rank

    def ranks(self, attack: str, epsilon: float) -> "pd.Series[int]":
        """Ranks of the attacked articles (n,), indexed by tuple."""
        rows = self.rows[(self.rows["attack"] == attack) & (self.rows["epsilon"] == epsilon)]
        return rows.set_index("tuple_id")["adversarial_rank"].sort_index()

    @property
    def targets(self) -> "pd.Series[int]":
        """Target articles (n,), indexed by tuple."""
        return self.rows.drop_duplicates("tuple_id").set_index("tuple_id")["target_id"]

    def gain(
        self,
        name: str,
        before: tuple[str, float],
        after: tuple[str, float],
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        remedy: str = "",
    ) -> Check:
        """Success of `after` minus that of `before`, in points; see `_compare`."""
        first = side(*before), self.ranks(*before) <= self.rank
        second = side(*after), self.ranks(*after) <= self.rank
        return _compare(
            name, first, second, self.targets, at_least=at_least, at_most=at_most, remedy=remedy
        )


def _compare(
    name: str,
    before: tuple[str, "pd.Series[bool]"],
    after: tuple[str, "pd.Series[bool]"],
    targets: "pd.Series[int]",
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    remedy: str = "",
) -> Check:
    """Success of one attack minus another's on the same tuples, in points. It passes where the
    difference keeps the bound, fails where its whole interval lies beyond, and is undecided
    between.
    """
    (first_label, first), (second_label, second) = before, after
    tuples = first.index.intersection(second.index)
    if not len(tuples):
        return unknown(name)
    differences = second[tuples].astype(int) - first[tuples].astype(int)
    bounds = (100.0 * bound for bound in paired_difference(differences, targets[tuples]))
    difference = Difference(100.0 * float(differences.mean()), *bounds)
    text = (
        f"{second_label} {_percent(second[tuples])}, {first_label} {_percent(first[tuples])}: "
        f"{difference}, n = {len(tuples)}"
    )
    if at_least is None and at_most is None:
        return Check(name, "information", text, "")
    if not (first[tuples].any() or second[tuples].any()):
        return Check(name, "information", f"{text}; nothing succeeds, so nothing is tested", "")
    return Check(name, difference.keeps(at_least, at_most), text, remedy)


def _strong_enough(
    study: Study, known: _Probes, outcomes: pd.DataFrame, epsilon: float, remedy: str
) -> Check:
    """The strongest white-box attack of the study against a probe, on the probe's tuples."""
    name, probe = (
        "the study's attacks are as strong as the checks'",
        known.ranks(LONGER, epsilon) <= known.rank,
    )
    white = [attack.name for attack in study.evaluation.attacks if not attack.sources]
    rows = outcomes[
        outcomes["attack"].isin(white)
        & (outcomes["epsilon"] == epsilon)
        & outcomes["tuple_id"].isin(probe.index)
    ]
    if not len(rows):
        return unknown(name)
    solved = (rows["adversarial_rank"] <= known.rank).groupby(rows["attack"]).mean()
    best = max((str(attack) for attack in solved.index), key=lambda attack: float(solved[attack]))
    own = (
        rows[rows["attack"] == best].set_index("tuple_id")["adversarial_rank"].sort_index()
        <= known.rank
    )
    return _compare(
        name,
        (side(LONGER, epsilon), probe),
        (side(best, epsilon), own),
        known.targets,
        at_least=0.0,
        remedy=remedy,
    )


def budget_kept(outcomes: pd.DataFrame, probes: pd.DataFrame) -> Check:
    """The check that no image of rows, the study's and the probes', is beyond its budget."""
    rows = pd.concat([outcomes, probes])
    # linf, and linf_D of the images that were made for a delivery D.
    largest = rows[[name for name in rows.columns if name.startswith("linf")]].astype("float64")
    allowed = rows["epsilon"].astype("float32").astype("float64")
    broken, images = int(largest.gt(allowed, axis=0).sum().sum()), int(largest.count().sum())
    text = (
        f"{broken} of {images} images beyond their budget; one outside [0, 1] would have "
        "stopped the evaluation"
    )
    remedy = "a fault of advrec: please report it; no number of this run counts"
    return judged("budget and box are kept", broken == 0, len(rows), text, remedy)


def _no_budget(known: _Probes) -> Check:
    rows = known.rows[(known.rows["attack"] == "fgsm") & (known.rows["epsilon"] == 0.0)]
    # Ranks may differ by one where two articles are equally far but for rounding, which depends on
    # the batch.
    difference = (
        float((rows["adversarial_distance"] - rows["clean_distance"]).abs().max())
        if len(rows)
        else 0.0
    )
    text = (
        f"distances at budget 0 differ from the clean ones by at most {difference:.1e}, n = "
        f"{len(rows)}"
    )
    remedy = (
        "the model embeds the same image in different ways: put it into evaluation mode, remove "
        "its randomness"
    )
    return judged("no budget, no change", difference < SAME, len(rows), text, remedy)


def _monotone(study: Study, known: _Probes, or_auto: str) -> Check:
    epsilons = [epsilon for epsilon in study.evaluation.epsilons if epsilon > 0]
    steps = [
        known.gain("", (WHITE_BOX, smaller), (WHITE_BOX, larger), at_least=0.0)
        for smaller, larger in itertools.pairwise(epsilons)
    ]
    measured = [step for step in steps if step.verdict != "not measured"]
    share = ", ".join(
        f"{_percent(known.ranks(WHITE_BOX, e) <= known.rank)} at {shown(e)}"
        for e in epsilons
        if len(known.ranks(WHITE_BOX, e))
    )
    remedy = (
        "a larger budget contains the smaller one: the attack gets lost on this model; use "
        f"nested: true{or_auto}"
    )
    n = min((len(known.ranks(WHITE_BOX, epsilon)) for epsilon in epsilons), default=0)
    name = "success rises with the budget"
    if not measured:
        return Check(name, "not measured", "", "needs two budgets above 0")
    return Check(name, worst(step.verdict for step in steps), f"{share}, n = {n}", remedy)


def _everything(known: _Probes) -> Check:
    solved = known.ranks(UNLIMITED, EVERYTHING) <= known.rank
    n = len(solved)
    _, low, high = (
        100.0 * bound for bound in clustered(solved, known.targets.reindex(solved.index))
    )
    text = f"{_percent(solved)} at budget {EVERYTHING:g} ({low:.1f} to {high:.1f}), n = {n}"
    remedy = (
        "with every pixel free an attack should succeed: gradients masked? Look for rounding, "
        "saturation or randomness in the model"
    )
    return judged("without a limit nearly all succeed", high >= NEARLY_ALL, n, text, remedy)


def _health(health: Mapping[str, Any]) -> list[Check]:
    names = ("gradients are not zero", "two forward passes agree", "embeddings are spread out")
    if not health:
        return [unknown(name) for name in names]
    n, zeros = health["n"], health["zero_gradients"]
    broken = health.get("broken_gradients", 0)  # which runs of before 0.3 have not counted
    difference = max(health["repeat_difference"], health["alone_difference"])
    spread = (
        health["mean_cosine"] <= COLLAPSED_COSINE and health["effective_rank"] >= COLLAPSED_RANK
    )
    return [
        judged(
            names[0],
            float(wilson(zeros, n)[0]) <= FEW and health["zero_values"] < 0.5 and not broken,
            n,
            f"{zeros} of {n} images without any gradient; {100 * health['zero_values']:.1f} % of "
            "all gradient values are zero"
            + (f"; {broken} of {n} images with gradients that are not finite" if broken else ""),
            "not finite: add a small number where the model takes a root or divides"
            if broken
            else "gradients masked: something in the model is flat or saturated, and attacks by "
            "gradients cannot see through it",
        ),
        judged(
            names[1],
            difference < SAME,
            n,
            "cosine distance of one image's embeddings at most "
            f"{max(0.0, health['repeat_difference']):.1e} in the same batch twice, "
            f"{max(0.0, health['alone_difference']):.1e} alone, n = {n}",
            "the model draws random numbers, or an image's embedding depends on the batch: put "
            "BatchNorm and dropout into evaluation mode",
        ),
        judged(
            names[2],
            spread,
            health["embeddings"],
            f"mean cosine of two articles {health['mean_cosine']:.3f}, effective rank "
            f"{health['effective_rank']:.1f} of "
            f"{health['dimension']}, n = {health['embeddings']}",
            "embeddings have collapsed: ranks turn on tiny differences of distance, in "
            "recommendations as in attacks; train differently",
        ),
    ]


def _percent(solved: "pd.Series[bool]") -> str:
    return f"{100.0 * solved.mean():.1f} %"
