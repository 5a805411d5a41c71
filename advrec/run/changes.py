"""The table of what a defense changed: columns of models/<model>/changes.parquet."""

import pyarrow as pa

from advrec.run.columns import column

CHANGES = pa.schema(
    [
        column("article_id", pa.int32(), "Place of the article in the catalog, 0 to n - 1."),
        column(
            "drift",
            pa.float64(),
            "Distance of its clean embedding from the original model's.",
            unit="share of its length",
        ),
        column(
            "overlap",
            pa.float64(),
            "Share of its list of ten that stands in the original's list too.",
            unit="fraction, 0 to 1",
        ),
        column(
            "new_query_ranks",
            pa.list_(pa.int32()),
            "Ranks of the original's list where the query is embedded by this model and the "
            "catalog by the original: the old index serves.",
        ),
        column(
            "old_query_ranks",
            pa.list_(pa.int32()),
            "The same where the query is embedded by the original and the catalog by this model.",
        ),
    ]
)
