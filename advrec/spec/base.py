"""Parts that the sections of a study file are made of."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

# A name becomes a directory (model=<name>), so it can never hold a separator, a leading dot or
# "..".
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Batch = Annotated[int, Field(ge=1)]
_QUALITY = "([1-9][0-9]?|100)"
Delivery = Annotated[
    str,
    StringConstraints(pattern=rf"^(float|png|(webp|avif)-{_QUALITY}|jpeg-{_QUALITY}(-444)?)$"),
]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


FLOAT = "float"
"""The image as it was computed: a delivery that changes nothing."""


def round_trips(deliveries: Sequence[str]) -> tuple[str, ...]:
    """The deliveries other than float, which is always there."""
    return tuple(delivery for delivery in deliveries if delivery != FLOAT)


Deliveries = Annotated[tuple[Delivery, ...], BeforeValidator(_listed)]
"""One delivery or several."""
RoundTrips = Annotated[Deliveries, AfterValidator(round_trips)]
"""Deliveries, of which float is left out."""


def refuse_repeats(key: str, values: Sequence[Any]) -> None:
    """Refuse a key's values where one stands twice.

    Raises:
        ValueError: one does.
    """
    repeated = sorted({value for value in values if values.count(value) > 1}, key=str)
    if repeated:
        again = getattr(repeated[0], "written", repeated[0])
        raise ValueError(f"{key} lists {again} twice; remove one or give it another name")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
