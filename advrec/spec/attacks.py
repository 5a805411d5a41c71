"""The attacks of a study file: one entry each."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from advrec.spec.base import Name, Strict, refuse_repeats
from advrec.spec.deliveries import INGEST, Passed, round_trips

Stop = Literal["never", "rank-1", "converged"]

AUTO = "auto"
"""The ensemble of attacks (attacks/names.py), whose entry has defaults of its own."""

AUTO_1 = "auto-1"
"""The first edition of it, as it was called `auto` before 0.3.0."""

ENSEMBLES = (AUTO, AUTO_1)

MINIMAL = "minimal"
"""The family of attacks on the budget itself, which are made for all budgets of a study at once."""

RANK = "rank"
"""The family of attacks that ask for lists alone."""

GRADIENT_FREE = ("square", RANK, "noise")
"""Families that ask for no gradient: their number counts queries."""

BLIND = ("fgsm", "pgd", "cw", "noise")
"""Families that go through a delivery only where the entry says so: those as published, and noise,
which looks at nothing.
"""


def default_through(attack: str, deliveries: Sequence[str]) -> tuple[str, ...]:
    """Deliveries of a new study that an attack goes through if its entry does not say it.

    Args:
        deliveries: all of the study, and the word ingest where a model has one.
    """
    if ":" in attack:
        return round_trips(deliveries)
    return () if family(attack) in BLIND else round_trips(deliveries)


def family(attack: str) -> str:
    """The name of an attack without its number."""
    return attack.rpartition("-")[0] or attack


def attack_defaults(attack: str) -> dict[str, Any]:
    """Keys of an attack's entry where the study does not say them: `auto` stops and nests."""
    auto = attack in ENSEMBLES
    return {
        "stop": "rank-1" if auto else "never",
        "nested": auto,
        "restarts": 0,
        "from": None,
        "di": None,
        "ti": None,
        "loss": "hit",
        "goal": "promote",
        "share": None,
    }


def default_name(attack: str) -> str:
    """Name of an entry that says none: the attack. Of package.module:function each character that a
    name cannot hold becomes -.
    """
    return re.sub("[^A-Za-z0-9_-]", "-", attack) if ":" in attack else attack


def attack_entry(value: Any) -> Any:
    """Write an entry out: `pgd-8` stands for {name: pgd-8, attack: pgd-8} and the defaults."""
    if isinstance(value, str):
        value = {"attack": value}
    if not isinstance(value, dict) or not isinstance(value.get("attack"), str):
        return value
    if value["attack"] == "transfer":
        raise ValueError("a transfer is written {name: ..., attack: pgd-128, from: MODEL}")
    defaults = attack_defaults(value["attack"])
    if "name" not in value:
        if "through" in value:
            raise ValueError("an attack that says through needs a name of its own: add name")
        changed = [
            key for key, default in defaults.items() if key in value and value[key] != default
        ]
        if changed:
            raise ValueError(
                f"{changed[0]} differs from what {value['attack']} means; "
                "give this attack a name of its own"
            )
        defaults["name"] = default_name(value["attack"])
    return defaults | value


def _one_or_several(value: Any) -> Any:
    if isinstance(value, list):
        return value[0] if len(value) == 1 else tuple(value)
    return value


Several = Annotated[tuple[Name, ...], Field(min_length=2)]
Sources = Annotated[Name | Several | None, BeforeValidator(_one_or_several)]
"""Models that an attack is made on: none, one or several."""


class AttackSpec(Strict):
    name: Name
    """The attack's name in rows and report; by default the attack, if no other key is set. By
    default `shop.attacks:mine` is called `shop-attacks-mine`.
    """
    attack: str
    """A name of the table of attacks; it means one thing for ever. Or a function of your own,
    package.module:function, importable from where the command runs. It takes (images, epsilons,
    objective, generator) and returns images.
    """
    stop: Stop
    """never: every tuple takes all steps; rank-1: one that stands nearer than its target's nearest
    neighbour stops; converged: so does one that gains no more.
    """
    nested: bool
    """A larger budget goes on from a smaller one's result and skips what is solved."""
    restarts: Annotated[int, Field(ge=0, le=100)]
    """Number of times that the attack begins again, at random, on the tuples it left unsolved."""
    source: Sources = Field(alias="from")
    """Make the perturbation on this other model of the study, and measure it on each (transfer).
    [a, b]: on several at once, by the mean of their losses and of their gradients, each divided by
    its mean absolute value.
    """
    di: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Input diversity: gradients are of images that, with this probability, are shrunk by up to a
    tenth and moved at random. Made for transfer; 0.5 in the literature.
    """
    ti: Annotated[int, Field(ge=1, le=99)] | None = None
    """Translation-invariant gradients: convolved with a Gaussian of so many pixels a side, an odd
    number. Made for transfer; a twentieth of the image's side in the literature.
    """
    through: Passed = ()
    """Deliveries that the attack sees: for each it makes an image of its own, by gradients or
    queries after that round trip. The word ingest stands for what a model does to every image
    itself. []: it is blind to all. If not given, ingest and all of the study's; none of fgsm,
    pgd-K, cw-K and noise, nor where the run has rows of this attack that were made blind.
    """
    rank: Annotated[int, Field(ge=1)] = 1
    """Rank that minimal-K aims at; no other attack has this key."""
    loss: Literal["hit", "score", "embedding"] = "hit"
    """Loss that is made small where the audience is targets or users. hit: minus the smoothed
    share of them before whom the article is among the first 10, or the rank nearest to that;
    score: minus the mean score; embedding: the distance to the best-seller, without knowing any
    query. Another than hit leaves neighbours out.
    """
    share: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Share of targets or users that solves an attack on them: it stops there, and minimal-K looks
    for the smallest budget that reaches it. It leaves neighbours out.
    """

    goal: Literal["promote", "demote"] = "promote"
    """demote: push a rival's article down before targets or users instead. It leaves neighbours
    out.
    """

    @model_validator(mode="after")
    def _whole(self) -> "AttackSpec":
        if self.own and self.stop == "converged":
            raise ValueError(
                f"{self.attack} knows by itself when it has converged; leave stop out, or write "
                "rank-1"
            )
        if self.goal == "demote" and self.share is not None:
            raise ValueError(
                "share is of an audience that is reached; with goal demote leave it out"
            )
        if self.ti is not None and self.ti % 2 == 0:
            raise ValueError(f"ti is {self.ti}; a kernel has an odd side, as {self.ti + 1}")
        if (self.di, self.ti) != (None, None) and (
            self.own or family(self.attack) in GRADIENT_FREE
        ):
            raise ValueError(f"di and ti are of gradients, which {self.attack} has none of")
        refuse_repeats("from", self.sources)
        if self.lists_alone and (
            self.nested or self.sources or self.stop == "converged" or self.for_audiences
        ):
            raise ValueError(
                f"{self.attack} asks for the lists of the shop itself, at each budget anew: leave "
                "out nested, from, loss, goal and share, and of stop all but rank-1"
            )
        if not self.minimal:
            if self.rank != 1:
                raise ValueError(f"rank belongs to {MINIMAL}-K, not to {self.attack}")
            if self.attack == AUTO and (self.stop != "rank-1" or not self.nested):
                raise ValueError(
                    f"{AUTO} stops at rank 1 and meets all budgets at once: leave out stop and "
                    f"nested, or write attack: {AUTO_1}, its first edition"
                )
        elif self.nested or self.restarts or self.stop != "never" or self.source:
            raise ValueError(
                f"{self.attack} knows no stop, nested, restarts or from: leave them out"
            )
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """The models that the attack is made on, where it says any."""
        if self.source is None:
            return ()
        return (self.source,) if isinstance(self.source, str) else self.source

    @property
    def own(self) -> bool:
        """True of a function of the user's own."""
        return ":" in self.attack

    @property
    def minimal(self) -> bool:
        """True of an attack that searches the smallest budget of a tuple."""
        return family(self.attack) == MINIMAL

    @property
    def lists_alone(self) -> bool:
        """True of an attack that asks for lists of articles alone."""
        return family(self.attack) == RANK

    @property
    def for_audiences(self) -> bool:
        """True of an entry that is for targets and users alone."""
        changed = self.loss != "hit" or self.goal != "promote"
        return changed or self.share is not None

    @property
    def all_budgets(self) -> bool:
        """True of an attack that meets all budgets of a study at once, so that a row depends on all
        of them.
        """
        return self.minimal or self.attack == AUTO

    def aims_at(self, rank: int) -> bool:
        """Say whether success at a rank is what the attack tries for, as all but minimal-K do."""
        return not self.minimal or rank == self.rank

    @classmethod
    def named(cls, attack: str, deliveries: Sequence[str] = ()) -> "AttackSpec":
        """The entry that an attack's bare name stands for, in a new study of these deliveries."""
        entry = cls(name=default_name(attack), attack=attack, **attack_defaults(attack))
        return entry.seeing(default_through(attack, deliveries))

    @property
    def made_for(self) -> tuple[str, ...]:
        """The deliveries that it makes an image of its own for."""
        return tuple(each for each in self.through if each != INGEST)

    @property
    def sees_ingest(self) -> bool:
        """True where it passes what the model does to every image."""
        return INGEST in self.through

    @property
    def says_through(self) -> bool:
        """True where the study file says what the attack goes through."""
        return "through" in self.model_fields_set

    def seeing(self, through: Sequence[str]) -> "AttackSpec":
        """The same entry through other deliveries, which the study file does not say."""
        entry = self.model_copy(update={"through": tuple(through)})
        entry.model_fields_set.discard("through")
        return entry
