"""The evaluation section of a study file."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from advrec.spec import audiences
from advrec.spec.attacks import AttackSpec, attack_entry
from advrec.spec.audiences import NEIGHBOURS, Audiences, Promoted, Targets
from advrec.spec.base import Batch, Strict, refuse_repeats
from advrec.spec.budgets import Epsilon
from advrec.spec.category_attack import CategoryAttack
from advrec.spec.deliveries import Deliveries, round_trips


class EvaluationSpec(Strict):
    split: Literal["test", "validation"] = "test"
    """Split that targets and attacked articles come from."""
    tuples: Annotated[int, Field(ge=1)] | str = 128
    """A number, or a CSV with columns target_name and attack_name; relative to the study file."""
    block: Annotated[int, Field(ge=1)] = 32
    """Tuples a unit of work: of retry, of resume and of a result file."""
    batch: Batch | Literal["auto"] = "auto"
    """Images on the device at once. auto: as many as 2^20 pixels hold, 8 to 96; half the pixels
    where a backbone is another than mobilenet_v2 or a model is your own, and a share of them where
    models are joined. An encoder of a library counts by its input, 224 where `input_size` is not
    said. Eight times as many, up to 512, where `gpus_per_actor` is a number above 0. The resolved
    study says how many, and a run that is begun keeps its number.
    """
    epsilons: Annotated[tuple[Epsilon, ...], Field(min_length=1)] = (0.01, 0.03, 0.05)
    """Budgets: the largest change of any value, pixels in [0, 1], as 0.01 or, in levels of an
    image of 8 bits, 2/255.
    """
    ranks: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 3, 10, 100)
    """Ranks that count as success, each in rows of its own."""
    attacks: Annotated[
        tuple[Annotated[AttackSpec, BeforeValidator(attack_entry)], ...], Field(min_length=1)
    ]
    """Attacks, each by its name or as a mapping."""
    examples: Annotated[int, Field(ge=0)] = 4
    """Number of tuples whose adversarial images are kept, in every cell."""
    delivery: Annotated[Deliveries, Field(min_length=1)] = ("float",)
    """Ways of an uploaded image through the shop to its encoder; one or several. float: as
    computed; png: 8 bits a value; jpeg-Q, jpeg-Q-422, jpeg-Q-444 (colours at more resolution),
    webp-Q, avif-Q: quality Q, 1 to 100; scale-X: X times the pixels a side; blur-S: a Gaussian of
    S pixels; median-K: of K x K pixels; bits-N: N bits a value. Several are joined by +, in order,
    and at the end the image is scaled to the catalog's size. upload-N, first: the image is handed
    in at N pixels a side. A filter may follow what scales: bicubic (if none does), bilinear, area,
    nearest, linear-plain.
    """
    checks: Annotated[int, Field(ge=0)] = 64
    """On how many tuples, and promoted articles, the evaluation examines itself; 0: not at all."""
    audience: Annotated[Audiences, Field(min_length=1)] | None = None
    """Before whom articles are to stand; one or several: neighbours (a tuple's target article),
    {targets: best-sellers.csv} (all of a weighted list) and users (of hybrid recommenders). A model
    is measured on those of its kind. By default neighbours, and users where there are hybrids.
    """
    promoted: Promoted = 32
    """Articles that are attacked for targets and users: a number, cold ones first, or a CSV with a
    column attack_name; relative to the study file.
    """
    ranks_of: Annotated[int, Field(ge=0)] = 0
    """Number of promoted articles, the first ones, whose ranks by query are kept, as rows are made:
    a run may go on with a smaller number, and keeps what it has, but not with a larger one.
    """
    category_attack: CategoryAttack | None = None
    """All images of a seldom recommended category are attacked and swapped at once, for every
    hybrid; by default none are. `{}` takes all defaults.
    """

    @property
    def at_once(self) -> int:
        """The number of `batch`, which is resolved as a study is parsed."""
        assert isinstance(self.batch, int), "study.parse resolves it"
        return self.batch

    @property
    def says_batch(self) -> bool:
        """True where the study file gives a number."""
        return "batch" in self.model_fields_set and self.batch != "auto"

    def with_batch(self, batch: int) -> "EvaluationSpec":
        """The same section with another number, which the study file does not say."""
        section = self.model_copy(update={"batch": batch})
        section.model_fields_set.discard("batch")
        return section

    @property
    def aim(self) -> int:
        """The rank K that attacks on targets and users aim at: 10, or the nearest to it."""
        return min(self.ranks, key=lambda rank: (abs(rank - 10), rank))

    @property
    def num_promoted(self) -> int:
        """The number of promoted articles of a resolved study."""
        return self.promoted if isinstance(self.promoted, int) else len(self.promoted)

    @property
    def targets(self) -> dict[str, float]:
        """Weights of the target articles of a resolved study, by name; none without such a list."""
        for each in self.audience or ():
            if isinstance(each, Targets):
                assert isinstance(each.targets, dict), "the study is resolved"
                return each.targets
        return {}

    def measures(self, audience: str) -> bool:
        """Say whether an audience of this name is among those of a resolved study."""
        return audience in map(audiences.name, self.audience or (NEIGHBOURS,))

    @property
    def round_trips(self) -> tuple[str, ...]:
        """The deliveries other than float, which is always there."""
        return round_trips(self.delivery)

    @property
    def seen(self) -> tuple[str, ...]:
        """The deliveries that some attack goes through."""
        through = {each for attack in self.attacks for each in attack.made_for}
        return tuple(each for each in self.round_trips if each in through)

    @model_validator(mode="after")
    def _no_repeats(self) -> "EvaluationSpec":
        for key, values in (
            ("epsilons", self.epsilons),
            ("ranks", self.ranks),
            ("delivery", self.delivery),
            ("attacks", [a.name for a in self.attacks]),
            ("audience", [audiences.name(each) for each in self.audience or ()]),
        ):
            refuse_repeats(key, values)
        audiences.check(self.audience or (), self.promoted)
        return self
