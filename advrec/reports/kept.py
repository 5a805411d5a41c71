"""Images that a run has kept, and what became of them, read for its report."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from advrec.catalog.pixels import Pixels, decode_png
from advrec.reports.results import Results
from advrec.run import schema
from advrec.run.files import numbered
from advrec.run.tables import outcomes, read_outcomes, refuse_copies
from advrec.spec.base import FLOAT

ROW = ["model", "attack", "epsilon", "tuple_id"]
KEY = [*ROW, "delivery"]
OUTCOME_COLUMNS = [
    "clean_distance",
    "adversarial_distance",
    "clean_rank",
    "adversarial_rank",
    "inherited",
]


def kept_rows(results: Results) -> pd.DataFrame:
    """One row a kept image: KEY, its articles and size, OUTCOME_COLUMNS after the delivery that it
    was made for.

    Raises:
        AdvrecError: an image stands there twice.
    """
    keys = [field for field in schema.examples([FLOAT]) if field.name != "pixels"]
    kept = read_outcomes(results.run.examples, pa.schema(keys)).to_pandas()
    kept = kept.assign(delivery=kept["delivery"].fillna(FLOAT))  # blind attacks name none
    refuse_copies(kept, results.run.examples, "delivery")
    parts = []
    for delivery in (FLOAT, *results.study.evaluation.seen):
        distance, rank = ("adversarial_distance", "adversarial_rank")
        names = dict(zip(OUTCOME_COLUMNS, OUTCOME_COLUMNS, strict=True))
        if delivery != FLOAT:
            names[distance], names[rank] = schema.delivered(delivery)
        known = results.outcomes[[*ROW, *names.values()]].set_axis([*ROW, *names], axis=1)
        part = kept[kept["delivery"] == delivery].merge(known, on=ROW)
        # The column is about the image made for float.
        parts.append(part if delivery == FLOAT else part.assign(inherited=False))
    joined: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return joined


def first_tuples(rows: pd.DataFrame, limit: int) -> Any:
    """The first tuples whose images are `limit` together at most; one at least.

    Args:
        rows: kept_rows, not empty.
    """
    counts = rows["tuple_id"].value_counts().sort_index().cumsum()
    return counts.index[(counts <= limit) | (counts.index == counts.index[0])]


def kept_pixels(
    results: Results, tuple_ids: Any
) -> Iterator[tuple[tuple[Any, ...], npt.NDArray[np.float32]]]:
    """The kept images (H, W, 3) of some tuples, [0, 1], each after its KEY."""
    wanted = pc.field("tuple_id").isin(pa.array(tuple_ids, type=pa.int32()))
    for batch in outcomes(results.run.examples, schema.examples([FLOAT])).to_batches(
        filter=wanted, batch_size=16, batch_readahead=1, fragment_readahead=1
    ):
        for row in batch.to_pylist():
            image = np.frombuffer(row["pixels"], dtype="<f4").reshape(
                row["height"], row["width"], 3
            )
            row["delivery"] = row["delivery"] or FLOAT
            yield tuple(row[key] for key in KEY), image


def article_images(results: Results, article_ids: set[int]) -> dict[int, Pixels]:
    """Prepared images (H, W, 3) by article, of those whose image the run holds."""
    if not article_ids or not results.run.images.exists():
        return {}
    files = [str(path) for _, path in numbered(results.run.images, "part")]
    dataset = ds.dataset(files, format="parquet")
    rows = dataset.to_table(
        columns=schema.IMAGES.names, filter=pc.field("article_id").isin(sorted(article_ids))
    )
    return {row["article_id"]: decode_png(row["png"]) for row in rows.to_pylist()}
