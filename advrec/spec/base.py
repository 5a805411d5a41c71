"""Parts that the sections of a study file are made of."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# A name becomes a directory (model=<name>), so it can never hold a separator, a leading dot or
# "..".
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Batch = Annotated[int, Field(ge=1)]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
FLOAT = "float"
"""The image as it was computed: a delivery that changes nothing."""


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
