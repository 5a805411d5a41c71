"""Tables of a run, read with the columns that their schema promises."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from advrec.errors import AdvrecError
from advrec.run import schema
from advrec.run.directory import Run
from advrec.run.files import numbered

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.dataset as ds


def read_table(path: Path, expected: pa.Schema) -> pa.Table:
    """A table of one file or of all files below a directory, with exactly the expected columns."""
    import pyarrow.dataset as ds  # brings pandas, 25 MiB that no attacker needs: here, and below

    return ds.dataset(path, format="parquet").to_table(columns=expected.names).cast(expected)


def embedding_shards(articles: int) -> list[range]:
    """The articles of each file of embeddings: so many that a small catalog has work for many
    processes, and a large one few files.
    """
    size = min(max(articles // 64 // 64 * 64, 64), 1024)
    return [range(start, min(start + size, articles)) for start in range(0, articles, size)]


def is_embedded(run: Run, model: str, articles: int) -> bool:
    """Say whether the embeddings of the whole catalog are there."""
    return all(
        run.embedding_shard(model, shard).exists()
        for shard in range(len(embedding_shards(articles)))
    )


def read_embeddings(
    run: Run, model: str, dimension: int, ids: npt.NDArray[np.integer] | None = None
) -> npt.NDArray[np.float32]:
    """Raw embeddings (N, dimension) of the whole catalog, row j of article j; or those of some
    articles, ascending.

    Raises:
        AdvrecError: the files hold other articles.
    """
    import pyarrow.dataset as ds

    expected = schema.embeddings(dimension)
    chosen = None if ids is None else ds.field("article_id").isin(pa.array(ids, pa.int32()))
    files = [str(path) for _, path in numbered(run.embeddings(model), "part")]
    dataset = ds.dataset(files, format="parquet")
    embeddings = np.empty((dataset.count_rows(filter=chosen), dimension), dtype=np.float32)
    wanted = np.arange(len(embeddings)) if ids is None else np.asarray(ids)
    row = 0
    # File by file: a large catalog is in memory once, not as a table too.
    for fragment in dataset.get_fragments():
        table = fragment.to_table(columns=expected.names, filter=chosen).cast(expected)
        if not np.array_equal(table["article_id"], wanted[row : row + len(table)]):
            raise AdvrecError(
                f"{fragment.path} holds other articles than its number says; "
                f"delete {run.embeddings(model)}, the evaluation makes it again"
            )
        embeddings[row : row + len(table)] = np.asarray(
            table["embedding"].combine_chunks().flatten()
        ).reshape(-1, dimension)
        row += len(table)
    return embeddings


def read_outcomes(directory: Path, columns: pa.Schema = schema.OUTCOMES) -> pa.Table:
    """All rows of a run's attacks/ or checks/, with the columns model and attack from the
    directories' names before them.
    """
    return outcomes(directory, columns).to_table()


def refuse_copies(rows: "pd.DataFrame", directory: Path, *also: str, of: str = "tuple_id") -> None:
    """Refuse rows of attacks/, promotions/, checks/ or examples/ of which two are about the same.

    Args:
        also: columns that tell rows apart, beside model, attack, budget and `of`.
        of: the column of who is attacked, tuple_id or article_id.

    Raises:
        AdvrecError: there are some; the message names the first.
    """
    twice = rows[rows.duplicated(["model", "attack", of, "epsilon", *also])]
    if len(twice):
        first = twice.iloc[0]
        raise AdvrecError(
            f"{directory}: rows of {first['attack']} on {first['model']} stand there twice, as "
            f"{of.removesuffix('_id')} {first[of]} at epsilon {first['epsilon']:g}; "
            "delete the block file that is a copy"
        )


def outcomes(directory: Path, columns: pa.Schema = schema.OUTCOMES) -> "ds.Dataset":
    """The same, not read yet; examples/ too."""
    import pyarrow.dataset as ds

    keys = pa.schema([("model", pa.string()), ("attack", pa.string())])
    files = [
        str(path)
        for cell in sorted(directory.glob("model=*/attack=*"))
        for _, path in numbered(cell, "block")
    ]
    return ds.dataset(
        files,
        format="parquet",
        partitioning=ds.partitioning(keys, flavor="hive"),
        partition_base_dir=str(directory),
        schema=pa.schema([*keys, *columns]),
    )
