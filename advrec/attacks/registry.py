"""The attacks behind the names of `names.py`."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from advrec.attacks import names, own
from advrec.attacks.apgd import APGD
from advrec.attacks.auto import Auto, Members
from advrec.attacks.blind import Square, UniformNoise
from advrec.attacks.carlini import ExactCW, PublishedCW
from advrec.attacks.ensemble import Ensemble, Member, with_restarts
from advrec.attacks.gradient import PGD, DecayingPGD, MomentumFGSM, MomentumPGD
from advrec.attacks.minimal import MinimalBudget
from advrec.attacks.problem import Problem
from advrec.attacks.rank import RankSearch
from advrec.attacks.result import Attacked, Reached
from advrec.spec.attacks import AUTO, AUTO_1


class Attack(Protocol):
    """A frozen value that holds its hyperparameters, with one call."""

    def __call__(self, problem: Problem) -> Attacked:
        """Images within the problem's budgets that make its objective small."""


@runtime_checkable
class AllBudgets(Protocol):
    """An attack that meets all budgets of its images at once."""

    def reach(self, problem: Problem, budgets: Tensor) -> Reached:
        """Images within budgets (E, N), float64, rising, none above the problem's."""


FIXED: dict[str, Attack] = {"fgsm": PGD(steps=1), "noise": UniformNoise()}
FAMILIES: dict[str, Callable[[int], Attack]] = {
    "pgd": lambda steps: PGD(steps=steps),
    "cw": lambda steps: PublishedCW(steps=steps),
    "pgd-decay": lambda steps: DecayingPGD(steps=steps),
    "pgd-momentum": lambda steps: MomentumPGD(steps=steps),
    "mifgsm": lambda steps: MomentumFGSM(steps=steps),
    "apgd": lambda steps: APGD(steps),
    "apgd-l2": lambda steps: APGD(steps, squared=True),
    "cw-exact": lambda steps: ExactCW(steps=steps),
    "square": lambda queries: Square(queries=queries),
    "rank": lambda queries: RankSearch(queries=queries),
    "minimal": lambda steps: MinimalBudget(steps=steps),
}


def build(name: str, *, restarts: int = 0, nested: bool = False) -> Attack:
    """Build the attack of an entry of a study.

    Args:
        name: as in the table of attacks: fgsm, pgd-128, cw-1000, apgd-100, auto, ...; or
            package.module:function.
        restarts: how often the attack begins again, on what it has left unsolved.
        nested: whether it goes on from a problem's start, and begins afresh where that does not
            solve an image.

    Raises:
        ConfigError: no attack has this name, or it cannot be restarted.
    """
    names.check(name, restarts=restarts)
    if name == AUTO:
        return Auto(
            *(Members(*_members(several)) for several in (names.AUTO_MEMBERS, names.AUTO_DELIVERED))
        )
    if name == AUTO_1:
        return Ensemble(_members(names.AUTO_1_MEMBERS), _members(names.AUTO_1_DELIVERED))
    attack = by_name(name)
    return with_restarts(name, attack, restarts) if restarts or nested else attack


def by_name(name: str) -> Attack:
    """Build the single attack of a name.

    Raises:
        ConfigError: no single attack has this name, or the function cannot be called.
    """
    if ":" in name:
        return own.build(name)
    family, number = names.parse(name)
    return FIXED[family] if family in FIXED else FAMILIES[family](number)


def _members(several: Sequence[str]) -> tuple[Member, ...]:
    return tuple(Member(name, by_name(name)) for name in several)
