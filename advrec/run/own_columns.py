"""Columns of attacks/ beside schema.OUTCOMES for minimal-K and auto."""

import pyarrow as pa

from advrec.run.columns import column

MINIMAL = pa.schema(
    [
        column(
            "epsilon_low",
            pa.float64(),
            "Largest budget below epsilon_high that was tried in vain; 0 where none was.",
            unit="pixels in [0, 1]",
        ),
        column(
            "epsilon_high",
            pa.float64(),
            "Smallest budget at which the tuple reached the attack's rank, measured on that image; "
            "infinite where none did. The same in all rows of a tuple.",
            unit="pixels in [0, 1]",
        ),
    ]
)

AUTO = pa.schema(
    [
        column(
            "projected",
            pa.bool_(),
            "Whether the tuple was not attacked at this budget: it stayed beyond rank 100 at the "
            "next larger one. It has the better of that one's image, projected, and a smaller "
            "one's. In a transfer the rank is by the model that the attack is made on.",
        )
    ]
)
