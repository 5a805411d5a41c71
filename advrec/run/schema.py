"""Every table on disk: the only home of column names, types, units and meanings.

`table` makes a table and refuses a missing, a surplus or a wrongly typed column. So a reader may
rely on what stands here. Unit and meaning of a column are metadata of its field, in every file.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from advrec.run.columns import column

_ARTICLE = column("article_id", pa.int32(), "Place of the article in the catalog, 0 to n - 1.")
_CATEGORY = column("category", pa.string(), "Category as the source names it; empty: none.")
_SPLIT = column("split", pa.string(), "`train`, `validation` or `test`.")
_TUPLE = column("tuple_id", pa.int32(), "Place of the tuple in the list of tuples, 0 to n - 1.")
_TARGET = column("target_id", pa.int32(), "Article whose list the adversary wants to enter.")
_ATTACKED = column("attack_id", pa.int32(), "Article whose image the adversary changes.")
_EPSILON = column(
    "epsilon",
    pa.float64(),
    "Largest change of any value (l-infinity budget).",
    unit="pixels in [0, 1]",
)

CATALOG = pa.schema(
    [
        _ARTICLE,
        column(
            "name", pa.string(), "Name of the image: a path relative to the root of its source."
        ),
        _CATEGORY,
        column("textures", pa.list_(pa.string()), "Textures; empty where the source knows none."),
        _SPLIT,
        column("sha256", pa.string(), "Hash of the prepared pixels (uint8, height x width x 3)."),
    ]
)

IMAGES = pa.schema([_ARTICLE, column("png", pa.binary(), "Prepared image, RGB, as a PNG file.")])

# Listed images, prepared, before it is decided which of them stay.
PREPARED = pa.schema(
    [
        column("listed", pa.int32(), "Place of the image in the source's listing, 0 to n - 1."),
        column("png", pa.binary(), "Prepared image; null if it could not be read.", nullable=True),
        column("sha256", pa.string(), "Hash of its pixels; null if not read.", nullable=True),
        column("phash", pa.uint64(), "Perceptual hash; null if not read.", nullable=True),
        column(
            "colour", pa.list_(pa.uint8()), "Mean colour, RGB; null if not read.", nullable=True
        ),
        column("reason", pa.string(), "Why it could not be read, or null.", nullable=True),
    ]
)

LISTING = pa.schema(
    [
        column(
            "name", pa.string(), "Name of the image: a path relative to the root of its source."
        ),
        _CATEGORY,
        _SPLIT,
        column("outcome", pa.string(), "`article`, `duplicate`, `no texture` or `unreadable`."),
        column(
            "article_id",
            pa.int32(),
            "The article, or the one that a duplicate repeats; null where there is none.",
            nullable=True,
        ),
        column(
            "phash",
            pa.uint64(),
            "Perceptual hash of the decoded image; null if it could not be read.",
            nullable=True,
        ),
        column("reason", pa.string(), "Why it could not be read, or null.", nullable=True),
    ]
)

NEAR_DUPLICATES = pa.schema(
    [
        _ARTICLE,
        _SPLIT,
        column("other_id", pa.int32(), "Article of another split that looks most like it."),
        column("other_split", pa.string(), "Split of that article."),
        column(
            "distance",
            pa.int32(),
            "Bits in which the perceptual hashes differ, of 64.",
            unit="bits",
        ),
    ]
)

TUPLES = pa.schema(
    [_TUPLE, _TARGET, _ATTACKED, column("split", pa.string(), "Split of both articles.")]
)

LISTS = pa.schema(
    [
        _ARTICLE,
        column("neighbours", pa.list_(pa.int32()), "Exact nearest other articles, nearest first."),
    ]
)

OUTCOMES = pa.schema(
    [
        _TUPLE,
        _TARGET,
        _ATTACKED,
        _EPSILON,
        column(
            "clean_distance",
            pa.float32(),
            "Distance of the unchanged image to the target.",
            unit="cosine distance, 0 to 2",
        ),
        column(
            "adversarial_distance",
            pa.float32(),
            "Distance of the attacked image to the target.",
            unit="cosine distance, 0 to 2",
        ),
        column("clean_rank", pa.int32(), "Rank of the unchanged image; 1 is the best."),
        column("adversarial_rank", pa.int32(), "Rank of the attacked image; 1 is the best."),
        column(
            "linf",
            pa.float32(),
            "Largest change of a value, measured on the final image.",
            unit="pixels in [0, 1]",
        ),
        column(
            "l2",
            pa.float32(),
            "Euclidean norm of the change, measured on the final image.",
            unit="pixels in [0, 1]",
        ),
        column(
            "raw_linf",
            pa.float32(),
            "Largest change before the harness projected the image to its budget.",
            unit="pixels in [0, 1]",
        ),
        column(
            "gradient_steps",
            pa.int32(),
            "Forward and backward passes spent on this row.",
            unit="passes",
        ),
        column(
            "forward_passes",
            pa.int32(),
            "All forward passes; a gradient step counts here too.",
            unit="passes",
        ),
        column(
            "seconds",
            pa.float32(),
            "The row's share, by forward passes, of the wall time of its batch.",
            unit="s",
        ),
        column(
            "batch",
            pa.int32(),
            "Images on the device at once; below the study's where memory was short.",
            unit="images",
        ),
        column(
            "winner",
            pa.string(),
            "Attack, member of an ensemble or restart that made the image for float.",
        ),
        column(
            "inherited",
            pa.bool_(),
            "Whether the image is that of the next smaller budget, which had solved the tuple.",
        ),
    ]
)

# Rows that were not measured here: floats that are not known are NaN.
IMPORTED = pa.schema(
    [*OUTCOMES, column("defect", pa.bool_(), "Whether its success is known to be a fault.")]
)


def outcomes(
    deliveries: Sequence[str] = (), through: Sequence[str] = (), *, baselines: bool = True
) -> pa.Schema:
    """OUTCOMES and columns for each delivery other than float.

    They are distance and rank after that round trip. Where an attack goes through the delivery,
    they are of the image made for it, and that image's norms stand beside them.

    Args:
        baselines: with the rank of the unchanged image after the same round trip.
    """
    columns = []
    for delivery in deliveries:
        distance, rank = delivered(delivery)
        seen = delivery in through
        image = f"the image made for {delivery}" if seen else "the attacked image"
        columns += [
            column(
                distance,
                pa.float32(),
                f"Distance of {image} to the target, after {delivery}.",
                unit="cosine distance, 0 to 2",
            ),
            column(rank, pa.int32(), f"Rank of {image}, after {delivery}; 1 is the best."),
        ]
        if baselines:
            columns.append(
                column(
                    suffixed("clean_rank", delivery),
                    pa.int32(),
                    f"Rank of the unchanged image, after {delivery}; 1 is the best.",
                )
            )
        if seen:
            columns += [
                column(
                    suffixed(norm, delivery),
                    pa.float32(),
                    f"{words} of {image}, as it is handed in.",
                    unit="pixels in [0, 1]",
                )
                for norm, words in (
                    ("linf", "Largest change of a value"),
                    ("l2", "Euclidean norm of the change"),
                )
            ]
    return pa.schema([*OUTCOMES, *columns])


def delivered(delivery: str) -> tuple[str, str]:
    """Names of the columns of a delivery: adversarial_distance_png and adversarial_rank_png, ..."""
    return suffixed("adversarial_distance", delivery), suffixed("adversarial_rank", delivery)


def suffixed(name: str, delivery: str) -> str:
    """Name of a column that is about a delivery."""
    return f"{name}_{re.sub('[^A-Za-z0-9]', '_', delivery)}"


EXAMPLES = pa.schema(
    [
        _TUPLE,
        _TARGET,
        _ATTACKED,
        _EPSILON,
        column("height", pa.int32(), "Height of the image.", unit="pixels"),
        column("width", pa.int32(), "Width of the image.", unit="pixels"),
        column(
            "pixels",
            pa.binary(),
            "Attacked image: little-endian float32, height x width x 3.",
            unit="pixels in [0, 1]",
        ),
    ]
)


def examples(through: Sequence[str] = ()) -> pa.Schema:
    """EXAMPLES; where an attack goes through deliveries, also what each image was made for."""
    made_for = column("delivery", pa.string(), "Delivery that the image was made for, or `float`.")
    return pa.schema([*EXAMPLES, made_for]) if through else EXAMPLES


HISTORY = pa.schema(
    [
        column("epoch", pa.int32(), "Epoch of the training; 1 is the first."),
        column(
            "attack_steps",
            pa.int32(),
            "Steps k of the training's attack; 0 without one.",
            unit="steps",
        ),
        column("train_loss", pa.float64(), "Mean training loss of the epoch."),
        column(
            "validation_clean_accuracy",
            pa.float64(),
            "Share of validation images with the right category.",
            unit="fraction, 0 to 1",
        ),
        column(
            "validation_adversarial_accuracy",
            pa.float64(),
            "The same under the defense's own attack.",
            unit="fraction, 0 to 1",
        ),
        column("learning_rate", pa.float64(), "Learning rate at the end of the epoch."),
        column("seconds", pa.float64(), "Wall time of the epoch.", unit="s"),
    ]
)


def embeddings(dimension: int) -> pa.Schema:
    """Schema of embeddings/model=<model>/: raw F(x), `dimension` float32 values an article."""
    return pa.schema(
        [
            _ARTICLE,
            column(
                "embedding",
                pa.list_(pa.float32(), dimension),
                "Embedding F(x) of the clean image, not normalised.",
            ),
        ]
    )


def table(schema: pa.Schema, columns: Mapping[str, Any]) -> pa.Table:
    """`columns` as a table of exactly `schema`.

    Raises:
        ValueError: a column is missing, surplus, of another type, or holds a forbidden null.
    """
    if set(columns) != set(schema.names):
        raise ValueError(
            f"columns {sorted(columns)} are not those of the schema, {sorted(schema.names)}"
        )
    result = pa.table(
        [pa.array(columns[field.name], type=field.type) for field in schema], schema=schema
    )
    for field in schema:
        if not field.nullable and result[field.name].null_count:
            raise ValueError(f"column {field.name} holds a null")
    return result


def content_hash(table: pa.Table) -> str:
    """SHA-256 over all columns of all rows, in order.

    It does not depend on how the table is chunked or stored, nor on metadata.
    """
    digest = hashlib.sha256()
    for batch in table.to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()
