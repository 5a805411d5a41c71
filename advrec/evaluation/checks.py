"""How an evaluation examines itself: what it measures beside what the study asks for, and what it
concludes. Free of torch.

After Carlini et al. 2019 (On evaluating adversarial robustness) and the flags of AutoAttack (Croce
& Hein 2020): an attack that is too weak, or that a model only hides its gradients from, makes a
model look safe.
"""

import itertools
from collections.abc import Mapping
from statistics import median_low
from typing import Any, Literal, NamedTuple

import pandas as pd

from advrec.evaluation.rates import clustered, paired_difference, wilson
from advrec.run.cells import Cell
from advrec.spec.study import AUTO, AttackSpec, Stop, Study

Verdict = Literal["passed", "undecided", "failed", "not measured", "information"]

WHITE_BOX, LONGER, RESTARTED, BLACK_BOX = "apgd-50", "apgd-100", "apgd-50-restarted", "square-500"
# At budget 1 an attack may draw any image. APGD loses itself there, in noise that no catalog holds;
# small steps from the clean image do not: on the demo's models it solved 28 of 64 tuples where
# momentum solved all.
UNLIMITED, EVERYTHING = "mifgsm-100", 1.0
NEARLY_ALL = 97.0  # percent, of the interval's upper bound: 60 of 64, or 15 of 16, still pass
FEW = 0.01  # of the images may have no gradient, by the lower bound of the interval: 2 of 64
GAIN = 1.0  # points: what doubled steps or one more restart may still gain
SAME = 1e-5  # cosine distance: two embeddings of one image differ by less
COLLAPSED_COSINE, COLLAPSED_RANK = 0.95, 3.0


class Check(NamedTuple):
    name: str
    verdict: Verdict
    measured: str
    """With n and interval."""
    remedy: str
    """What to do where it failed."""


def cells(study: Study) -> list[Cell]:
    """What is measured for the checks, on the first tuples of the study: a cell an attack and
    model.
    """
    if not study.evaluation.checks:
        return []
    middle, largest = _budgets(study)
    budgets = tuple(epsilon for epsilon in study.evaluation.epsilons if epsilon > 0) or (middle,)
    made = []
    for model in study.compared.models:
        other = _other(study, model)
        probes = [
            (_probe(WHITE_BOX), budgets),
            (_probe(LONGER), (middle,)),
            (_probe(WHITE_BOX, RESTARTED, restarts=1), (middle,)),
            (_probe(BLACK_BOX), (largest,)),
            (_probe(UNLIMITED), (EVERYTHING,)),
            (_probe("fgsm"), tuple(sorted({0.0, largest}))),
            (_probe("noise"), (largest,)),
        ]
        if other is not None:
            probes.append(
                (_probe(WHITE_BOX, _transfer(other), source=other, stop="never"), (largest,))
            )
        made += [
            Cell("checks", model, attack, epsilons, first=study.evaluation.checks)
            for attack, epsilons in probes
        ]
    return made


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
        health: what health.measure gave; empty if it is not there.
    """
    own = outcomes[outcomes["model"] == model]
    known = _Probes(probes[probes["model"] == model], rank)
    middle, largest = _budgets(study)
    masked = "gradients masked? Trust no white-box number of this model; look for rounding, saturation or randomness in it"
    or_auto = (
        "" if any(attack.attack == AUTO for attack in study.evaluation.attacks) else ", or use auto"
    )
    weak = f"not converged: give the study's attacks more steps or restarts{or_auto}"
    other = _transfer(_other(study, model) or "")
    return [
        _budget_kept(own, known.rows),
        _no_budget(known),
        _monotone(study, known, or_auto),
        _strong_enough(study, known, own, middle, weak),
        known.gain(
            "more steps are never worse",
            (WHITE_BOX, middle),
            (LONGER, middle),
            at_least=0.0,
            remedy=weak,
        ),
        known.gain(
            "twice the steps gain nothing to speak of",
            (WHITE_BOX, middle),
            (LONGER, middle),
            at_most=GAIN,
            remedy=weak,
        ),
        known.gain(
            "a restart gains nothing to speak of",
            (WHITE_BOX, middle),
            (RESTARTED, middle),
            at_most=GAIN,
            remedy=weak,
        ),
        _everything(known),
        known.gain(
            "gradients beat no gradients",
            (BLACK_BOX, largest),
            (WHITE_BOX, largest),
            at_least=0.0,
            remedy=masked,
        ),
        known.gain(
            "gradients beat another model's",
            (other, largest),
            (WHITE_BOX, largest),
            at_least=0.0,
            remedy=masked,
        ),
        known.gain("one gradient step against noise", ("noise", largest), ("fgsm", largest)),
        *_health(health),
    ]


class _Probes:
    def __init__(self, rows: pd.DataFrame, rank: int) -> None:
        self.rows, self.rank = rows, rank

    def ranks(self, attack: str, epsilon: float) -> "pd.Series[int]":
        """By tuple."""
        rows = self.rows[(self.rows["attack"] == attack) & (self.rows["epsilon"] == epsilon)]
        return rows.set_index("tuple_id")["adversarial_rank"].sort_index()

    @property
    def targets(self) -> "pd.Series[int]":
        """By tuple."""
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
        first, second = ((_side(side), self.ranks(*side) <= self.rank) for side in (before, after))
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
        return _unknown(name)
    differences = second[tuples].astype(int) - first[tuples].astype(int)
    difference = 100.0 * float(differences.mean())
    low, high = (100.0 * bound for bound in paired_difference(differences, targets[tuples]))
    text = (
        f"{second_label} {_percent(second[tuples])}, {first_label} {_percent(first[tuples])}: "
        f"{difference:+.1f} points ({low:+.1f} to {high:+.1f}), n = {len(tuples)}"
    )
    if at_least is None and at_most is None:
        return Check(name, "information", text, "")
    if not (first[tuples].any() or second[tuples].any()):
        return Check(name, "information", f"{text}; nothing succeeds, so nothing is tested", "")
    kept = (at_least is None or difference >= at_least) and (
        at_most is None or difference <= at_most
    )
    beyond = (at_least is not None and high < at_least) or (at_most is not None and low > at_most)
    return Check(name, "passed" if kept else "failed" if beyond else "undecided", text, remedy)


def _strong_enough(
    study: Study, known: _Probes, outcomes: pd.DataFrame, epsilon: float, remedy: str
) -> Check:
    """The strongest white-box attack of the study against a probe, on the probe's tuples."""
    name, probe = (
        "the study's attacks are as strong as the checks'",
        known.ranks(LONGER, epsilon) <= known.rank,
    )
    white = [attack.name for attack in study.evaluation.attacks if attack.source is None]
    rows = outcomes[
        outcomes["attack"].isin(white)
        & (outcomes["epsilon"] == epsilon)
        & outcomes["tuple_id"].isin(probe.index)
    ]
    if not len(rows):
        return _unknown(name)
    solved = (rows["adversarial_rank"] <= known.rank).groupby(rows["attack"]).mean()
    best = max((str(attack) for attack in solved.index), key=lambda attack: float(solved[attack]))
    own = (
        rows[rows["attack"] == best].set_index("tuple_id")["adversarial_rank"].sort_index()
        <= known.rank
    )
    return _compare(
        name,
        (_side((LONGER, epsilon)), probe),
        (f"{best} at {epsilon:g}", own),
        known.targets,
        at_least=0.0,
        remedy=remedy,
    )


def _budget_kept(outcomes: pd.DataFrame, probes: pd.DataFrame) -> Check:
    rows = pd.concat([outcomes, probes])
    excess = rows["linf"].astype("float64") - rows["epsilon"].astype("float32").astype("float64")
    broken = int((excess > 0).sum())
    text = f"{broken} of {len(rows)} images beyond their budget; one outside [0, 1] would have stopped the evaluation"
    remedy = "a fault of advrec: please report it; no number of this run counts"
    return _check("budget and box are kept", broken == 0, len(rows), text, remedy)


def _no_budget(known: _Probes) -> Check:
    rows = known.rows[(known.rows["attack"] == "fgsm") & (known.rows["epsilon"] == 0.0)]
    # Ranks may differ by one where two articles are equally far but for rounding, which depends on
    # the batch.
    difference = (
        float((rows["adversarial_distance"] - rows["clean_distance"]).abs().max())
        if len(rows)
        else 0.0
    )
    text = f"distances at budget 0 differ from the clean ones by at most {difference:.1e}, n = {len(rows)}"
    remedy = "the model embeds the same image in different ways: put it into evaluation mode, remove its randomness"
    return _check("no budget, no change", difference < SAME, len(rows), text, remedy)


def _monotone(study: Study, known: _Probes, or_auto: str) -> Check:
    epsilons = [epsilon for epsilon in study.evaluation.epsilons if epsilon > 0]
    steps = [
        known.gain("", (WHITE_BOX, smaller), (WHITE_BOX, larger), at_least=0.0)
        for smaller, larger in itertools.pairwise(epsilons)
    ]
    measured = [step for step in steps if step.verdict != "not measured"]
    worst: Verdict = next(
        (v for v in ("failed", "undecided") if any(step.verdict == v for step in steps)), "passed"
    )
    share = ", ".join(
        f"{_percent(known.ranks(WHITE_BOX, e) <= known.rank)} at {e:g}"
        for e in epsilons
        if len(known.ranks(WHITE_BOX, e))
    )
    remedy = f"a larger budget contains the smaller one: the attack gets lost on this model; use nested: true{or_auto}"
    n = min((len(known.ranks(WHITE_BOX, epsilon)) for epsilon in epsilons), default=0)
    if not measured:
        return Check(
            "success rises with the budget", "not measured", "", "needs two budgets above 0"
        )
    return Check("success rises with the budget", worst, f"{share}, n = {n}", remedy)


def _everything(known: _Probes) -> Check:
    solved = known.ranks(UNLIMITED, EVERYTHING) <= known.rank
    n = len(solved)
    _, low, high = (
        100.0 * bound for bound in clustered(solved, known.targets.reindex(solved.index))
    )
    text = f"{_percent(solved)} at budget {EVERYTHING:g} ({low:.1f} to {high:.1f}), n = {n}"
    remedy = "with every pixel free an attack should succeed: gradients masked? Look for rounding, saturation or randomness in the model"
    return _check("without a limit nearly all succeed", high >= NEARLY_ALL, n, text, remedy)


def _health(health: Mapping[str, Any]) -> list[Check]:
    names = ("gradients are not zero", "two forward passes agree", "embeddings are spread out")
    if not health:
        return [_unknown(name) for name in names]
    n, zeros = health["n"], health["zero_gradients"]
    difference = max(health["repeat_difference"], health["alone_difference"])
    spread = (
        health["mean_cosine"] <= COLLAPSED_COSINE and health["effective_rank"] >= COLLAPSED_RANK
    )
    return [
        _check(
            names[0],
            float(wilson(zeros, n)[0]) <= FEW and health["zero_values"] < 0.5,
            n,
            f"{zeros} of {n} images without any gradient; {100 * health['zero_values']:.1f} % of all gradient values are zero",
            "gradients masked: something in the model is flat or saturated, and attacks by gradients cannot see through it",
        ),
        _check(
            names[1],
            difference < SAME,
            n,
            f"cosine distance of one image's embeddings at most {max(0.0, health['repeat_difference']):.1e} in the same batch twice, "
            f"{max(0.0, health['alone_difference']):.1e} alone, n = {n}",
            "the model draws random numbers, or an image's embedding depends on the batch: put BatchNorm and dropout into evaluation mode",
        ),
        _check(
            names[2],
            spread,
            health["embeddings"],
            f"mean cosine of two articles {health['mean_cosine']:.3f}, effective rank {health['effective_rank']:.1f} of "
            f"{health['dimension']}, n = {health['embeddings']}",
            "embeddings have collapsed: ranks turn on tiny differences of distance, in recommendations as in attacks; train differently",
        ),
    ]


def _check(name: str, passed: bool, n: int, measured: str, remedy: str) -> Check:
    return Check(name, "passed" if passed else "failed", measured, remedy) if n else _unknown(name)


def _unknown(name: str) -> Check:
    return Check(
        name,
        "not measured",
        "",
        "run `advrec evaluate`; what compares models needs a second one in the study",
    )


def _transfer(other: str) -> str:
    """Named by its source, so that a further model in the study leaves the others' rows what they
    are.
    """
    return f"from-{other}"[:64]


def _probe(
    attack: str,
    name: str | None = None,
    *,
    restarts: int = 0,
    source: str | None = None,
    stop: Stop = "rank-1",
) -> AttackSpec:
    keys = {
        "name": name or attack,
        "attack": attack,
        "stop": stop,
        "nested": False,
        "restarts": restarts,
        "from": source,
    }
    return AttackSpec.model_validate(keys)


def _budgets(study: Study) -> tuple[float, float]:
    """The middle and the largest budget of the study that are not 0."""
    budgets = [epsilon for epsilon in study.evaluation.epsilons if epsilon > 0] or [0.03]
    return median_low(budgets), max(budgets)


def _other(study: Study, model: str) -> str | None:
    """The model that the transferred perturbations are made on: the first other one."""
    return next((name for name in study.compared.models if name != model), None)


def _percent(solved: "pd.Series[bool]") -> str:
    return f"{100.0 * solved.mean():.1f} %"


def _side(side: tuple[str, float]) -> str:
    return f"{side[0]} at {side[1]:g}"
