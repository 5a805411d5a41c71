"""Every table on disk: the only home of column names and types.

A table is made with `table`, which refuses a missing, a surplus or a wrongly typed column, so a
reader may rely on what stands here.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

CATALOG = pa.schema(
    [
        # 0..n-1, the row's place in the catalog
        pa.field("article_id", pa.int32(), nullable=False),
        # the source's name of the image, a path relative to its root
        pa.field("name", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        # empty where the source knows none
        pa.field("textures", pa.list_(pa.string()), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # train | validation | test
        # of the prepared pixels (uint8, H x W x 3)
        pa.field("sha256", pa.string(), nullable=False),
    ]
)

IMAGES = pa.schema(
    [
        pa.field("article_id", pa.int32(), nullable=False),
        pa.field("png", pa.binary(), nullable=False),  # the prepared image, RGB, lossless
    ]
)

PREPARED = pa.schema(  # a run of listed images, prepared, before it is decided which of them stay
    [
        # 0..n-1, the image's place in the source's listing
        pa.field("listed", pa.int32(), nullable=False),
        pa.field("png", pa.binary()),  # null where the image could not be read, as are the next two
        pa.field("sha256", pa.string()),
        pa.field("phash", pa.uint64()),
        pa.field("reason", pa.string()),  # why it could not be read, or null
    ]
)

LISTING = pa.schema(  # what became of every image that the source lists, in its order
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        # article | duplicate | no texture | unreadable
        pa.field("outcome", pa.string(), nullable=False),
        # of the article, or of the one that a duplicate repeats; null where there is none
        pa.field("article_id", pa.int32()),
        # perceptual hash of the decoded image; null where it could not be read
        pa.field("phash", pa.uint64()),
        pa.field("reason", pa.string()),  # why it could not be read, or null
    ]
)

NEAR_DUPLICATES = pa.schema(  # of an article the one that looks most like it in another split
    [
        pa.field("article_id", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("other_id", pa.int32(), nullable=False),
        pa.field("other_split", pa.string(), nullable=False),
        # bits in which the perceptual hashes differ, of 64
        pa.field("distance", pa.int32(), nullable=False),
    ]
)

TUPLES = pa.schema(
    [
        pa.field("tuple_id", pa.int32(), nullable=False),  # 0..n-1
        # article whose neighbour list the adversary wants to enter
        pa.field("target_id", pa.int32(), nullable=False),
        pa.field("attack_id", pa.int32(), nullable=False),  # article whose image is perturbed
        pa.field("split", pa.string(), nullable=False),
    ]
)

LISTS = pa.schema(  # of some articles the recommendations: the exact nearest others, nearest first
    [
        pa.field("article_id", pa.int32(), nullable=False),
        pa.field("neighbours", pa.list_(pa.int32()), nullable=False),
    ]
)

OUTCOMES = pa.schema(
    [
        pa.field("tuple_id", pa.int32(), nullable=False),
        pa.field("target_id", pa.int32(), nullable=False),
        pa.field("attack_id", pa.int32(), nullable=False),
        pa.field("epsilon", pa.float64(), nullable=False),  # l-infinity budget, pixels in [0, 1]
        # cosine distance to the target, 0..2
        pa.field("clean_distance", pa.float32(), nullable=False),
        pa.field("adversarial_distance", pa.float32(), nullable=False),
        pa.field("clean_rank", pa.int32(), nullable=False),  # 1-based; 1 is the best
        pa.field("adversarial_rank", pa.int32(), nullable=False),
        # of the perturbation, measured on the final image
        pa.field("linf", pa.float32(), nullable=False),
        pa.field("l2", pa.float32(), nullable=False),
        # before the harness projected to the budget
        pa.field("raw_linf", pa.float32(), nullable=False),
        # forward + backward passes spent on this row
        pa.field("gradient_steps", pa.int32(), nullable=False),
        # all forward passes; a gradient step counts here too
        pa.field("forward_passes", pa.int32(), nullable=False),
        # the row's share, by forward passes, of its batch's wall time
        pa.field("seconds", pa.float32(), nullable=False),
        # images on the device at once; fewer than the study's where its memory was short
        pa.field("batch", pa.int32(), nullable=False),
        # which attack of an ensemble made the image; else the attack itself
        pa.field("winner", pa.string(), nullable=False),
        # nested: the image of the next smaller budget, which had solved the tuple
        pa.field("inherited", pa.bool_(), nullable=False),
    ]
)

IMPORTED = pa.schema(  # rows that were not measured here: floats that are not known are NaN
    # counted as a success by a fault, and known to be none
    [*OUTCOMES, pa.field("defect", pa.bool_(), nullable=False)]
)


def outcomes(deliveries: Sequence[str] = ()) -> pa.Schema:
    """OUTCOMES and, for each delivery other than float, distance and rank of the image after that
    round trip.
    """
    columns = []
    for delivery in deliveries:
        distance, rank = delivered(delivery)
        columns += [
            pa.field(distance, pa.float32(), nullable=False),
            pa.field(rank, pa.int32(), nullable=False),
        ]
    return pa.schema([*OUTCOMES, *columns])


def delivered(delivery: str) -> tuple[str, str]:
    """Names of the columns of a delivery: adversarial_distance_png and adversarial_rank_png, ..."""
    name = delivery.replace("-", "_")
    return f"adversarial_distance_{name}", f"adversarial_rank_{name}"


EXAMPLES = pa.schema(
    [
        pa.field("tuple_id", pa.int32(), nullable=False),
        pa.field("target_id", pa.int32(), nullable=False),
        pa.field("attack_id", pa.int32(), nullable=False),
        pa.field("epsilon", pa.float64(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        # the adversarial image: float32, H x W x 3, [0, 1], little-endian
        pa.field("pixels", pa.binary(), nullable=False),
    ]
)

HISTORY = pa.schema(
    [
        pa.field("epoch", pa.int32(), nullable=False),  # 1-based
        # k of the curriculum, 0 without an attack
        pa.field("attack_steps", pa.int32(), nullable=False),
        pa.field("train_loss", pa.float64(), nullable=False),
        pa.field("validation_clean_accuracy", pa.float64(), nullable=False),  # fractions 0..1
        # under the defense's own attack
        pa.field("validation_adversarial_accuracy", pa.float64(), nullable=False),
        pa.field("learning_rate", pa.float64(), nullable=False),  # at the end of the epoch
        pa.field("seconds", pa.float64(), nullable=False),
    ]
)


def embeddings(dimension: int) -> pa.Schema:
    """Schema of embeddings/model=<model>/: raw (not normalised) F(x) of `dimension` float32 values
    an article.
    """
    return pa.schema(
        [
            pa.field("article_id", pa.int32(), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), dimension), nullable=False),
        ]
    )


def table(schema: pa.Schema, columns: Mapping[str, Any]) -> pa.Table:
    """`columns` as a table of exactly `schema`.

    Raises:
        ValueError: a column is missing, surplus, of another type, or holds a null where none may
            be.
    """
    if set(columns) != set(schema.names):
        raise ValueError(
            f"columns {sorted(columns)} are not those of the schema, {sorted(schema.names)}"
        )
    made = pa.table(
        [pa.array(columns[field.name], type=field.type) for field in schema], schema=schema
    )
    for field in schema:
        if not field.nullable and made[field.name].null_count:
            raise ValueError(f"column {field.name} holds a null")
    return made


def content_hash(table: pa.Table) -> str:
    """SHA-256 over all columns of all rows, in order; independent of how the table is chunked or
    stored.
    """
    digest = hashlib.sha256()
    for batch in table.to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()
