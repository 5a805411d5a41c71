"""An attack from Python: images of articles changed so that they enter lists of others. No run
directory is needed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from pydantic import ValidationError, model_validator
from torch import Tensor

from advrec.attacks import names
from advrec.errors import ConfigError, first_line
from advrec.evaluation.block import Block, Outcomes, method_of
from advrec.evaluation.harness import evaluate_block
from advrec.model import rehearsal
from advrec.model.arithmetic import exact_arithmetic
from advrec.model.encoder import Images, to_images
from advrec.model.rehearsal import UnfitError
from advrec.recommenders.bank import Ids
from advrec.recommenders.recommender import Recommender
from advrec.run import schema
from advrec.spec.attacks import ENSEMBLES, GRADIENT_FREE, RANK, AttackSpec, family
from advrec.spec.base import Batch, Seed, Strict, refuse_repeats
from advrec.spec.budgets import Epsilon
from advrec.spec.deliveries import Deliveries, round_trips
from advrec.spec.messages import sentence


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AttackResult:
    """The outcome of an attack on P pairs, measured by the harness of the evaluation."""

    images: Tensor
    """(P, 3, H, W) float32 in [0, 1], on the CPU, within the budget."""
    made_for: Mapping[str, Tensor]
    """Images like `images` that were made for a delivery, by its name, before that round trip: 8
    bits a value, within the budget. A delivery that the attack does not see is not among them: it
    stores `images`.
    """
    clean_ranks: Ids
    """(P,), from 1: the place of the unchanged article in its target's list."""
    ranks: Ids
    """(P,), from 1: the place of the changed article."""
    clean_distances: npt.NDArray[np.float32]
    """(P,), to the target's embedding."""
    distances: npt.NDArray[np.float32]
    """(P,)"""
    rows: pa.Table
    """All columns of schema.outcomes, one row a pair: steps, forward passes, ranks by delivery."""

    def __repr__(self) -> str:
        before, after = (float(np.median(ranks)) for ranks in (self.clean_ranks, self.ranks))
        return f"AttackResult(pairs={len(self.ranks)}, median rank {before:g} -> {after:g})"


@exact_arithmetic()
def attack(
    recommender: Recommender,
    *,
    target: int | npt.ArrayLike,
    article: int | npt.ArrayLike,
    attack: str = "auto",
    epsilon: float | str = 0.03,
    source: Recommender | Sequence[Recommender] | None = None,
    delivery: str | Sequence[str] = "float",
    seed: int = 0,
    batch: int = 64,
) -> AttackResult:
    """Change the images of articles so that each enters the list of its target article.

    These lines attack a torch module and an array of images of one's own:

    ```python
    import advrec

    recommender = advrec.Recommender.of(encoder, images)
    result = advrec.attack(recommender, target=3, article=7, attack="auto", epsilon=0.03)
    print(result.clean_ranks, result.ranks, result.images.shape)
    ```

    Args:
        recommender: one with images, as `Recommender.of` gives it.
        target: articles whose lists are entered, one or (P,).
        article: articles whose images are changed, one or (P,); the two broadcast.
        attack: a name of the table of attacks, as apgd-50, or package.module:function of your own.
        epsilon: budget, the largest change of a pixel, 0..1, or a text as '2/255'.
        source: one or several that the perturbation is made on, where they are others (transfer).
        delivery: one or several, as in a study; an image is made for each that the attack sees.
        seed: of the random streams; pair p has the stream of tuple p in a study of this seed.
        batch: images on the device at once.

    Raises:
        ConfigError: no attack has this name, or a value is not as it should be.
    """
    sources = _checked_sources(recommender, source, attack)
    values = _values(epsilon=epsilon, delivery=delivery, seed=seed, batch=batch)
    targets, articles = _pairs(target, article, len(recommender))
    pixels = _pixels(recommender, articles)
    _check_made_on(recommender, sources, attack, targets[:1], pixels[:1])
    entry = AttackSpec.named(attack, values.delivery)
    block = Block(
        tuple_ids=np.arange(len(targets), dtype=np.int32),
        target_ids=targets,
        attack_ids=articles,
        pixels=pixels,
        epsilons=(values.epsilon,),
        batch=values.batch,
        examples=len(targets),
        label=attack,
        seed=values.seed,
        stop=entry.stop,
        nested=entry.nested,
        deliveries=round_trips(values.delivery),
        through=entry.made_for,
    )
    return _result(evaluate_block(recommender, method_of(entry), block, *sources), entry.made_for)


def _checked_sources(recommender: object, source: Any, attack: object) -> Sequence[Recommender]:
    """The sources as a list. Values of another kind, and a name of no attack, are refused: raises
    ConfigError.
    """
    sources = source if isinstance(source, Sequence) else [] if source is None else [source]
    for name, value in (("recommender", recommender), *(("source", each) for each in sources)):
        if not isinstance(value, Recommender):
            raise ConfigError(
                f"{name} is a {type(value).__name__}; give Recommender.of(module, images)"
            )
    if not isinstance(attack, str):
        raise ConfigError(f"attack is {attack!r}; give the name of one attack, as 'pgd-128'")
    names.check(attack)
    if sources and family(attack) == RANK:
        raise ConfigError(
            f"{attack} asks for the lists of the recommender itself; leave source out"
        )
    return sources


class _Values(Strict):
    """Values of a call that a study has too, each by the rule of the study's key."""

    epsilon: Epsilon
    delivery: Deliveries
    seed: Seed
    batch: Batch

    @model_validator(mode="after")
    def _no_repeats(self) -> "_Values":
        refuse_repeats("delivery", self.delivery)
        return self


def _values(**values: Any) -> _Values:
    """The values of a call, numbers of NumPy as Python's own.

    Raises:
        ConfigError: one is not as it should be.
    """
    plain = {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in values.items()
    }
    try:
        return _Values(**plain)
    except ValidationError as error:
        raise ConfigError(sentence(error.errors(), plain, lambda place: ())) from None


def _pixels(recommender: Recommender, articles: Ids) -> Images:
    """Images (P, H, W, 3) of articles (P,)."""
    if recommender.images is None:
        raise ConfigError("the recommender has no images to attack; Recommender.of keeps them")
    return recommender.images(articles)


def _check_made_on(
    recommender: Recommender,
    sources: Sequence[Recommender],
    attack: str,
    target: Ids,
    pixels: Images,
) -> None:
    """Refuse what the attack cannot be made on: raises ConfigError."""
    for source in sources or (None,):
        _check_one(recommender, source, attack, target, pixels)


def _check_one(
    recommender: Recommender, source: Recommender | None, attack: str, target: Ids, pixels: Images
) -> None:
    """Refuse what the attack cannot be made on, by a trial on one image and a rehearsal.

    Args:
        target: the image's target article, (1,).
        pixels: the image, (1, H, W, 3).

    Raises:
        ConfigError: the source has another catalog, an encoder does not embed the image, or it
            gives no gradient to an attack that needs one.
    """
    if source is not None and len(source) != len(recommender):
        raise ConfigError(
            f"source knows {len(source)} articles, the recommender {len(recommender)}; "
            f"both need the same catalog"
        )
    name, victim = ("the recommender", recommender) if source is None else ("source", source)
    height, width = pixels.shape[1:3]
    try:
        victim.objective(target)(to_images(pixels, victim.device))
    except Exception as error:
        raise ConfigError(
            f"{name} does not embed the recommender's images of {width} x {height} pixels: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    if names.OWN.fullmatch(attack):
        return  # it may need no gradient
    if attack not in ENSEMBLES and names.parse(attack).family in GRADIENT_FREE:
        return
    given = rehearsal.images(height, width).to(victim.device)
    try:
        rehearsal.play(victim.embed, given)
    except UnfitError as reason:
        raise ConfigError(f"{name} {reason}, or take square-K, which needs no gradient") from None


def _result(outcomes: Outcomes, through: Sequence[str]) -> AttackResult:
    height, width = (outcomes.examples[side][0].as_py() for side in ("height", "width"))
    pixels = np.frombuffer(b"".join(outcomes.examples["pixels"].to_pylist()), dtype="<f4")
    images = torch.from_numpy(pixels.reshape(-1, 1 + len(through), height, width, 3).copy())
    # Each pair has its image for float, then one for each delivery.
    made, *others = images.permute(1, 0, 4, 2, 3).contiguous()
    rows = {name: outcomes.rows[name].to_numpy() for name in schema.OUTCOMES.names}
    return AttackResult(
        images=made,
        made_for=dict(zip(through, others, strict=True)),
        clean_ranks=rows["clean_rank"],
        ranks=rows["adversarial_rank"],
        clean_distances=rows["clean_distance"],
        distances=rows["adversarial_distance"],
        rows=outcomes.rows,
    )


def _pairs(
    target: int | npt.ArrayLike, article: int | npt.ArrayLike, articles: int
) -> tuple[Ids, Ids]:
    """Targets and attacked articles, (P,) each."""
    values = [np.atleast_1d(np.asarray(ids)) for ids in (target, article)]
    for name, ids in zip(("target", "article"), values, strict=True):
        if not np.issubdtype(ids.dtype, np.integer) or ids.ndim != 1:
            raise ConfigError(f"{name} is an article's number, or a list of them")
        if len(ids) == 0 or ids.min() < 0 or ids.max() >= articles:
            raise ConfigError(f"{name} must name articles of 0..{articles - 1}")
    if len({len(ids) for ids in values} - {1}) > 1:
        raise ConfigError(f"{len(values[0])} targets do not fit {len(values[1])} articles")
    targets, attacked = (ids.astype(np.int32) for ids in np.broadcast_arrays(*values))
    if (targets == attacked).any():
        raise ConfigError("an article cannot be attacked towards itself")
    return targets, attacked
