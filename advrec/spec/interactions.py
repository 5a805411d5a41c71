"""The interactions section of a study file: who has bought what."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from advrec.spec.base import Strict

DRAWN = {"users": 400, "purchases": 12, "groups": 6, "personal": 0.7, "cold": 0.3}
"""Keys of drawn interactions, with their defaults."""


class InteractionsSpec(Strict):
    """Users' purchases: a file of your own, or drawn ones, which are called synthetic everywhere.

    Only hybrid recommenders and the audience `users` need them.
    """

    file: str | None = None
    """A CSV or Parquet file with the columns user, article (its name in the catalog, or its ID)
    and, if it is known, time; relative to the study file. Without time the order of rows counts.
    """
    source: Literal["synthetic"] | None = None
    """synthetic: purchases are drawn by tastes for categories and textures."""
    users: Annotated[int, Field(ge=1)] | None = None
    """synthetic: how many users are drawn; by default 400."""
    purchases: Annotated[int, Field(ge=2)] | None = None
    """synthetic: articles that each user buys, the last of which is held out; by default 12."""
    groups: Annotated[int, Field(ge=1)] | None = None
    """synthetic: groups of users of similar taste; by default 6."""
    personal: Annotated[float, Field(ge=0.0, le=10.0)] | None = None
    """synthetic: standard deviation of what no label explains of a user's liking; by default 0.7.
    That of what labels explain is 1.85, that of an article's popularity 0.5.
    """
    cold: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """synthetic: share of the articles that come last, so that no purchase but a held-out one can
    be of them; by default 0.3.
    """

    @model_validator(mode="after")
    def _one_origin(self) -> "InteractionsSpec":
        if (self.file is None) == (self.source is None):
            raise ValueError("name either file, or source: synthetic")
        for key in DRAWN:
            if self.file is not None and getattr(self, key) is not None:
                raise ValueError(f"{key} belongs to source: synthetic; remove it, or file")
        return self

    @property
    def drawn(self) -> bool:
        """The run draws them itself."""
        return self.source is not None

    @property
    def title(self) -> str:
        """The words that a line about them begins with."""
        return f"{self.source} interactions" if self.drawn else "interactions"

    def resolved(self, directory: Path) -> "InteractionsSpec":
        """Defaults explicit, the path absolute; `directory` is what it is relative to."""
        if self.file is not None:
            return self.model_copy(update={"file": str(directory / self.file)})
        missing = {key: value for key, value in DRAWN.items() if getattr(self, key) is None}
        return self.model_copy(update=missing)
