"""An attack from Python: images of articles changed so that they enter lists of others. No run
directory is needed.
"""

import dataclasses
import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from advrec.attacks import names
from advrec.errors import ConfigError
from advrec.evaluation.block import Block, Outcomes, method_of
from advrec.evaluation.harness import evaluate_block
from advrec.recommenders.bank import Ids
from advrec.recommenders.recommender import Recommender
from advrec.run import schema
from advrec.spec.study import AttackSpec


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AttackResult:
    """The outcome of an attack on P pairs, measured by the harness of the evaluation."""

    images: Tensor
    """(P, 3, H, W) float32 in [0, 1], on the CPU, within the budget."""
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


def attack(
    recommender: Recommender,
    *,
    target: int | npt.ArrayLike,
    article: int | npt.ArrayLike,
    attack: str = "auto",
    epsilon: float = 0.03,
    source: Recommender | None = None,
    delivery: tuple[str, ...] = (),
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
        attack: a name of the table of attacks: fgsm, pgd-128, apgd-50, auto, ...
        epsilon: budget, the largest change of a pixel, 0..1.
        source: the recommender that the perturbation is made on, where that is another (transfer).
        delivery: as what the shop stores the image: png, jpeg-Q; a solved image stays solved after
            each.
        seed: of the random streams; pair p has the stream of tuple p in a study of this seed.
        batch: images on the device at once.

    Raises:
        ConfigError: no attack has this name, or a value is not as it should be.
    """
    names.check(attack)
    _check(recommender, source, epsilon, batch, delivery)
    assert recommender.images is not None
    targets, articles = _pairs(target, article, len(recommender))
    entry = AttackSpec.named(attack)
    block = Block(
        tuple_ids=np.arange(len(targets), dtype=np.int32),
        target_ids=targets,
        attack_ids=articles,
        pixels=recommender.images(articles),
        epsilons=(float(epsilon),),
        batch=batch,
        examples=len(targets),
        label=attack,
        seed=seed,
        stop=entry.stop,
        nested=entry.nested,
        deliveries=delivery,
    )
    return _result(evaluate_block(recommender, method_of(entry), block, source))


def _check(
    recommender: Recommender,
    source: Recommender | None,
    epsilon: float,
    batch: int,
    delivery: tuple[str, ...],
) -> None:
    for stored in delivery:
        if not re.fullmatch(r"png|jpeg-([1-9][0-9]?|100)", stored):
            raise ConfigError(
                f"delivery {stored!r} is not known; it is png or jpeg-Q, Q from 1 to 100"
            )
    if not 0.0 <= epsilon <= 1.0:
        raise ConfigError(f"epsilon is {epsilon}: a budget lies between 0 and 1")
    if recommender.images is None:
        raise ConfigError("the recommender has no images to attack; Recommender.of keeps them")
    if batch < 1:
        raise ConfigError(f"batch is {batch}: at least one image is attacked at once")
    if source is not None and len(source) != len(recommender):
        raise ConfigError(
            f"source knows {len(source)} articles, the recommender {len(recommender)}; "
            f"both need the same catalog"
        )


def _result(outcomes: Outcomes) -> AttackResult:
    height, width = (outcomes.examples[side][0].as_py() for side in ("height", "width"))
    pixels = np.frombuffer(b"".join(outcomes.examples["pixels"].to_pylist()), dtype="<f4")
    images = torch.from_numpy(pixels.reshape(-1, height, width, 3).copy())
    rows = {name: outcomes.rows[name].to_numpy() for name in schema.OUTCOMES.names}
    return AttackResult(
        images=images.permute(0, 3, 1, 2).contiguous(),
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
