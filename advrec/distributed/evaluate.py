"""The evaluation stage: embed the catalog, index it, attack block by block on the actors, write
each block as it comes back.
"""

import dataclasses
import logging
import math
import os
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from advrec.catalog.dataset import Catalog
from advrec.distributed import attacker
from advrec.distributed.attacker import Attacker, ModelRef
from advrec.distributed.embed import UnusableModelError, embed_catalog
from advrec.distributed.placement import place, this_machine
from advrec.distributed.pool import Pool, Unit, open_pool
from advrec.distributed.watch import Watch, Work, success_rank
from advrec.evaluation import lists
from advrec.evaluation.block import Block, Outcomes, block_of
from advrec.model import checkpoint
from advrec.recommenders import hnsw
from advrec.recommenders.bank import Floats
from advrec.recommenders.ranks import similar_articles
from advrec.run import cells, identity, provenance, schema
from advrec.run.cells import Cell
from advrec.run.directory import Run
from advrec.run.files import write_json, write_table
from advrec.run.log import say
from advrec.run.tables import read_embeddings
from advrec.spec.study import Study

RECALL_QUERIES = 500
HEALTH_IMAGES = 64

log = logging.getLogger(__name__)


def evaluate_models(
    run: Run, study: Study, catalog: Catalog, tuples: pa.Table, wanted: list[Cell], *, grows: bool
) -> dict[str, str]:
    """All blocks of the cells that are not there yet, model by model.

    Args:
        grows: whether nodes may join the cluster later.

    Returns:
        What was given up on, by key, with the reason; the run's set_aside.json has had it since
        then.
    """
    placement = place(study.resources, _nodes(study), grows=grows)
    device = "cuda" if placement.gpus else "cpu"
    renew_s = math.inf if placement.gpus else attacker.RENEW_S
    with open_pool(Attacker, device, placement.cpus, placement=placement, renew_s=renew_s) as pool:
        stage = _Stage(run, study, catalog, tuples, pool, device)
        for place_of_model, model in enumerate(study.compared.models):
            missing = [
                (cell, block)
                for cell in wanted
                if cell.model == model
                for block in cells.missing_blocks(run, study, cell, len(tuples))
            ]
            if missing:
                stage.attack(model, missing)
            if study.evaluation.checks and not run.health(model).exists():
                stage.measure_health(model)
            later = list(study.compared.models)[place_of_model + 1 :]
            stage.forget_all_but(
                {*later, *(cell.attack.source for cell in wanted if cell.model in later)}
            )
    return stage.failed


def _nodes(study: Study) -> list[dict[str, float]]:
    if study.resources.actors == 0:
        return this_machine()
    from advrec.distributed.session import nodes

    return nodes()


class _Stage:
    def __init__(
        self, run: Run, study: Study, catalog: Catalog, tuples: pa.Table, pool: Pool, device: str
    ) -> None:
        self.run, self.study, self.catalog, self.tuples, self.pool, self.device = (
            run,
            study,
            catalog,
            tuples,
            pool,
            device,
        )
        self.failed: dict[str, str] = {}
        self._references: dict[str, ModelRef | UnusableModelError] = {}
        self._tuples_hash = schema.content_hash(tuples)
        self._hashes = {model: provenance.file_hash(run.weights(model)) for model in study.models}

    def attack(self, model: str, missing: list[tuple[Cell, int]]) -> None:
        """Attack the missing blocks of a model. What cannot be done because a model is not usable
        is set aside.
        """
        possible: dict[Cell, tuple[ModelRef, ModelRef | None]] = {}
        work: dict[str, Work] = {}
        unusable: dict[str, str] = {}
        for cell, block in missing:
            key = cells.block_key(cell, block)
            try:
                if cell not in possible:
                    possible[cell] = self._models(cell)
                    self._claim(cell)
            except UnusableModelError as error:
                unusable[key] = str(error)
            else:
                work[key] = Work(cell, block, len(self._rows(cell, block)))
        self._set_aside(unusable)
        if not work:
            return

        def on_result(unit: Unit, outcomes: Outcomes) -> None:
            cell, block, _ = work[unit.key]
            if len(outcomes.examples):
                write_table(
                    self.run.example_block(model, cell.attack.name, block), outcomes.examples
                )
            write_table(self.run.block(model, cell.attack.name, block, cell.part), outcomes.rows)
            batch = pc.min(outcomes.rows["batch"]).as_py()
            if batch < self.study.evaluation.batch:
                log.info("%s: %d images at once, for want of memory", unit.key, batch)
            watch.done(unit.key, outcomes.rows)

        def on_set_aside(unit: Unit, reason: str) -> None:
            self._set_aside({unit.key: reason})
            watch.set_aside(unit.key)

        def arguments(cell: Cell, block: int) -> Callable[[], tuple[Any, ...]]:
            return lambda: (*possible[cell], cell.attack, self._block(cell, block))

        units = [
            Unit(key=key, method="attack", arguments=arguments(cell, block))
            for key, (cell, block, _) in work.items()
        ]
        meters = None
        if self.study.resources.actors != 0:
            from advrec.distributed.meters import Meters

            meters = Meters(success_rank(self.study))
        with Watch(self.run, self.study, model, work, len(self.tuples), meters) as watch:
            self.pool.run(units, on_result, on_set_aside)

    def measure_health(self, model: str) -> None:
        """Numbers about the model itself, for the checks."""
        try:
            reference = self._reference(model)
        except UnusableModelError as error:
            self._set_aside({cells.health_key(model): str(error)})
            return
        most = min(HEALTH_IMAGES, max(2, self.study.evaluation.batch))
        pixels = self.catalog.pixels(self.catalog.ids_of(self.study.evaluation.split)[:most])
        unit = Unit(
            key=cells.health_key(model), method="health", arguments=lambda: (reference, pixels)
        )
        self.pool.run(
            [unit],
            lambda _, measured: write_json(self.run.health(model), measured),
            lambda failed, reason: self._set_aside({failed.key: reason}),
        )

    def forget_all_but(self, models: set[str | None]) -> None:
        """Let the object store free the embeddings of models that are not needed any more."""
        self._references = {
            model: known for model, known in self._references.items() if model in models
        }

    def _set_aside(self, reasons: dict[str, str]) -> None:
        if reasons:
            self.failed |= reasons
            self.run.write_set_aside(self.run.set_aside() | reasons)

    def _models(self, cell: Cell) -> tuple[ModelRef, ModelRef | None]:
        """The model that is attacked, and the one that its perturbations are made on where that is
        another.
        """
        source = cell.attack.source
        return self._reference(cell.model), self._reference(
            source
        ) if source is not None and source != cell.model else None

    def _claim(self, cell: Cell) -> None:
        determined_by = identity.outcomes(
            self.study,
            cell,
            weights=self._hashes,
            catalog=self.catalog.sha256,
            tuples=self._tuples_hash,
            device=self.device,
        )
        self.run.claim(cell.key, determined_by, made=cells.is_begun(self.run, cell))

    def _reference(self, model: str) -> ModelRef:
        """The model and its embeddings of the catalog, in the object store.

        Raises:
            UnusableModelError: they cannot be had.
        """
        if model not in self._references:
            try:
                self._references[model] = self._load(model)
            except UnusableModelError as error:
                self._references[model] = error
        known = self._references[model]
        if isinstance(known, UnusableModelError):
            raise known
        return known

    def _load(self, model: str) -> ModelRef:
        network = checkpoint.load(self.run.weights(model))
        determined_by = identity.embeddings(
            self.study,
            weights=self._hashes[model],
            catalog=self.catalog.sha256,
            articles=len(self.catalog),
            device=self.device,
        )
        self.run.claim(
            f"embeddings/{model}", determined_by, made=self.run.embeddings(model).exists()
        )
        reference = attacker.put(self.pool, self._hashes[model], network)
        embed_catalog(self.run, self.pool, model, reference, self.catalog, network.dimension)
        embeddings = read_embeddings(self.run, model, network.dimension)
        self._measure_index(model, embeddings)
        return dataclasses.replace(reference, embeddings=self.pool.put(embeddings))

    def _measure_index(self, model: str, embeddings: Floats) -> None:
        try:
            exact = similar_articles(embeddings)
        except ValueError as error:
            raise UnusableModelError(
                f"{model} cannot recommend: {error}; train it again or leave it out"
            ) from None
        if not self.run.index(model).exists():
            queries = self.catalog.ids_of(self.study.evaluation.split)[:RECALL_QUERIES]
            measured = hnsw.measure_recall(exact, queries, threads=os.cpu_count() or 1)
            found = next(value for key, value in measured.items() if key.startswith("recall_at_"))
            say(
                f"index {model}: HNSW finds {100 * found:.1f} % of the nearest among {len(exact):,} articles (n = {len(queries)} queries)"
            )
            write_json(self.run.index(model), measured)
        if not self.run.lists(model).exists():
            write_table(
                self.run.lists(model),
                lists.nearest(
                    exact, self.catalog.ids_of(self.study.evaluation.split)[: lists.QUERIES]
                ),
            )

    def _rows(self, cell: Cell, block: int) -> pa.Table:
        """Tuples of a block."""
        size = self.study.evaluation.block
        return self.tuples.slice(0, cell.tuples(len(self.tuples))).slice(block * size, size)

    def _block(self, cell: Cell, block: int) -> Block:
        return block_of(self.study, cell, self._rows(cell, block), self.catalog)
