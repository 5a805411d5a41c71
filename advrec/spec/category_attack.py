"""The category attack of a study: all images of one category are swapped at once."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from advrec.spec.attacks import MINIMAL, AttackSpec
from advrec.spec.base import Strict, refuse_repeats
from advrec.spec.defenses import TrainedModel
from advrec.spec.label_free import LabelFree
from advrec.spec.models import AnyModel

Towards = Literal["class", "centroid", "hit"]
CLASS: Towards = "class"
CENTROID: Towards = "centroid"
HIT: Towards = "hit"


class CategoryAttack(Strict):
    """Keys of evaluation.category_attack (TAaMR, Di Noia et al. 2020)."""

    origin: str | None = None
    """Category whose images are attacked, in all splits; by default the one that the first hybrid
    recommends least.
    """
    target: str | None = None
    """Category that they are to resemble; by default the one that the first hybrid recommends most.
    """
    attack: str = "pgd-10"
    """A name of the table of attacks, but minimal-K. It sees the study's deliveries where an entry
    of `attacks` does that does not say `through`.
    """
    towards: Annotated[tuple[Towards, ...], Field(min_length=1)] = (CLASS, CENTROID, HIT)
    """Losses that are made small, each in rows of its own. class: the cross entropy of the target,
    by the category head of the hybrid's encoder, where it has one; centroid: the squared distance
    to the mean embedding of the target; hit: the loss `hit` of `attacks`, before all users.
    """

    def entries(self, deliveries: Sequence[str]) -> tuple[AttackSpec, ...]:
        """An entry of `attacks` for each of `towards`, which it is named by."""
        entry = AttackSpec.named(self.attack, deliveries)
        return tuple(entry.model_copy(update={"name": towards}) for towards in self.towards)

    @model_validator(mode="after")
    def _whole(self) -> "CategoryAttack":
        refuse_repeats("towards", self.towards)
        if self.origin is not None and self.origin == self.target:
            raise ValueError(
                f"origin and target are both {self.origin}; name two categories, or leave one out"
            )
        if ":" in self.attack or self.attack.rpartition("-")[0] == MINIMAL:
            raise ValueError(
                f"attack is {self.attack}; a category is attacked at the study's budgets by one of "
                "advrec's attacks, as pgd-10 or apgd-50"
            )
        return self


def has_categories(models: Mapping[str, AnyModel], model: str) -> bool:
    """Say whether a network has a category head: one trained here on categories, or one that a
    defense without labels began with.
    """
    spec = models[model]
    if isinstance(spec, LabelFree):
        return has_categories(models, spec.init)
    return isinstance(spec, TrainedModel) and spec.on_categories
