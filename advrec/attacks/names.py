"""The grammar of attack names: a word, or a family and a number. Free of torch.

A name means one thing for ever. Its number counts steps; of a family in GRADIENT_FREE it counts
queries.
"""

import difflib
import re
from typing import NamedTuple

from advrec.errors import ConfigError
from advrec.spec.attacks import AUTO, AUTO_1, ENSEMBLES, GRADIENT_FREE, MINIMAL, RANK

FIXED = ("fgsm", "noise")
PUBLISHED = ("pgd", "cw")
STRONG = ("pgd-decay", "pgd-momentum", "mifgsm", "apgd", "apgd-l2", "cw-exact", "square")
FAMILIES = (*PUBLISHED, *STRONG, MINIMAL, RANK)
AUTO_MEMBERS = ("pgd-momentum-25", "apgd-l2-50", "pgd-momentum-100", "pgd-momentum-50")
"""Members of the ensemble `auto` at the smallest budget, the largest (two) and all smaller ones."""
AUTO_DELIVERED = ("pgd-momentum-50", "pgd-momentum-200", "pgd-momentum-100", "pgd-momentum-200")
"""Its members where it goes through a delivery, whose rounding asks for more steps."""
AUTO_1_MEMBERS = ("apgd-50", "apgd-l2-100", "apgd-100")
"""Members of its first edition, cheapest first."""
AUTO_1_DELIVERED = ("pgd-momentum-50", "pgd-momentum-200")
"""Its members where it goes through a delivery; in all they take as many steps."""
OWN = re.compile(r"\w+(\.\w+)*:\w+")
"""The form of a function of the user's own, package.module:function."""
FORWARD = 1 / 3
"""Cost of a forward pass in gradient steps: the backward pass takes two thirds of one."""


class AttackName(NamedTuple):
    family: str
    """One of FAMILIES, or a whole name of FIXED."""
    number: int
    """Steps or queries; 1 for a name of FIXED."""


def parse(name: str) -> AttackName:
    """Take the name of a single attack apart.

    Raises:
        ConfigError: no single attack has this name.
    """
    if name in FIXED:
        return AttackName(name, 1)
    family, _, number = name.rpartition("-")
    if family in FAMILIES and re.fullmatch(r"[1-9][0-9]{0,6}", number):
        return AttackName(family, int(number))
    if ":" in name:
        raise ConfigError(f"{name!r} is not an attack: write package.module:function")
    known = ", ".join([*FIXED, *ENSEMBLES, *(f"{family}-K" for family in FAMILIES)])
    raise ConfigError(
        f"{name!r} is not an attack{_nearest(name)} "
        f"(known: {known}; K is a number of steps, of queries for square, of lists for rank; "
        "an attack of your own is written package.module:function)"
    )


def check(name: str, *, restarts: int = 0) -> None:
    """Refuse an entry of a study that no attack can be built from.

    Raises:
        ConfigError: no attack has this name, or it cannot be restarted.
    """
    family = name if name in ENSEMBLES or OWN.fullmatch(name) else parse(name).family
    if restarts and not OWN.fullmatch(name) and family not in STRONG:
        raise ConfigError(
            f"restarts is {restarts}, but {name} does not begin at random, or is made of several "
            f"attacks; restarts belong to {', '.join(f'{family}-K' for family in STRONG)}"
        )


def most_steps(
    name: str,
    budgets: int = 1,
    *,
    restarts: int = 0,
    nested: bool = False,
    delivered: bool = False,
    own: int = 0,
) -> float:
    """Gradient steps that an attack takes of one image at all budgets, if nothing stops it.

    A forward pass counts as FORWARD of a step. Forecasts of time use this number: nobody knows
    beforehand what a stop saves.

    Args:
        delivered: whether it is the image made for a delivery.
        own: steps of a function of the user's own.
    """
    if name == AUTO:
        members = AUTO_DELIVERED if delivered else AUTO_MEMBERS
        probe, first, onward, downward = map(most_steps, members)
        return probe + first + onward + (budgets - 1) * downward
    if name == AUTO_1:
        return budgets * sum(map(most_steps, AUTO_1_MEMBERS))
    family, number = ("", own) if OWN.fullmatch(name) else parse(name)
    if family == MINIMAL:
        return number
    runs = 1 + restarts
    if nested and runs == 1:
        runs = 2  # where going on from the smaller budget does not solve an image, it begins afresh
    return budgets * runs * number * (FORWARD if family in GRADIENT_FREE else 1.0)


def _nearest(name: str) -> str:
    # The 2 of apgd-l2 is part of the family.
    number = "".join(re.findall(r"(?:^|[^l0-9])([1-9][0-9]*)", name)[-1:]) or "8"
    candidates = [*FIXED, *ENSEMBLES, *(f"{family}-{number}" for family in FAMILIES)]
    near = difflib.get_close_matches(name.lower(), candidates, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""
