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
from advrec.evaluation.block import Block, Outcomes
from advrec.evaluation.cells import Cell, block_key, cells, done_blocks, identity, missing_blocks
from advrec.index import hnsw
from advrec.index.exact import ExactIndex
from advrec.model import checkpoint
from advrec.progress import Progress
from advrec.store import Run, read_embeddings, write_json, write_table

EMBED_SHARD = 256  # images a unit of embedding
RECALL_QUERIES = 500


def evaluate_models(run: Run, study: Study, catalog: Catalog, tuples: pa.Table) -> dict[str, str]:
    """All cells of the study that are not there yet, model by model.

    Returns:
        Blocks given up on, by key, with the reason.
    """
    actors, gpu = processes(study.resources.actors)
    set_aside: dict[str, str] = {}
    with engine.Pool(lambda: attacker.start(gpu), actors) as pool:
        for model in study.models:
            missing = [
                (cell, block)
                for cell in cells(study)
                if cell.model == model
                for block in missing_blocks(run, study, cell, len(tuples))
            ]
            if not missing:
                continue
            set_aside |= _Model(run, study, catalog, tuples, model, pool).evaluate(missing)
    return set_aside


class _Model:
    """One model's part of the stage."""

    def __init__(
        self, run: Run, study: Study, catalog: Catalog, tuples: pa.Table, model: str, pool: engine.Pool
    ) -> None:
        self.run, self.study, self.catalog, self.tuples, self.model = run, study, catalog, tuples, model
        self.pool = pool
        self.network = checkpoint.load(run.weights(model))
        self.sha256 = provenance.file_hash(run.weights(model))

    def evaluate(self, missing: list[tuple[Cell, int]]) -> dict[str, str]:
        hashes = {"weights": self.sha256, "catalog": self.catalog.sha256}
        self.run.claim(f"embeddings/{self.model}", hashes, made=self.run.embeddings(self.model).exists())
        tuples_hash = {"tuples": schema.content_hash(self.tuples)}
        for attack in self.study.evaluation.attacks:
            determined_by = identity(self.study, attack.attack) | hashes | tuples_hash
            done = any(True for _ in done_blocks(self.run, Cell(self.model, attack.name)))
            self.run.claim(f"attacks/{self.model}/{attack.name}", determined_by, made=done)
        embeddings = self._embeddings()
        self._measure_index(embeddings)
        return self._attack(attacker.put(self.sha256, self.network, embeddings), missing)

    def _embeddings(self) -> npt.NDArray[np.float32]:
        path = self.run.embeddings(self.model) / "part-000000.parquet"
        dimension = self.network.dimension
        if path.exists():
            return read_embeddings(self.run, self.model, dimension)
        made = self._embed()
        flat = pa.FixedSizeListArray.from_arrays(pa.array(made.ravel()), dimension)
        columns = {"article_id": np.arange(len(made), dtype=np.int32), "embedding": flat}
        write_table(path, schema.table(schema.embeddings(dimension), columns))
        return made

    def _embed(self) -> npt.NDArray[np.float32]:
        reference = attacker.put(self.sha256, self.network)
        made = np.empty((len(self.catalog), self.network.dimension), dtype=np.float32)
        shards = {
            f"embeddings/{self.model}/{start}": np.arange(start, min(start + EMBED_SHARD, len(made)))
            for start in range(0, len(made), EMBED_SHARD)
        }
        progress = Progress(f"embed {self.model}", len(made), "images")

        def on_result(unit: engine.Unit, result: npt.NDArray[np.float32]) -> None:
            made[shards[unit.key]] = result
            progress.advance(len(result))

        def arguments(ids: npt.NDArray[np.int64]) -> Callable[[], tuple[Any, ...]]:
            return lambda: (reference, self.catalog.pixels(ids))

        units = [engine.Unit(key=key, method="embed", arguments=arguments(ids)) for key, ids in shards.items()]
        failed = self.pool.run(units, on_result)
        progress.close()
        if failed:
            raise AdvrecError(f"the catalog could not be embedded by {self.model}: {next(iter(failed.values()))}")
        return made

    def _measure_index(self, embeddings: npt.NDArray[np.float32]) -> None:
        path = self.run.model(self.model) / "index.json"
        if not path.exists():
            queries = self.catalog.ids_of(self.study.evaluation.split)[:RECALL_QUERIES]
            try:
                exact = ExactIndex(embeddings)
            except ValueError as error:
                raise AdvrecError(f"{self.model} cannot recommend: {error}; train it again or leave it out") from None
            write_json(path, hnsw.measure_recall(exact, queries, threads=os.cpu_count() or 1))

    def _attack(self, reference: ModelRef, missing: list[tuple[Cell, int]]) -> dict[str, str]:
        size, total = self.study.evaluation.block, len(self.tuples)
        attacks = {attack.name: attack.attack for attack in self.study.evaluation.attacks}
        work = {block_key(cell, block): (cell, block) for cell, block in missing}
        count = {key: min(size, total - block * size) for key, (_, block) in work.items()}
        everything = total * len(attacks)
        progress = Progress(f"attack {self.model}", everything, "tuples", done=everything - sum(count.values()))

        def on_result(unit: engine.Unit, outcomes: Outcomes) -> None:
            cell, block = work[unit.key]
            if len(outcomes.examples):
                write_table(self.run.example_block(*cell, block), outcomes.examples)
            write_table(self.run.block(*cell, block), outcomes.rows)
            progress.advance(count[unit.key], cell.attack)

        def arguments(cell: Cell, block: int) -> Callable[[], tuple[Any, ...]]:
            return lambda: (reference, attacks[cell.attack], self._block(block))

        units = [engine.Unit(key=key, method="attack", arguments=arguments(*place)) for key, place in work.items()]
        failed = self.pool.run(units, on_result)
        progress.close()
        return failed

    def _block(self, block: int) -> Block:
        evaluation = self.study.evaluation
        rows = self.tuples.slice(block * evaluation.block, evaluation.block)
        attack_ids = rows["attack_id"].to_numpy()
        return Block(
            tuple_ids=rows["tuple_id"].to_numpy(),
            target_ids=rows["target_id"].to_numpy(),
            attack_ids=attack_ids,
            pixels=self.catalog.pixels(attack_ids),
            epsilons=evaluation.epsilons,
            batch=evaluation.batch,
            examples=evaluation.examples,
        )
