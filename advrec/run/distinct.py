"""Columns of attacks/ beside schema.OUTCOMES where several articles show one image."""

import pyarrow as pa

from advrec.run.columns import column

DISTINCT = pa.schema(
    [
        column(
            "clean_distinct_rank",
            pa.int32(),
            "Rank of the unchanged image among distinct images: one that several articles show "
            "counts once, the target's not at all.",
        ),
        column("adversarial_distinct_rank", pa.int32(), "The same of the attacked image."),
    ]
)
