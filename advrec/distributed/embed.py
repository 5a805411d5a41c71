"""Embeddings of the catalog, shard by shard on the attackers; the driver writes each one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from advrec.catalog.dataset import Catalog
from advrec.distributed.attacker import ModelRef
from advrec.distributed.pool import Pool, Unit
from advrec.errors import AdvrecError
from advrec.run import schema
from advrec.run.directory import Run
from advrec.run.files import write_table
from advrec.run.progress import Progress
from advrec.run.tables import embedding_shards


class UnusableModelError(AdvrecError):
    """A model whose embeddings of the catalog cannot be had, or that cannot recommend with them."""


def embed_catalog(
    run: Run, pool: Pool, model: str, reference: ModelRef, catalog: Catalog, dimension: int
) -> None:
    """Make the shards of a model's embeddings that are not there yet.

    Args:
        dimension: D, the number of values of an embedding.

    Raises:
        UnusableModelError: a shard was given up on; the others are kept.
    """
    missing = {
        f"embeddings/{model}/{number}": (number, ids)
        for number, ids in enumerate(embedding_shards(len(catalog)))
        if not run.embedding_shard(model, number).exists()
    }
    if not missing:
        return
    left = sum(len(ids) for _, ids in missing.values())

    def write(unit: Unit, embeddings: npt.NDArray[np.float32]) -> None:
        """Write a shard (n, D)."""
        number, ids = missing[unit.key]
        flat = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), dimension)
        columns = {"article_id": np.arange(ids.start, ids.stop, dtype=np.int32), "embedding": flat}
        write_table(
            run.embedding_shard(model, number), schema.table(schema.embeddings(dimension), columns)
        )
        progress.advance(len(ids))

    def arguments(ids: range) -> Callable[[], tuple[Any, ...]]:
        return lambda: (reference, catalog.pngs(ids))

    units = [
        Unit(key=key, method="embed", arguments=arguments(ids)) for key, (_, ids) in missing.items()
    ]
    with Progress(f"embed {model}", len(catalog), "images", done=len(catalog) - left) as progress:
        failed = pool.run(units, write)
    if failed:
        raise UnusableModelError(
            f"the catalog could not be embedded by {model}: {next(iter(failed.values()))}"
        )
