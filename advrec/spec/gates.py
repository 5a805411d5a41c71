"""Gates of a study file: the success above which its commands end with exit code 4."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from advrec.spec.attacks import AttackSpec, default_name
from advrec.spec.base import FLOAT, Name, Strict
from advrec.spec.budgets import Epsilon, shown
from advrec.spec.deliveries import Delivery
from advrec.spec.messages import suggest


class Gate(Strict):
    model: Name
    """Model of the study."""
    attack: Name
    """Attack of the study, by the name of its entry."""
    epsilon: Epsilon
    """Budget, one of `evaluation.epsilons`."""
    rank: Annotated[int, Field(ge=1)]
    """Rank that counts as success, one of `evaluation.ranks`; the K of HR@K before an audience."""
    above: Annotated[float, Field(ge=0.0, lt=100.0)]
    """Percent: of tuples the success, before an audience HR@K after the attack. The gate fails
    where the lower bound of its 95 % interval lies above it. That of HR@K is a bootstrap over the
    promoted articles.
    """
    delivery: Delivery = FLOAT
    """Form of the image that is judged, one of `evaluation.delivery`; float: as computed."""
    audience: Literal["neighbours", "targets", "users"] | None = None
    """Before whom. By default users for a hybrid; for an encoder neighbours (its tuples), or
    targets where the attack meets no tuples.
    """

    @field_validator("attack", mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        if isinstance(value, str) and ":" in value:
            raise ValueError(
                f"{value} is a function, and a gate names an entry of evaluation.attacks; without "
                f"a name of its own that entry is called {default_name(value)}: write that"
            )
        return value


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


def refuse_unattacked(
    gates: Sequence[Gate],
    attacks: Sequence[AttackSpec],
    audiences_of: Callable[[str, AttackSpec], Sequence[str]],
) -> None:
    """Refuse a gate on what is never attacked, or on an attack that pushes articles down.

    Args:
        attacks: those of the study.
        audiences_of: before whom an attack on a model is measured.

    Raises:
        ValueError: there is one.
    """
    for number, gate in enumerate(gates):
        before = {attack.name: audiences_of(gate.model, attack) for attack in attacks}
        rising = [attack.name for attack in attacks if attack.goal == "promote"]
        fit = [name for name in rising if before[name] and gate.audience in (None, *before[name])]
        if gate.attack in fit:
            continue
        if gate.attack not in rising:
            reason = "which pushes articles down, and a gate judges how far they rise"
        elif before[gate.attack] and gate.audience:
            reason = f"which is not measured before {gate.audience} on {gate.model}"
        else:
            reason = f"which is not made on {gate.model}"
        named = f"name one of {', '.join(fit)}" if fit else "leave this gate out"
        raise ValueError(f"fail_if.{number}.attack is {gate.attack}, {reason}; {named}")


def _nearest(value: Any, values: Sequence[Any]) -> str:
    if isinstance(value, str):
        return suggest(value, values)
    return f"; did you mean {_word(min(values, key=lambda each: abs(each - value)))}?"


def _word(value: Any) -> str:
    return shown(value) if isinstance(value, float) else str(value)
