"""Gates of a study file: the success above which its commands end with exit code 4."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from advrec.spec.base import FLOAT, Delivery, Name, Strict
from advrec.spec.budgets import Epsilon, shown
from advrec.spec.messages import suggest


class Gate(Strict):
    model: Name
    """Model of the study."""
    attack: Name
    """Attack of the study, by the name of its entry."""
    epsilon: Epsilon
    """Budget, one of `evaluation.epsilons`."""
    rank: Annotated[int, Field(ge=1)]
    """Rank that counts as success, one of `evaluation.ranks`."""
    above: Annotated[float, Field(ge=0.0, lt=100.0)]
    """Success in percent. The gate fails where the lower bound of the success rate's 95 % interval
    lies above it.
    """
    delivery: Delivery = FLOAT
    """Form of the image that is judged, one of `evaluation.delivery`; float: as computed."""


def refuse_unknown(gates: Sequence[Gate], known: Mapping[str, Sequence[Any]]) -> None:
    """Refuse a gate that names what the study does not have.

    Args:
        known: what it has, by the place in the study; the last word of a place, without s, is the
            gate's key.

    Raises:
        ValueError: a gate does.
    """
    for number, gate in enumerate(gates):
        for place, values in known.items():
            key = place.rpartition(".")[2].removesuffix("s")
            value = getattr(gate, key)
            if value not in values:
                raise ValueError(
                    f"fail_if.{number}.{key} is {_word(value)}, which is not among {place} of the "
                    f"study ({', '.join(map(_word, values))}){_nearest(value, values)}"
                )


def refuse_unattacked(gates: Sequence[Gate], attacks: Sequence[str]) -> None:
    """Refuse a gate on an attack of the study that no tuple meets.

    Args:
        attacks: names of those of tuples.

    Raises:
        ValueError: there is one.
    """
    for number, gate in enumerate(gates):
        if gate.attack not in attacks:
            named = f"name one of {', '.join(attacks)}" if attacks else "leave fail_if out"
            raise ValueError(
                f"fail_if.{number}.attack is {gate.attack}, which attacks no tuples, and a gate "
                f"judges success on tuples; {named}"
            )


def _nearest(value: Any, values: Sequence[Any]) -> str:
    if isinstance(value, str):
        return suggest(value, values)
    return f"; did you mean {_word(min(values, key=lambda each: abs(each - value)))}?"


def _word(value: Any) -> str:
    return shown(value) if isinstance(value, float) else str(value)
