"""The evaluation stage: embed the catalog, index it, attack block by block.

The workers of a pool compute; the driver writes each block as it comes back.
"""

import dataclasses
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from advrec.catalog.dataset import Catalog
from advrec.distributed import attacker, memory
from advrec.distributed.attacker import Attacker
from advrec.distributed.embed import UnusableModelError
from advrec.distributed.models import Models
from advrec.distributed.placement import (
    Placement,
    left_out,
    place,
    this_machine,
    within_memory,
)
from advrec.distributed.pool import Pool, Unit, open_pool
from advrec.distributed.watch import Watch, Work
from advrec.errors import AdvrecError
from advrec.evaluation.block import AnyBlock, Outcomes, block_of, promotion_block_of
from advrec.evaluation.categories import Categories, category_block_of, choose
from advrec.evaluation.promoted import Promoted
from advrec.evaluation.rates import headline_rank
from advrec.model import checkpoint
from advrec.run import cells, identity, schema
from advrec.run.cells import BEFORE_AUDIENCES, CATEGORY_ATTACKS, Cell
from advrec.run.directory import CHAINS, FUSED, LEVELS, Run
from advrec.run.files import write_json, write_table
from advrec.run.log import say
from advrec.spec import budgets
from advrec.spec.study import Study

HEALTH_IMAGES = 64

log = logging.getLogger(__name__)


def evaluate_models(
    run: Run,
    study: Study,
    catalog: Catalog,
    tuples: pa.Table,
    promoted: Promoted | None,
    missing: Mapping[Cell, Sequence[int]],
    unexamined: Collection[str],
    *,
    grows: bool,
) -> dict[str, str]:
    """Attack missing blocks and examine models, model by model.

    Args:
        tuples: rows of schema.TUPLES.
        promoted: articles and their audiences; None where no audience is measured.
        missing: the numbers of each cell's missing blocks.
        unexamined: models without the measurements that the checks need.
        grows: whether nodes may join the cluster later.

    Returns:
        The reason of each block that was given up on, by key; the run's set_aside.json has it since
        then.
    """
    models = {
        study.hybrids[model].encoder if model in study.hybrids else model
        for cell in missing
        for model in (cell.model, *cell.attack.sources)
    }
    placement = _placement(run, study, models, grows=grows)
    device = "cuda" if placement.gpus else "cpu"
    renew_s = math.inf if placement.gpus else attacker.RENEW_S
    with open_pool(Attacker, device, placement.cpus, placement=placement, renew_s=renew_s) as pool:
        stage = _Stage(run, study, catalog, tuples, promoted, pool, device)
        left = [name for name, spec in study.models.items() if spec.compared]
        while left:
            model = left.pop(0)
            stage.attack(
                model, {cell: numbers for cell, numbers in missing.items() if cell.model == model}
            )
            if model in unexamined:
                stage.measure_health(model)
            sources = {
                source for cell in missing if cell.model in left for source in cell.attack.sources
            }
            encoders = {study.hybrids[model].encoder for model in left if model in study.hybrids}
            stage.models.keep_only({*left, *sources, *encoders})
    return stage.set_aside


def embed(run: Run, study: Study, catalog: Catalog, model: str, *, grows: bool) -> None:
    """Embed the catalog by one model, as `evaluate_models` does, before there are tuples.

    Raises:
        AdvrecError: it cannot recommend.
    """
    placement = _placement(run, study, {model}, grows=grows)
    device = "cuda" if placement.gpus else "cpu"
    with open_pool(Attacker, device, placement.cpus, placement=placement) as pool:
        try:
            Models(run, study, catalog, pool, device, _store(study)).reference(model)
        except UnusableModelError as error:
            raise AdvrecError(str(error)) from None


def _placement(run: Run, study: Study, models: Collection[str], *, grows: bool) -> Placement:
    """Find room for attackers of these models, in memory too."""
    if study.resources.actors == 0:
        return place(study.resources, this_machine(), grows=grows)
    from advrec.distributed.session import nodes

    there = nodes()
    wanted = place(study.resources, there, grows=grows)
    if wanted.actors == 1 or wanted.gpus:  # nothing to leave out; a GPU has a memory of its own
        return wanted
    each = max(
        (memory.process_bytes(checkpoint.load(run.weights(model)), study) for model in models),
        default=0.0,
    )
    placement = within_memory(wanted, there, each, grows=grows)
    if placement.actors < wanted.actors:
        say(f"evaluate: {left_out(wanted, placement, there, each)}")
    return placement


def _store(study: Study) -> float:
    """Bytes of the smallest node's object store; infinite without Ray."""
    if study.resources.actors == 0:
        return math.inf
    from advrec.distributed.session import nodes

    sizes = (node.get("object_store_memory", math.inf) for node in nodes() if node.get("CPU"))
    return min(sizes, default=math.inf)


class _Stage:
    """The work of an evaluation on the workers of a pool."""

    def __init__(
        self,
        run: Run,
        study: Study,
        catalog: Catalog,
        tuples: pa.Table,
        promoted: Promoted | None,
        pool: Pool,
        device: str,
    ) -> None:
        self._run, self._study, self._catalog = run, study, catalog
        self._tuples, self._pool, self._device = tuples, pool, device
        self._promoted = promoted
        self._tuples_hash = schema.content_hash(tuples)
        self.models = Models(run, study, catalog, pool, device, _store(study))
        self.set_aside: dict[str, str] = {}
        self._told = False
        self._protocols: dict[Cell, int] = {}
        """Those of cells; one that was begun by an earlier version goes on by its own."""

    def attack(self, model: str, missing: Mapping[Cell, Sequence[int]]) -> None:
        """Attack the missing blocks of a model's cells."""
        work = self._work(missing)
        if not work:
            return

        def arguments(key: str) -> tuple[Any, ...]:
            watch.sent(key)
            return self._arguments(work[key])

        def on_result(unit: Unit, outcomes: Outcomes) -> None:
            self._write(unit.key, work[unit.key], outcomes)
            watch.done(unit.key, outcomes.rows)

        def on_set_aside(unit: Unit, reason: str) -> None:
            self._set_aside({unit.key: reason})
            watch.set_aside(unit.key)

        meters = None
        if self._study.resources.actors != 0:
            from advrec.distributed.meters import Meters

            meters = Meters(headline_rank(self._study.evaluation.ranks))
        units = [Unit(key=key, method="attack", arguments=partial(arguments, key)) for key in work]
        with Watch(self._run, self._study, model, work, len(self._tuples), meters) as watch:
            self._pool.run(units, on_result, on_set_aside)

    def measure_health(self, model: str) -> None:
        """Measure numbers about the model itself, for the checks."""
        key = cells.health_key(model)
        try:
            reference = self.models.reference(model)
        except UnusableModelError as error:
            self._set_aside({key: str(error)})
            return

        def on_result(_: Unit, measured: dict[str, Any]) -> None:
            if measured["plain_step"]:
                log.info("%s takes the plain step: %s", model, measured["plain_step"])
            write_json(self._run.health(model), measured)

        most = min(HEALTH_IMAGES, max(2, self._study.evaluation.at_once))
        pixels = self._catalog.pixels(self._catalog.ids_of(self._study.evaluation.split, most))
        self._pool.run(
            [Unit(key=key, method="health", arguments=lambda: (reference, pixels))],
            on_result,
            lambda _, reason: self._set_aside({key: reason}),
        )

    def _work(self, missing: Mapping[Cell, Sequence[int]]) -> dict[str, Work]:
        """The missing blocks, by key: the first of each cell first, so that the pace of all is
        soon known. The others follow from the last cell back: studies name their dearest attack
        last, and short blocks at the end leave no core waiting for a long one. Blocks of unusable
        models are set aside.
        """
        first: dict[str, Work] = {}
        others: dict[str, Work] = {}
        for cell, blocks in missing.items():
            try:
                self.models.of(cell)
                if cell.part == CATEGORY_ATTACKS:
                    _ = self._categories
            except UnusableModelError as error:
                self._set_aside({cells.block_key(cell, block): str(error) for block in blocks})
                continue
            self._claim(cell)
            for block in blocks:
                size = self._study.evaluation.block
                one = Work(cell, block, min(size, cell.tuples(len(self._tuples)) - block * size))
                work = first if block == blocks[0] else others
                work[cells.block_key(cell, block)] = one
        return first | dict(reversed(others.items()))

    def _claim(self, cell: Cell) -> None:
        determined_by = identity.outcomes(
            self._study,
            cell,
            weights=self.models.sha256,
            catalog=self._catalog.sha256,
            tuples=self._hash_of(cell),
            device=self._device,
        )
        begun = cells.is_begun(self._run, cell)
        if begun:
            recorded = self._run.identities().get(cell.key)
            determined_by = identity.as_finished(recorded, determined_by)
        self._run.claim(cell.key, determined_by, made=begun)
        self._protocols[cell] = determined_by["protocol"]
        if determined_by["protocol"] >= LEVELS and not self._told:
            self._tell_small_budgets()

    def _hash_of(self, cell: Cell) -> str:
        """The content of the tuples, or of those who stand in their place."""
        if cell.part == CATEGORY_ATTACKS:
            return self.models.sha256[next(iter(self._study.hybrids))]
        if cell.part not in BEFORE_AUDIENCES:
            return self._tuples_hash
        assert self._promoted is not None, "the stage has drawn them"
        return self._promoted.hash_of(cell.audience)

    def _tell_small_budgets(self) -> None:
        """Say once which budgets change nothing in 8 bits."""
        self._told = True
        evaluation = self._study.evaluation
        small = [budgets.shown(each) for each in budgets.below_one_level(evaluation.epsilons)]
        if small:
            say(
                f"evaluate: epsilon {', '.join(small)} is below one of the 255 levels of an image "
                f"of 8 bits, so nothing changes there after {', '.join(evaluation.round_trips)} "
                "and nothing is attacked for it"
            )

    def _arguments(self, one: Work) -> tuple[Any, ...]:
        """Those of Attacker.attack."""
        block = self._block(one)
        protocol = self._protocols[one.cell]
        block = dataclasses.replace(
            block,
            fused=protocol >= FUSED,
            levels=protocol >= LEVELS,
            chains=protocol >= CHAINS,
        )
        return *self.models.of(one.cell), one.cell.attack, block

    @cached_property
    def _categories(self) -> Categories:
        """Those of the category attack; raises UnusableModelError where nobody can choose them."""
        self.models.reference(next(iter(self._study.hybrids)))
        chosen = choose(self._run, self._study, self._catalog)
        say(f"evaluate: category attack from {chosen.origin} to {chosen.target}")
        return chosen

    def _block(self, one: Work) -> AnyBlock:
        if one.cell.part == CATEGORY_ATTACKS:
            run, study, catalog = self._run, self._study, self._catalog
            return category_block_of(run, study, one.cell, catalog, self._categories)
        if one.cell.part not in BEFORE_AUDIENCES:
            rows = self._rows(one.cell, one.block)
            return block_of(self._study, one.cell, rows, self._catalog)
        assert self._promoted is not None, "the stage has drawn them"
        size = self._study.evaluation.block
        ids = self._promoted.article_ids[: one.cell.articles][one.block * size :][:size]
        places = one.block * size + np.arange(len(ids))
        everyone = self._promoted.audiences[one.cell.audience]
        return promotion_block_of(self._study, one.cell, ids, places, everyone, self._catalog)

    def _write(self, key: str, one: Work, outcomes: Outcomes) -> None:
        """Write a block; the file of its rows comes last and says that all is there."""
        cell = one.cell
        if len(outcomes.examples):
            path = self._run.example_block(cell.model, cell.attack.name, one.block)
            write_table(path, outcomes.examples)
        if outcomes.ranks is not None:
            path = self._run.block(cell.model, cell.attack.name, one.block, "promotion_ranks")
            write_table(path, outcomes.ranks)
        write_table(
            self._run.block(cell.model, cell.attack.name, one.block, cell.part), outcomes.rows
        )
        batch = pc.min(outcomes.rows["batch"]).as_py()
        if batch < self._study.evaluation.at_once:
            log.info("%s: %d images at once, for want of memory", key, batch)

    def _set_aside(self, reasons: dict[str, str]) -> None:
        self.set_aside |= reasons
        self._run.write_set_aside(self._run.set_aside() | reasons)

    def _rows(self, cell: Cell, block: int) -> pa.Table:
        """Tuples of a block."""
        size = self._study.evaluation.block
        return self._tuples.slice(0, cell.tuples(len(self._tuples))).slice(block * size, size)
