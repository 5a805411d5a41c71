"""One block, of tuples or of promoted articles: the work of one result file, and its result."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from advrec.attacks import registry
from advrec.attacks.registry import Attack
from advrec.catalog.dataset import Catalog
from advrec.model.encoder import Images
from advrec.recommenders.audience import Audience
from advrec.recommenders.bank import Ids
from advrec.run.cells import PROMOTIONS, Cell
from advrec.spec.attacks import AttackSpec, Stop
from advrec.spec.study import Study


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnyBlock:
    """Images that are attacked, each at every epsilon."""

    attack_ids: Ids
    """(n,), articles whose images are attacked."""
    pixels: Images
    """Prepared images of the attacked articles, (n, H, W, 3) uint8, or float32 in [0, 1]."""
    epsilons: tuple[float, ...]
    """Budgets, rising."""
    batch: int
    """Images on the device at once."""
    examples: int = 0
    """Keep the adversarial images of tuples with a smaller id than this."""
    label: str
    """The attack's name, for the column winner."""
    seed: int
    stop: Stop = "never"
    nested: bool = False
    """Go from budget to budget, each from the result of the one before."""
    deliveries: tuple[str, ...] = ()
    """Deliveries other than float."""
    through: tuple[str, ...] = ()
    """Those of them that an attack of its own is made for."""
    ingest: bool = True
    """The attack passes what the model that it is made on does to every image; False: it is blind
    to that, and its stop is not.
    """
    fused: bool = True
    """False: by the plain steps of before 0.3.0, whose block goes on with rows of theirs."""
    levels: bool = True
    """The image made for a delivery has 8 bits within the budget; False: rounded as before 0.3.0,
    whose block goes on.
    """
    chains: bool = True
    """The unchanged image is ranked after each delivery, and gradients see what a JPEG does; False:
    as before 0.3.0, whose block goes on.
    """

    di: float | None = None
    ti: int | None = None
    """Keys of an entry of a study that change gradients; None: they are as they are."""

    @property
    def streams(self) -> Ids:
        """Numbers (n,) of the images' random streams."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block(AnyBlock):
    """The work of one result file: n tuples, each at every epsilon."""

    tuple_ids: Ids
    """(n,)"""
    target_ids: Ids
    """(n,)"""
    groups: Ids | None = None
    """(N,), articles that show one image, see `Catalog.groups`; None: ranks among distinct images
    are not asked for.
    """
    minimal_rank: int | None = None
    """Rank at which minimal-K searches the smallest budget; None: another attack."""

    @property
    def streams(self) -> Ids:
        """Those (n,) of the tuples."""
        return self.tuple_ids


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromotionBlock(AnyBlock):
    """The work of one result file: n articles, each before one audience at every epsilon. `stop`
    never stops where no share is asked for.
    """

    audience: Audience
    ranks: tuple[int, ...]
    """Ranks K that are measured, rising."""
    aim: int
    """The K that the loss hit aims at."""
    loss: str
    """hit, score or embedding."""
    goal: str = "promote"
    """promote or demote"""
    share: float | None = None
    """Share of the audience that solves an image; None: nothing does."""
    keeps_ranks: npt.NDArray[np.bool_]
    """(n,): articles whose ranks by query are kept."""

    @property
    def streams(self) -> Ids:
        """Those (n,) of the articles."""
        return self.attack_ids


@dataclasses.dataclass(frozen=True, kw_only=True)
class CategoryBlock(PromotionBlock):
    """All articles of a category, whose images are swapped at once. `loss` is class, centroid or
    hit, and the audience is all users.
    """

    origin: str
    """The category."""
    target: str
    """The category that its images are to resemble."""
    label_of_target: int
    """Its place among the catalog's categories."""
    resembled: Ids
    """Its articles."""
    piece: int
    """Images that are attacked together: memory grows with them, and not with the category."""


class Outcomes(NamedTuple):
    rows: pa.Table
    """schema.outcomes, ordered by tuple, then epsilon; of promotions promotions.promotions"""
    examples: pa.Table
    """schema.examples, in the same order, of each row first the image made for float; promotions
    keep none
    """
    ranks: pa.Table | None = None
    """promotions.RANKS, where ranks by query are asked for"""


def promotion_block_of(
    study: Study,
    cell: Cell,
    article_ids: Ids,
    places: npt.NDArray[np.int64],
    everyone: Audience,
    catalog: Catalog,
) -> PromotionBlock:
    """The block of a cell for some promoted articles (n,), at `places` (n,) among all of them."""
    evaluation, attack = study.evaluation, cell.attack
    ranks_of = evaluation.ranks_of if cell.part == PROMOTIONS else 0
    stop = attack.stop
    if stop != "converged":
        stop = "never" if attack.share is None else "rank-1"
    return PromotionBlock(
        **attacked(study, cell, article_ids, catalog),
        stop=stop,
        audience=everyone,
        ranks=evaluation.ranks,
        aim=evaluation.aim,
        loss=attack.loss,
        goal=attack.goal,
        share=attack.share,
        keeps_ranks=places < ranks_of,
        di=attack.di,
        ti=attack.ti,
    )


def attacked(study: Study, cell: Cell, attack_ids: Ids, catalog: Catalog) -> dict[str, Any]:
    """Fields of any block of a cell, in which some articles (n,) are attacked."""
    return {
        "attack_ids": attack_ids,
        "pixels": catalog.pixels(attack_ids),
        "epsilons": cell.epsilons,
        "batch": study.evaluation.at_once,
        "label": cell.attack.attack,
        "seed": study.seed,
        "nested": cell.attack.nested,
        "deliveries": cell.deliveries,
        "through": cell.attack.made_for,
        "ingest": cell.attack.sees_ingest,
    }


def block_of(study: Study, cell: Cell, tuples: pa.Table, catalog: Catalog) -> Block:
    """The block of a cell for some rows of schema.TUPLES."""
    return Block(
        **attacked(study, cell, tuples["attack_id"].to_numpy(), catalog),
        tuple_ids=tuples["tuple_id"].to_numpy(),
        target_ids=tuples["target_id"].to_numpy(),
        examples=study.evaluation.examples if cell.part == "attacks" else 0,
        stop=cell.attack.stop,
        groups=catalog.groups,
        minimal_rank=cell.attack.rank if cell.attack.minimal else None,
        di=cell.attack.di,
        ti=cell.attack.ti,
    )


def method_of(entry: AttackSpec) -> Attack:
    """The attack of an entry of a study.

    Raises:
        ConfigError: there is none of that name, or it cannot be restarted.
    """
    return registry.build(entry.attack, restarts=entry.restarts, nested=entry.nested)
