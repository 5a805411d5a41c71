"""The attack on a whole category (TAaMR, Di Noia et al. 2020): all its images are attacked and
swapped at once, then all users' lists are made anew.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from advrec.attacks.registry import Attack
from advrec.attacks.result import Reached, Smallest
from advrec.catalog import interactions
from advrec.catalog.dataset import Catalog
from advrec.errors import ConfigError
from advrec.evaluation import bootstrap
from advrec.evaluation.attempts import Aim, Bounds
from advrec.evaluation.block import CategoryBlock, Outcomes, attacked
from advrec.evaluation.harness import attack_all
from advrec.evaluation.measure import Measure
from advrec.evaluation.promotions import Wishes
from advrec.evaluation.rows import Places, Rows
from advrec.recommenders import load, losses, places
from advrec.recommenders.audience import Audience
from advrec.recommenders.bank import Doubles, Floats
from advrec.recommenders.ranks import ExactIndex
from advrec.recommenders.recommender import Recommender
from advrec.run import schema
from advrec.run.category_attacks import category_attacks
from advrec.run.cells import Cell
from advrec.run.directory import Run
from advrec.run.tables import read_embeddings
from advrec.spec.audiences import USERS
from advrec.spec.base import FLOAT
from advrec.spec.category_attack import CENTROID, CLASS, HIT
from advrec.spec.study import Study

SPENT = ("gradient_steps", "forward_passes", "seconds")
NORMS = ("linf", "l2")
NOTED = ("epsilon", *NORMS, "raw_linf", *SPENT, "batch", "winner", "inherited")
"""Columns that are noted of each image."""


class Categories(NamedTuple):
    """Whose images are swapped, and whose they are to resemble."""

    origin: str
    target: str


def choose(run: Run, study: Study, catalog: Catalog) -> Categories:
    """The categories of a study's category attack. What it does not name is by CHR@K of the first
    hybrid, whose encoder has embedded the catalog: the least and the most recommended, of equal
    ones the first.

    Raises:
        ConfigError: a category has no article, or there is no other one.
    """
    wanted = study.evaluation.category_attack
    assert wanted is not None, "a cell asks for it"
    there = [name for name in catalog.categories if name in set(catalog.category_names)]
    for key, named in (("origin", wanted.origin), ("target", wanted.target)):
        if named is not None and named not in there:
            raise ConfigError(
                f"evaluation.category_attack.{key} is {named}, a category without an article; "
                f"name another one: {', '.join(there)}"
            )
    if len(there) < 2:
        raise ConfigError(
            "evaluation.category_attack needs two categories, and the catalog has articles of "
            f"{len(there)}; leave it out"
        )
    if wanted.origin is not None and wanted.target is not None:
        return Categories(wanted.origin, wanted.target)
    first, spec = next(iter(study.hybrids.items()))
    made, seen = load.factors(run, first, len(catalog))
    embeddings = read_embeddings(run, spec.encoder, made.projection.shape[1])
    index = ExactIndex(made.centred(embeddings).bank(embeddings, seen))
    users = np.arange(made.num_users, dtype=np.int32)
    chr_of = dict(
        zip(
            catalog.categories,
            places.shares(
                index,
                users,
                catalog.category_labels,
                len(catalog.categories),
                study.evaluation.aim,
            ),
            strict=True,
        )
    )
    others = [name for name in there if name != wanted.origin]
    target = wanted.target or max(others, key=chr_of.__getitem__)
    others = [name for name in there if name != target]
    return Categories(wanted.origin or min(others, key=chr_of.__getitem__), target)


def category_block_of(
    run: Run, study: Study, cell: Cell, catalog: Catalog, between: Categories
) -> CategoryBlock:
    """The block of a cell of category_attacks."""
    names = np.array(catalog.category_names)
    ids = np.flatnonzero(names == between.origin).astype(np.int32)
    users = np.arange(interactions.read(run, len(catalog)).num_users, dtype=np.int32)
    evaluation = study.evaluation
    return CategoryBlock(
        **attacked(study, cell, ids, catalog),
        audience=Audience(USERS, users, np.ones(len(users))),
        ranks=evaluation.ranks,
        aim=evaluation.aim,
        loss=cell.attack.name,
        keeps_ranks=np.zeros(len(ids), dtype=bool),
        origin=between.origin,
        target=between.target,
        label_of_target=catalog.categories.index(between.target),
        resembled=np.flatnonzero(names == between.target).astype(np.int32),
        piece=evaluation.block,
    )


def evaluate_category(recommender: Recommender, attack: Attack, block: CategoryBlock) -> Outcomes:
    """Attack every image of a category, swap all of them, and rank everything anew, once an
    epsilon. Before and after come from the same code.

    Raises:
        ValueError: the attack returned pixels that are not finite, or the encoder has no category
            head and the loss is its.
    """
    items, noted = [], []
    for start in range(0, len(block.attack_ids), block.piece):
        some = slice(start, start + block.piece)
        piece = dataclasses.replace(
            block,
            attack_ids=block.attack_ids[some],
            pixels=block.pixels[some],
            keeps_ranks=block.keeps_ranks[some],
        )
        measure = Swapped(recommender, piece)
        attack_all(_aim(recommender.as_seen(ingest=block.ingest), piece), measure, attack)
        items.append(measure.items)
        noted.append(measure.outcomes().rows)
    return Outcomes(
        _rows(recommender, block, np.concatenate(items, axis=2), pa.concat_tables(noted)),
        schema.EXAMPLES.empty_table(),
    )


def _aim(source: Recommender, block: CategoryBlock) -> Aim:
    if block.loss == HIT:
        return Wishes(source, block)
    objective: losses.Alike
    if block.loss == CENTROID:
        point = source.raw[block.resembled].mean(axis=0, dtype=np.float64).astype(np.float32)
        objective = losses.Point(source.embed, torch.from_numpy(point).to(source.device))
    else:
        assert block.loss == CLASS, block.loss
        if source.category_head is None:
            raise ValueError("the encoder has no category head; leave class out of towards")
        objective = losses.CategoryOf(source.embed, source.category_head, block.label_of_target)
    return _Same(source.device, objective, len(block.attack_ids))


class _Same(Aim):
    """The same wish for each of n images, which nothing solves."""

    def __init__(self, device: str, objective: losses.Alike, size: int) -> None:
        self.device, self._objective = device, objective
        self.bounds = Bounds(torch.full((size,), -torch.inf), torch.full((size,), torch.inf))

    def objective(self, places: Places) -> losses.Alike:
        """The loss of the images at `places` (n,)."""
        return self._objective


class Swapped(Measure):
    """The items that attacked images become, and what each image took."""

    block: CategoryBlock
    items: Floats
    """(E, F, n, D'), F forms: as computed, and by delivery."""

    def __init__(self, recommender: Recommender, block: CategoryBlock) -> None:
        self._recommender, self.block = recommender, block
        fields = [schema.OUTCOMES.field(name) for name in NOTED]
        fields += [
            schema.OUTCOMES.field(norm).with_name(schema.suffixed(norm, delivery))
            for delivery in block.through
            for norm in NORMS
        ]
        self.table = Rows(block, pa.schema(fields))
        clean = recommender.bank.items[block.attack_ids]
        self._forms = (FLOAT, *block.deliveries)
        self.items = np.tile(clean, (len(block.epsilons), len(self._forms), 1, 1))

    def unchanged(self, places: Places) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def judged(self, rows: Places, clean: Tensor, images: Tensor, delivery: str) -> dict[str, Any]:
        """Nothing yet: images (n, C, H, W) become items. One that is not changed keeps the
        article's own item, bit for bit.
        """
        places, number = np.divmod(rows, len(self.block.epsilons))
        changed = (images != clean).flatten(1).any(1).cpu().numpy()
        items = self._recommender.items(images, self.block.attack_ids[places])
        form = self._forms.index(delivery)
        self.items[number[changed], form, places[changed]] = items[changed]
        return {}

    def keep(self, rows: Places, images: Tensor, delivery: str) -> None:
        """Keep none of the images (n, C, H, W)."""

    def own(self, places: Places, reached: Reached) -> None:
        """Note nothing of an attack's own."""

    def smallest(self, places: Places, smallest: Smallest) -> dict[str, Any]:
        """Nothing: minimal-K is refused."""
        return {}

    def outcomes(self) -> Outcomes:
        """Rows as they were noted, one an image and epsilon."""
        return Outcomes(self.table.whole(), schema.EXAMPLES.empty_table())


def _rows(
    recommender: Recommender, block: CategoryBlock, items: Floats, noted: pa.Table
) -> pa.Table:
    """Rows of category_attacks, from items (E, F, n, D') of the attacked images and what was noted
    of each image and epsilon.
    """
    index, count = recommender.index, len(block.epsilons)
    everything = np.arange(len(index))
    members, target = (np.isin(everything, ids) for ids in (block.attack_ids, block.resembled))

    def held(of: ExactIndex) -> places.Held:
        return places.held(of, block.audience.query_ids, members, target, block.ranks)

    def of_images(name: str) -> npt.NDArray[Any]:
        """Values (n, E) that were noted."""
        values: npt.NDArray[Any] = noted[name].to_numpy().reshape(-1, count)
        return values

    before = held(index)
    columns: dict[str, Any] = {
        "epsilon": np.array(block.epsilons),
        "origin": [block.origin] * count,
        "target": [block.target] * count,
        "articles": np.full(count, len(block.attack_ids), dtype=np.int32),
        "users": np.full(count, len(block.audience.query_ids), dtype=np.int32),
        "batch": of_images("batch").min(axis=0),
        **{name: of_images(name).sum(axis=0) for name in SPENT},
    }
    worth = _worth(before, block.ranks, "before")
    columns |= {name: np.full(count, value) for name, value in worth.items()}
    for form, delivery in enumerate((FLOAT, *block.deliveries)):
        after = [held(_swapped(index, block.attack_ids, each)) for each in items[:, form]]
        found = [
            _worth(each, block.ranks, "after") | _change(before, each, block.ranks)
            for each in after
        ]
        columns |= {_of(name, delivery): [row[name] for row in found] for name in found[0]}
        for norm in NORMS if delivery in (FLOAT, *block.through) else ():
            values = of_images(_of(norm, delivery))
            columns[_of(f"{norm}_max", delivery)] = values.max(axis=0)
            columns[_of(f"{norm}_mean", delivery)] = values.mean(axis=0)
    return schema.table(category_attacks(block.ranks, block.deliveries, block.through), columns)


def _of(name: str, delivery: str) -> str:
    """Name of a column that is about a delivery, or float."""
    return name if delivery == FLOAT else schema.suffixed(name, delivery)


def _worth(held: places.Held, ranks: Sequence[int], when: str) -> dict[str, float]:
    """Columns of what a category holds."""
    columns: dict[str, float] = {}
    for place, rank in enumerate(ranks):
        columns |= _interval(f"chr_{when}_{rank}", held.chr[place], held.by_query[:, place])
        columns[f"ndcg_{when}_{rank}"] = held.ndcg[place]
        columns[f"target_chr_{when}_{rank}"] = held.target_chr[place]
    return columns


def _change(before: places.Held, after: places.Held, ranks: Sequence[int]) -> dict[str, float]:
    """Columns of how much more it holds after an attack; the same users are drawn for both."""
    changes, by_query = after.chr - before.chr, after.by_query - before.by_query
    columns: dict[str, float] = {}
    for place, rank in enumerate(ranks):
        columns |= _interval(f"chr_change_{rank}", changes[place], by_query[:, place])
    return columns


def _interval(name: str, share: float, by_query: Doubles) -> dict[str, float]:
    """A share and its bounds, by that of each query (Q,)."""
    found = bootstrap.repeated(by_query[:, None])
    return {name: share, f"{name}_low": found.low[0], f"{name}_high": found.high[0]}


def _swapped(index: ExactIndex, article_ids: npt.NDArray[np.int32], items: Floats) -> ExactIndex:
    """The index with other items (n, D') of some articles (n,)."""
    whole = index.bank.items.copy()
    whole[article_ids] = items
    return ExactIndex(dataclasses.replace(index.bank, items=whole))
