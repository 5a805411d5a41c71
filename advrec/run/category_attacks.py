"""The table of attacks on whole categories."""

from collections.abc import Sequence

import pyarrow as pa

from advrec.run import schema
from advrec.run.columns import column


def category_attacks(ranks: Sequence[int]) -> pa.Schema:
    """Columns of category_attacks/: one row an epsilon, in a file a model and way of attacking.

    Args:
        ranks: the K that are measured.
    """
    pixels = "pixels in [0, 1]"
    return pa.schema(
        [
            schema.OUTCOMES.field("epsilon"),
            column("origin", pa.string(), "Category whose images are swapped."),
            column("target", pa.string(), "Category that they are to resemble."),
            column("articles", pa.int32(), "Articles of the origin, in all splits."),
            column("users", pa.int32(), "Users whose lists are counted: all."),
            *(each for rank in ranks for each in _worth(rank, "before", "the catalog's images")),
            *(each for rank in ranks for each in _worth(rank, "after", "the attacked images")),
            column("linf_max", pa.float64(), "Largest change of a value.", unit=pixels),
            column("linf_mean", pa.float64(), "The mean image's largest change.", unit=pixels),
            column("l2_max", pa.float64(), "Largest length of an image's change.", unit=pixels),
            column("l2_mean", pa.float64(), "Mean length of an image's change.", unit=pixels),
            column("gradient_steps", pa.int64(), "Gradient steps, of all images."),
            column("forward_passes", pa.int64(), "Images embedded by the attack, in all."),
            column("seconds", pa.float64(), "Wall time of the attack on all images.", unit="s"),
            column("batch", pa.int32(), "Images on the device at once."),
        ]
    )


def _worth(rank: int, when: str, images: str) -> list[pa.Field]:
    return [
        column(
            f"chr_{when}_{rank}",
            pa.float64(),
            f"CHR@{rank} of the origin with {images}: share of the first {rank} places of all "
            "users that its articles hold which they have not bought.",
            unit="fraction, 0 to 1",
        ),
        column(
            f"ndcg_{when}_{rank}",
            pa.float64(),
            "The same where place p counts 1 / log2(p + 1), as a share of what all places count.",
            unit="fraction, 0 to 1",
        ),
    ]
