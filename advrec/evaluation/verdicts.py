"""Checks of an evaluation: what they say, and what decides them. Free of torch."""

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

from advrec.spec.budgets import shown

Verdict = Literal["passed", "undecided", "failed", "not measured", "information"]

GAIN = 1.0
"""Points: what doubled steps or one more restart may still gain."""


class Check(NamedTuple):
    name: str
    verdict: Verdict
    measured: str
    """With n and interval."""
    remedy: str
    """Advice for a check that failed."""


class Difference(NamedTuple):
    """A difference in points, with its 95 % interval; NaN where nothing bounds it."""

    value: float
    low: float
    high: float

    def keeps(self, at_least: float | None, at_most: float | None) -> Verdict:
        """Passed where the difference keeps the bound, failed where its whole interval lies beyond,
        and undecided between.
        """
        if (at_least is None or self.value >= at_least) and (
            at_most is None or self.value <= at_most
        ):
            return "passed"
        beyond = (at_least is not None and self.high < at_least) or (
            at_most is not None and self.low > at_most
        )
        return "failed" if beyond else "undecided"

    def __str__(self) -> str:
        bounds = "" if math.isnan(self.low) else f" ({self.low:+.1f} to {self.high:+.1f})"
        return f"{self.value:+.1f} points{bounds}"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of several verdicts on differences."""
    several = [*verdicts]
    found: tuple[Verdict, ...] = ("failed", "undecided")
    return next((each for each in found if each in several), "passed")


def judged(name: str, passed: bool, n: int, measured: str, remedy: str) -> Check:
    """A check that passes or fails; not measured where n is 0."""
    return Check(name, "passed" if passed else "failed", measured, remedy) if n else unknown(name)


def unknown(name: str) -> Check:
    """A check that was not measured."""
    return Check(
        name,
        "not measured",
        "",
        "run `advrec evaluate`; what compares models needs a second one in the study",
    )


def side(attack: str, epsilon: float) -> str:
    """One of the two sides of a comparison, in words."""
    return f"{attack} at {shown(epsilon)}"
