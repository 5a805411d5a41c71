"""Budgets as people write them: 0.01, or 2/255 for two of a pixel's 255 levels.

Both mean a float. A budget that was written in levels remembers it for whoever shows it.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field, PlainSerializer, SerializationInfo, WrapValidator

LEVELS = 255
ROUNDING = 1e-9
"""Share of a level by which whole levels, divided and multiplied again, may lie below theirs."""
TOO_SMALL = (
    "less than one of a pixel's 255 levels, so an image that a shop stores with 8 bits stays as it "
    "was; success there is of images as they were computed"
)
"""Words on budgets of `below_one_level`."""
_IN_LEVELS = re.compile(rf"([0-9]+(?:\.[0-9]+)?)/{LEVELS}")
_NONE = "{!r} is no budget: write a number of 0 to 1, as 0.01 or 2/255"
AS_WRITTEN = "budgets as written"
"""Context of a dump that gives budgets as the study wrote them; any other gives floats."""


class Budget(float):
    """A budget that was written in levels: equal to its float, and hashed as it."""

    written: str

    def __new__(cls, value: float, written: str = "") -> "Budget":
        budget = super().__new__(cls, value)
        budget.written = written
        return budget


def parse(text: str) -> float:
    """The budget that a text means.

    Raises:
        ValueError: it is no number, or lies beyond 0..1; the message is a sentence.
    """
    levels = _IN_LEVELS.fullmatch(text.strip())
    try:
        value = float(levels[1]) / LEVELS if levels else float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ValueError(_NONE.format(text))
    return Budget(value, text.strip()) if levels else value


def shown(budget: float, known: Iterable[float] = ()) -> str:
    """A budget as it was written.

    Args:
        known: the study's budgets, of which this may be one that came back from a table. Where all
            of them but 0 are written in levels, any other budget is shown in levels too.
    """
    known = tuple(known)
    same = next((each for each in known if each == budget), budget)
    if isinstance(same, Budget):
        return same.written
    return f"{LEVELS * budget:.3g}/{LEVELS}" if in_levels(known) else f"{budget:g}"


def in_levels(budgets: Iterable[float]) -> bool:
    """True where all budgets of a study above 0 are written in levels."""
    kinds = [isinstance(each, Budget) for each in budgets if each]
    return bool(kinds) and all(kinds)


def below_one_level(budgets: Iterable[float]) -> list[float]:
    """Those budgets above 0 that change nothing in an image of 8 bits."""
    return [each for each in budgets if each > 0.0 and each * LEVELS + ROUNDING < 1.0]


def plain(value: Any) -> Any:
    """Copy the content of a file with the floats that texts like 2/255 in it mean."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    levels = isinstance(value, str) and _IN_LEVELS.fullmatch(value)
    return float(levels[1]) / LEVELS if levels else value


def _read(value: Any, check: Any) -> Any:
    if isinstance(value, str):
        # a text such as '0.01' is no number in YAML either
        if not _IN_LEVELS.fullmatch(value):
            raise ValueError(_NONE.format(value))
        return parse(value)
    return value if isinstance(value, Budget) else check(value)


def _written(budget: float, info: SerializationInfo) -> float | str:
    if isinstance(budget, Budget) and (info.context or {}).get(AS_WRITTEN):
        return budget.written
    return float(budget)


Epsilon = Annotated[
    float, Field(ge=0.0, le=1.0), WrapValidator(_read), PlainSerializer(_written, float | str)
]
"""The largest change of a value, pixels in [0, 1]: 0.01, or 2/255."""
