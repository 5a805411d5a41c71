"""What is wrong with a study file, in one sentence: the key, the allowed values, the nearest right
word.
"""

import difflib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from pydantic_core import ErrorDetails


def suggest(word: str, words: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def sentence(
    errors: Sequence[ErrorDetails],
    raw: Any,
    keys_beside: Callable[[tuple[int | str, ...]], Sequence[str]],
) -> str:
    """The first of pydantic's errors as one sentence with the key's path, the allowed values and
    the nearest right word.

    Args:
        raw: the content of the file.
        keys_beside: the known keys at a place.
    """
    error = errors[0]
    location = _path_in(error, raw)
    where = ".".join(map(str, location)) or "the study"
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    if kind == "missing":
        return f"{where} is missing"
    if kind == "extra_forbidden":
        allowed = keys_beside(error["loc"])
        return f"{where} is not a known key{suggest(str(location[-1]), allowed)} (known here: {', '.join(allowed)})"
    if kind == "value_error":
        detail = str(context["error"])
        return detail if where == "the study" else f"{where}: {detail}"
    if kind in ("union_tag_invalid", "literal_error"):
        expected = str(context.get("expected_tags") or context.get("expected"))
        allowed = [word for word in re.findall(r"'([^']*)'", expected) if word != "own"]
        given = value.get("defense") if isinstance(value, dict) else value
        key = f"{where}.defense" if kind == "union_tag_invalid" else where
        return f"{key} is {given}{suggest(str(given), allowed)} (allowed: {', '.join(allowed)})"
    if kind == "union_tag_not_found":
        return f"{where}.defense is missing (allowed: none, at, cat, trades, n-fgsm, free, fat, act; a model of your own has model instead)"
    if kind == "string_pattern_mismatch" and "delivery" in location:
        return f"{where} is {value!r} (allowed: float, png, jpeg-1 to jpeg-100)"
    if kind == "string_pattern_mismatch":
        return f"{where} is {value!r}; a name holds letters, digits, - and _, and begins with a letter or digit"
    shown = value if not isinstance(value, float) or math.isfinite(value) else str(value)
    # What a key may also be, as auto: the other errors of a union.
    words = [
        word
        for other in errors[1:]
        if other["loc"][:-1] == error["loc"][:-1]
        for word in _allowed(other)
    ]
    return f"{where} is {shown!r}: {error['msg'][0].lower()}{error['msg'][1:]}{''.join(f', or {word}' for word in words)}"


def _allowed(error: ErrorDetails) -> list[str]:
    return (
        re.findall(r"'([^']*)'", str(error.get("ctx", {}).get("expected")))
        if error["type"] == "literal_error"
        else []
    )


def _path_in(error: ErrorDetails, raw: Any) -> list[Any]:
    """Pydantic's location without the tags of unions and validators, which are not keys of the
    file.
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
