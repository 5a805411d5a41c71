"""The evaluation stage: embed the catalog, index it, attack block by block on the actors, write each block as it comes back."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from advrec import provenance, schema
from advrec.catalog.dataset import Catalog
from advrec.config import Study
from advrec.distributed import attacker, engine
from advrec.distributed.attacker import ModelRef
from advrec.distributed.session import processes
from advrec.errors import AdvrecError
from advrec.evaluation import cells
from advrec.evaluation.block import Block, Outcomes
from advrec.evaluation.cells import Cell
from advrec.index import hnsw
from advrec.index.exact import ExactIndex
from advrec.model import checkpoint
from advrec.progress import Progress
from advrec.store import Run, read_embeddings, write_json, write_table

EMBED_SHARD = 256  # images a unit of embedding
RECALL_QUERIES = 500
HEALTH_IMAGES = 64


def evaluate_models(run: Run, study: Study, catalog: Catalog, tuples: pa.Table, wanted: list[Cell]) -> dict[str, str]:
    """All blocks of the cells that are not there yet, model by model.

    Returns:
        Blocks given up on, by key, with the reason.
    """
    actors, gpu = processes(study.resources.actors)
    set_aside: dict[str, str] = {}
    with engine.Pool(lambda: attacker.start(gpu), actors) as pool:
        stage = _Stage(run, study, catalog, tuples, pool)
        for model in study.models:
            missing = [
                (cell, block)
                for cell in wanted
                if cell.model == model
                for block in cells.missing_blocks(run, study, cell, len(tuples))
            ]
            if missing:
                set_aside |= stage.evaluate(model, missing)
            if study.evaluation.checks and not run.health(model).exists():
                stage.measure_health(model)
    return set_aside


class _Stage:
    def __init__(self, run: Run, study: Study, catalog: Catalog, tuples: pa.Table, pool: engine.Pool) -> None:
        self.run, self.study, self.catalog, self.tuples, self.pool = run, study, catalog, tuples, pool
        self._references: dict[str, ModelRef] = {}
        self._tuples_hash = schema.content_hash(tuples)
        self._hashes = {model: provenance.file_hash(run.weights(model)) for model in study.models}

    def evaluate(self, model: str, missing: list[tuple[Cell, int]]) -> dict[str, str]:
        for cell in dict.fromkeys(cell for cell, _ in missing):
            determined_by = cells.identity(self.study, cell) | {
                "weights": self._hashes[model],
                "source_weights": self._hashes.get(cell.attack.source or ""),
                "catalog": self.catalog.sha256,
                "tuples": self._tuples_hash,
            }
            self.run.claim(cell.key, determined_by, made=cells.is_begun(self.run, cell))
        return self._attack(model, missing)

    def measure_health(self, model: str) -> None:
        """Numbers about the model itself, for the checks."""
        reference = self.reference(model)
        most = min(HEALTH_IMAGES, max(2, self.study.evaluation.batch))
        pixels = self.catalog.pixels(self.catalog.ids_of(self.study.evaluation.split)[:most])
        unit = engine.Unit(key=f"health/{model}", method="health", arguments=lambda: (reference, pixels))
        failed = self.pool.run([unit], lambda _, measured: write_json(self.run.health(model), measured))
        if failed:
            raise AdvrecError(f"{model} could not be examined: {failed[unit.key]}")

    def reference(self, model: str) -> ModelRef:
        """The model and its embeddings of the catalog, in the object store."""
        if model not in self._references:
            network = checkpoint.load(self.run.weights(model))
            hashes = {"weights": self._hashes[model], "catalog": self.catalog.sha256}
            self.run.claim(f"embeddings/{model}", hashes, made=self.run.embeddings(model).exists())
            path = self.run.embeddings(model) / "part-000000.parquet"
            if path.exists():
                embeddings = read_embeddings(self.run, model, network.dimension)
            else:
                embeddings = self._embed(model, attacker.put(self._hashes[model], network), network.dimension)
                flat = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), network.dimension)
                columns = {"article_id": np.arange(len(embeddings), dtype=np.int32), "embedding": flat}
                write_table(path, schema.table(schema.embeddings(network.dimension), columns))
            self._measure_index(model, embeddings)
            self._references[model] = attacker.put(self._hashes[model], network, embeddings)
        return self._references[model]

    def _embed(self, model: str, reference: ModelRef, dimension: int) -> npt.NDArray[np.float32]:
        made = np.empty((len(self.catalog), dimension), dtype=np.float32)
        shards = {
            f"embeddings/{model}/{start}": np.arange(start, min(start + EMBED_SHARD, len(made)))
            for start in range(0, len(made), EMBED_SHARD)
        }
        progress = Progress(f"embed {model}", len(made), "images")

        def on_result(unit: engine.Unit, result: npt.NDArray[np.float32]) -> None:
            made[shards[unit.key]] = result
            progress.advance(len(result))

        def arguments(ids: npt.NDArray[np.int64]) -> Callable[[], tuple[Any, ...]]:
            return lambda: (reference, self.catalog.pngs(ids))

        units = [engine.Unit(key=key, method="embed", arguments=arguments(ids)) for key, ids in shards.items()]
        failed = self.pool.run(units, on_result)
        progress.close()
        if failed:
            raise AdvrecError(f"the catalog could not be embedded by {model}: {next(iter(failed.values()))}")
        return made

    def _measure_index(self, model: str, embeddings: npt.NDArray[np.float32]) -> None:
        path = self.run.model(model) / "index.json"
        if not path.exists():
            queries = self.catalog.ids_of(self.study.evaluation.split)[:RECALL_QUERIES]
            try:
                exact = ExactIndex(embeddings)
            except ValueError as error:
                raise AdvrecError(f"{model} cannot recommend: {error}; train it again or leave it out") from None
            write_json(path, hnsw.measure_recall(exact, queries, threads=os.cpu_count() or 1))

    def _attack(self, model: str, missing: list[tuple[Cell, int]]) -> dict[str, str]:
        reference, total = self.reference(model), len(self.tuples)
        work = {cells.block_key(cell, block): (cell, block) for cell, block in missing}
        count = {key: len(self._rows(cell, block)) for key, (cell, block) in work.items()}
        everything = sum(cell.tuples(total) for cell in dict.fromkeys(cell for cell, _ in missing))
        progress = Progress(f"attack {model}", everything, "tuples", done=everything - sum(count.values()))

        def on_result(unit: engine.Unit, outcomes: Outcomes) -> None:
            cell, block = work[unit.key]
            if len(outcomes.examples):
                write_table(self.run.example_block(model, cell.attack.name, block), outcomes.examples)
            write_table(self.run.block(model, cell.attack.name, block, cell.part), outcomes.rows)
            progress.advance(count[unit.key], cell.attack.name if cell.part == "attacks" else f"check {cell.attack.name}")

        def arguments(cell: Cell, block: int) -> Callable[[], tuple[Any, ...]]:
            source = cell.attack.source
            other = self.reference(source) if source is not None and source != model else None
            return lambda: (reference, other, cell.attack, self._block(cell, block))

        units = [engine.Unit(key=key, method="attack", arguments=arguments(*place)) for key, place in work.items()]
        failed = self.pool.run(units, on_result)
        progress.close()
        return failed

    def _rows(self, cell: Cell, block: int) -> pa.Table:
        """Tuples of a block."""
        size = self.study.evaluation.block
        return self.tuples.slice(0, cell.tuples(len(self.tuples))).slice(block * size, size)

    def _block(self, cell: Cell, block: int) -> Block:
        evaluation, rows = self.study.evaluation, self._rows(cell, block)
        attack_ids = rows["attack_id"].to_numpy()
        return Block(
            tuple_ids=rows["tuple_id"].to_numpy(),
            target_ids=rows["target_id"].to_numpy(),
            attack_ids=attack_ids,
            pixels=self.catalog.pixels(attack_ids),
            epsilons=cell.epsilons,
            batch=evaluation.batch,
            examples=evaluation.examples if cell.part == "attacks" else 0,
            label=cell.attack.attack,
            seed=self.study.seed,
            stop=cell.attack.stop,
            nested=cell.attack.nested,
            deliveries=cell.deliveries,
        )
