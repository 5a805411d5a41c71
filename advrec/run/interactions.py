"""Tables of who has bought what; there only where a study has interactions."""

import pyarrow as pa

from advrec.run.columns import column

_QUERY = column(
    "query_id", pa.int32(), "Number of the user, 0 to n - 1, in order of first appearance."
)

INTERACTIONS = pa.schema(
    [
        _QUERY,
        column("article_id", pa.int32(), "Article that was bought; stands once for each user."),
        column("place", pa.int32(), "Place among the user's purchases in time; 0 is the first."),
        column(
            "held_out",
            pa.bool_(),
            "Whether it is the last of two or more, which no training sees.",
        ),
    ]
)


SEEN = pa.schema([_QUERY, column("article_id", pa.int32(), "Article that the user has bought.")])


def users(kind: pa.DataType, *, drawn: bool) -> pa.Schema:
    """Schema of users.parquet; `kind` is that of the users' own IDs, int64 or string."""
    columns = [
        _QUERY,
        column("user", kind, "ID of the user, as the file of interactions has it."),
        column("purchases", pa.int32(), "Articles that the user has bought, the held-out one too."),
    ]
    group = column("group", pa.int32(), "Taste group of a drawn user, 0 to n - 1.")
    return pa.schema([*columns, group] if drawn else columns)
