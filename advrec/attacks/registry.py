"""Attacks by name. A name means one thing for ever; its number is its steps, or its queries where
nothing is differentiated.
"""

import difflib
import re
from collections.abc import Callable
from typing import Protocol

from advrec.attacks.apgd import APGD
from advrec.attacks.blind import Square, UniformNoise
from advrec.attacks.carlini import ExactCW, PublishedCW
from advrec.attacks.ensemble import Ensemble, Member, with_restarts
from advrec.attacks.gradient import PGD, DecayingPGD, MomentumFGSM
from advrec.attacks.problem import Problem
from advrec.attacks.result import Attacked
from advrec.errors import ConfigError


class Attack(Protocol):
    """A frozen value that holds its hyperparameters, with one call."""

    def __call__(self, problem: Problem) -> Attacked:
        """Images within the problem's budgets that make its objective small."""


# Family -> the attack of so many steps. A family without a number stands in FIXED.
PUBLISHED: dict[str, Callable[[int], Attack]] = {
    "pgd": lambda steps: PGD(steps=steps),
    "cw": lambda steps: PublishedCW(steps=steps),
}
STRONG: dict[str, Callable[[int], Attack]] = {
    "pgd-decay": lambda steps: DecayingPGD(steps=steps),
    "mifgsm": lambda steps: MomentumFGSM(steps=steps),
    "apgd": lambda steps: APGD(steps),
    "apgd-l2": lambda steps: APGD(steps, squared=True),
    "cw-exact": lambda steps: ExactCW(steps=steps),
    "square": lambda queries: Square(queries=queries),
}
FAMILIES = PUBLISHED | STRONG
FIXED: dict[str, Attack] = {"fgsm": PGD(steps=1), "noise": UniformNoise()}
AUTO = ("apgd-50", "apgd-l2-100", "apgd-100")
"""Members of the ensemble `auto`, cheapest first."""
FORWARD = 1 / 3  # of a gradient step's time: the backward pass is two thirds


def build(name: str, *, restarts: int = 0, nested: bool = False) -> Attack:
    """The attack of an entry of a study.

    Args:
        name: of the table of attacks: fgsm, pgd-128, cw-1000, apgd-100, auto, ...
        restarts: how often the attack begins again, on what it has left unsolved.
        nested: whether it goes on from a problem's start, and begins afresh where that does not
            solve an image.

    Raises:
        ConfigError: no attack has this name, or it cannot be restarted.
    """
    attack = (
        Ensemble(tuple(Member(member, by_name(member)) for member in AUTO))
        if name == "auto"
        else by_name(name)
    )
    if restarts and _family(name) not in STRONG:
        raise ConfigError(
            f"restarts is {restarts}, but {name} does not begin at random, or is made of several attacks; restarts belong to "
            f"{', '.join(f'{family}-K' for family in STRONG)}"
        )
    return (
        with_restarts(name, attack, restarts) if restarts or (nested and name != "auto") else attack
    )


def by_name(name: str) -> Attack:
    """The single attack that a name of the table stands for.

    Raises:
        ConfigError: no attack has this name.
    """
    if name in FIXED:
        return FIXED[name]
    family = _family(name)
    if family is not None:
        return FAMILIES[family](int(name.removeprefix(f"{family}-")))
    known = ", ".join([*FIXED, "auto", *(f"{family}-K" for family in FAMILIES)])
    raise ConfigError(
        f"{name!r} is not an attack{_nearest(name)} (known: {known}; K is a number of steps, of queries for square)"
    )


def most_steps(name: str, *, restarts: int = 0, nested: bool = False) -> float:
    """Gradient steps that an attack takes of one image at one budget, if nothing stops it; forward
    passes are counted as a part of one.

    For forecasts of time: what a stop saves is not known beforehand.
    """
    if name == "auto":
        return sum(most_steps(member) for member in AUTO)
    family = _family(name)
    steps = float(name.rpartition("-")[2]) if family else {"fgsm": 1.0, "noise": FORWARD}[name]
    runs = 1 + restarts
    if nested and runs == 1:
        runs = 2  # where going on from the smaller budget does not solve an image, it begins afresh
    return runs * steps * (FORWARD if family == "square" else 1.0)


def _family(name: str) -> str | None:
    family, _, number = name.rpartition("-")
    return family if family in FAMILIES and re.fullmatch(r"[1-9][0-9]{0,6}", number) else None


def _nearest(name: str) -> str:
    # the 2 of l2 is none
    number = "".join(re.findall(r"(?:^|[^l0-9])([1-9][0-9]*)", name)[-1:]) or "8"
    candidates = [*FIXED, "auto", *(f"{family}-{number}" for family in FAMILIES)]
    near = difflib.get_close_matches(name.lower(), candidates, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""
