"""Audiences of a study: the queries before which promoted articles are to stand."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from advrec.errors import ConfigError
from advrec.spec import delimited
from advrec.spec.base import Strict, refuse_repeats
from advrec.spec.messages import suggest

NEIGHBOURS, TARGETS, USERS = "neighbours", "targets", "users"
Weight = Annotated[float, Field(gt=0.0)]
TOO_LARGE = "the weights are too large to be added; give smaller ones, for only their ratios count"


class Targets(Strict):
    """A list of target articles, such as the best-sellers."""

    targets: dict[str, Weight] | str
    """A CSV with the column target_name and, unless all count alike, weight; relative to the study
    file. The resolved study has the names and weights themselves.
    """


def _listed(value: Any) -> Any:
    if isinstance(value, str | dict):
        value = [value]
    if not isinstance(value, list):
        return value
    for each in value:
        if isinstance(each, str) and each not in (NEIGHBOURS, USERS):
            near = suggest(each, [NEIGHBOURS, USERS])
            raise ValueError(
                f"{each} is no audience (allowed: neighbours, users, {{targets: FILE.csv}}){near}"
            )
    return tuple(value)


Audiences = Annotated[
    tuple[Literal["neighbours", "users"] | Targets, ...], BeforeValidator(_listed)
]
"""One audience or several."""
Promoted = Annotated[int, Field(ge=1)] | str | tuple[str, ...]
"""A number of articles, a CSV of their names, or the names."""


def name(audience: str | Targets) -> str:
    """Name of an audience in rows and identities."""
    return TARGETS if isinstance(audience, Targets) else audience


def check(audiences: Sequence[str | Targets], promoted: Promoted) -> None:
    """Refuse names and weights in a study file that no CSV may have.

    Raises:
        ValueError: there are none, one stands twice, or the weights are too large.
    """
    if not isinstance(promoted, int | str):
        if not promoted:
            raise ValueError("promoted names no article; name some, or give their number")
        refuse_repeats("promoted", promoted)
    for each in audiences:
        if isinstance(each, Targets) and isinstance(each.targets, dict):
            if not each.targets:
                raise ValueError("audience.targets names no article; name some, or leave it out")
            if not _can_be_added(each.targets.values()):
                raise ValueError(f"audience.targets: {TOO_LARGE}")


def resolved(audiences: Sequence[str | Targets], directory: Path) -> tuple[str | Targets, ...]:
    """The same with the content of a CSV in the place of its path.

    Raises:
        ConfigError: it is not there, or not as it should be.
    """
    return tuple(
        Targets(targets=_weights(directory / each.targets, place))
        if isinstance(each, Targets) and isinstance(each.targets, str)
        else each
        for place, each in enumerate(audiences)
    )


def names_of(promoted: Promoted, directory: Path) -> Promoted:
    """The names in the place of a CSV's path.

    Raises:
        ConfigError: it is not there, or not as it should be.
    """
    if not isinstance(promoted, str):
        return promoted
    column = "attack_name"
    rows = _rows(directory / promoted, "evaluation.promoted", column)
    return tuple(_no_repeats(directory / promoted, [row[column].strip() for _, row in rows]))


def _weights(path: Path, place: int) -> dict[str, float]:
    key = f"evaluation.audience.{place}.targets"
    rows = _rows(path, key, "target_name")
    weights = {}
    _no_repeats(path, [row["target_name"].strip() for _, row in rows])
    for line, row in rows:
        written = (row.get("weight") or "1").strip()
        try:
            weight = float(written)
        except ValueError:
            weight = 0.0
        if not 0.0 < weight < float("inf"):
            raise ConfigError(
                f"{path}, line {line}: weight is {written}; give a number above 0, or leave the "
                "column out"
            )
        weights[row["target_name"].strip()] = weight
    if not _can_be_added(weights.values()):
        raise ConfigError(f"{path}: {TOO_LARGE}")
    return weights


def _can_be_added(weights: Iterable[float]) -> bool:
    """Say whether they can be summed, each times a score."""
    return math.isfinite(4.0 * sum(weights))


def _rows(path: Path, key: str, column: str) -> list[tuple[int, dict[Any, Any]]]:
    """Lines and values of a CSV that has a column, and at least one row."""
    if not path.is_file():
        raise ConfigError(f"{key}: {path} does not exist; name an existing file")
    try:
        table = delimited.read(path.read_bytes(), (column,))
        delimited.refuse_repeats(path, table.columns, (column, "weight"))
        rows = list(table.rows)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: is not a CSV in UTF-8 ({error})") from None
    if column not in table.columns:
        raise ConfigError(f"{path}: has no column {column}, which names the articles")
    empty = [line for line, row in rows if not (row[column] or "").strip()]
    if empty or not rows:
        where = f", line {empty[0]}: {column} is empty" if empty else ": names no article"
        raise ConfigError(f"{path}{where}; name an image of the catalog in each row")
    return rows


def _no_repeats(path: Path, names: list[str]) -> list[str]:
    repeated = sorted({each for each in names if names.count(each) > 1})
    if repeated:
        raise ConfigError(f"{path}: {repeated[0]} stands there twice; leave one row")
    return names
