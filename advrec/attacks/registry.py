"""Attacks by name. A name means one thing for ever; its number is its steps."""

import difflib
import re
from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from advrec.attacks.carlini import PublishedCW
from advrec.attacks.gradient import PGD
from advrec.attacks.objective import Objective
from advrec.attacks.result import Attacked
from advrec.errors import ConfigError


class Attack(Protocol):
    """A frozen value that holds its hyperparameters, with one call."""

    def __call__(self, objective: Objective, images: Tensor, epsilon: Tensor, start: Tensor | None = None) -> Attacked:
        """Adversarial images (N, C, H, W) that make `objective` small within budgets `epsilon` (N,)."""


# Family -> the attack of so many steps. A family without a number stands in FIXED.
FAMILIES: dict[str, Callable[[int], Attack]] = {
    "pgd": lambda steps: PGD(steps=steps),
    "cw": lambda steps: PublishedCW(steps=steps),
}
FIXED: dict[str, Attack] = {"fgsm": PGD(steps=1)}


def by_name(name: str) -> Attack:
    """The attack that a name of the table stands for: fgsm, pgd-128, cw-1000, ...

    Raises:
        ConfigError: no attack has this name.
    """
    if name in FIXED:
        return FIXED[name]
    family, _, number = name.rpartition("-")
    if family in FAMILIES and re.fullmatch(r"[1-9][0-9]{0,6}", number):
        return FAMILIES[family](int(number))
    raise ConfigError(f"{name!r} is not an attack{_nearest(name)} (known: {', '.join([*FIXED, *(f'{f}-K' for f in FAMILIES)])}, K steps)")


def _nearest(name: str) -> str:
    number = "".join(re.findall(r"[1-9][0-9]*", name)[-1:]) or "8"
    candidates = [*FIXED, *(f"{family}-{number}" for family in FAMILIES)]
    near = difflib.get_close_matches(name.lower(), candidates, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""
