"""Messages about a study file: one sentence with the key, the allowed values and the nearest right
word.
"""

import difflib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pydantic_core import ErrorDetails

from advrec.spec.hybrids import HYBRID_WORDS
from advrec.spec.models import WORDS

KeysBeside = Callable[[tuple[int | str, ...]], Sequence[str]]


class _Fault(NamedTuple):
    """The first of pydantic's errors, and all that a sentence about it may need."""

    error: ErrorDetails
    others: Sequence[ErrorDetails]
    """The errors after it: of a key that may be one of several types, those of its other types."""
    place: list[Any]
    """The path in the file."""
    where: str
    """The path as text."""
    keys_beside: KeysBeside

    @property
    def value(self) -> Any:
        return self.error["input"]

    @property
    def context(self) -> dict[str, Any]:
        return self.error.get("ctx", {})


def suggest(word: str, words: Sequence[str]) -> str:
    """Return a question after the nearest of `words`; empty where none is near."""
    near = _nearest(word, words)
    return f"; did you mean {near}?" if near else ""


def _nearest(word: str, words: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, words, n=1, cutoff=0.5)), None)


def sentence(errors: Sequence[ErrorDetails], raw: Any, keys_beside: KeysBeside) -> str:
    """Say the first of pydantic's errors in one sentence with the key's path, the allowed values
    and the nearest right word.

    Args:
        raw: the content of the file.
        keys_beside: the known keys at a place.
    """
    error = _misspelt(errors) or errors[0]
    place = _path_in(error, raw)
    where = ".".join(map(str, place)) or "the study"
    fault = _Fault(error, errors[1:], place, where, keys_beside)
    return SENTENCES.get(error["type"], _other)(fault)


def _misspelt(errors: Sequence[ErrorDetails]) -> ErrorDetails | None:
    """The unknown key that stands for the missing one of the first error; None where none does."""
    *section, key = errors[0]["loc"] or ("",)
    unknown = {
        str(error["loc"][-1]): error
        for error in errors
        if error["type"] == "extra_forbidden" and [*error["loc"][:-1]] == section
    }
    near = _nearest(str(key), [*unknown]) if errors[0]["type"] == "missing" else None
    return unknown[near] if near else None


def _missing(fault: _Fault) -> str:
    return f"{fault.where} is missing"


def _unknown_key(fault: _Fault) -> str:
    known = fault.keys_beside(fault.error["loc"])
    near = suggest(str(fault.place[-1]), known)
    return f"{fault.where} is not a known key{near} (known here: {', '.join(known)})"


def _refused_here(fault: _Fault) -> str:
    """Say what a validator of ours raised."""
    detail = str(fault.context["error"])
    return detail if fault.where == "the study" else f"{fault.where}: {detail}"


def _wrong_word(fault: _Fault) -> str:
    return _not_allowed(fault.where, fault.value, _allowed(fault.error))


def _wrong_kind(fault: _Fault) -> str:
    if "recommender" in fault.value:
        given = fault.value["recommender"]
        return _not_allowed(f"{fault.where}.recommender", given, HYBRID_WORDS)
    return _not_allowed(f"{fault.where}.defense", fault.value.get("defense"), WORDS)


def _not_allowed(key: str, given: Any, allowed: Sequence[str]) -> str:
    return f"{key} is {given}{suggest(str(given), allowed)} (allowed: {', '.join(allowed)})"


def _no_defense(fault: _Fault) -> str:
    for key in ("defense", "recommender"):
        if near := _nearest(key, [str(each) for each in fault.value]):
            return f"{fault.where}.{near} is not a known key; did you mean {key}?"
    return (
        f"{fault.where}.defense is missing (allowed: {', '.join(WORDS)}; "
        "a model of your own has model instead, a joined one join, a hybrid recommender)"
    )


def _wrong_pattern(fault: _Fault) -> str:
    return (
        f"{fault.where} is {fault.value!r}; a name holds letters, digits, - and _, "
        "and begins with a letter or digit"
    )


def _other(fault: _Fault) -> str:
    """Say pydantic's own words, and the words that the key may also be, as auto."""
    value, words = fault.value, fault.error["msg"]
    shown = str(value) if isinstance(value, float) and not math.isfinite(value) else value
    beside = [error for error in fault.others if error["loc"][:-1] == fault.error["loc"][:-1]]
    more = "".join(f", or {word}" for error in beside for word in _allowed(error))
    return f"{fault.where} is {shown!r}: {words[0].lower()}{words[1:]}{more}"


SENTENCES: dict[str, Callable[[_Fault], str]] = {
    "missing": _missing,
    "extra_forbidden": _unknown_key,
    "value_error": _refused_here,
    "literal_error": _wrong_word,
    "union_tag_invalid": _wrong_kind,
    "union_tag_not_found": _no_defense,
    "string_pattern_mismatch": _wrong_pattern,
}
"""The sentence for each of pydantic's kinds of error; `_other` for the rest."""


def _allowed(error: ErrorDetails) -> list[str]:
    """Return the words of an error about a literal; none of any other."""
    if error["type"] != "literal_error":
        return []
    return re.findall(r"'([^']*)'", str(error.get("ctx", {}).get("expected")))


def _path_in(error: ErrorDetails, raw: Any) -> list[Any]:
    """Return pydantic's location without the tags of unions and validators, which are not keys of
    the file.
    """
    path: list[Any] = []
    location = error["loc"]
    for place, key in enumerate(location):
        if (isinstance(raw, dict) and key in raw) or (
            isinstance(raw, list) and isinstance(key, int) and key < len(raw)
        ):
            raw = raw[key]  # type: ignore[index]
            path.append(key)
        elif place == len(location) - 1 and error["type"] in ("missing", "extra_forbidden"):
            path.append(key)
    return path
