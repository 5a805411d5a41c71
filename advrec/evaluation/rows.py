"""The rows of a block as they are measured, and the images that are kept of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import Tensor

from advrec.evaluation.block import AnyBlock
from advrec.run import schema
from advrec.spec.base import FLOAT

Places = npt.NDArray[np.int64]


class Rows:
    """The rows of a block: row r is image r // E at epsilon r % E.

    The columns are made before the work. Small results that stay, allocated between large
    activations that go, would leave the heap in pieces.

    Args:
        columns: of the rows.
    """

    def __init__(self, block: AnyBlock, columns: pa.Schema) -> None:
        self._shape = block.pixels.shape[1:3]
        self._schema = columns
        self._made_for = (FLOAT, *block.through)
        size = len(block.attack_ids) * len(block.epsilons)
        self._columns = {
            field.name: np.zeros(size, dtype=field.type.to_pandas_dtype()) for field in columns
        }
        self._examples: dict[tuple[int, int], bytes] = {}
        """Images by row, and place among `_made_for`."""

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        names: list[str] = self._schema.names
        return names

    def note(self, rows: Places, columns: Mapping[str, Any], spent: Mapping[str, Any]) -> None:
        """Write values (n,) of columns into rows (n,), and add there what was spent, (n,) each."""
        for name, values in columns.items():
            self._columns[name][rows] = values
        for name, values in spent.items():
            self._columns[name][rows] += values

    def keep(self, row: int, delivery: str, image: Tensor) -> None:
        """Keep the image (C, H, W) that was made for a delivery in a row, as an example."""
        pixels = image.permute(1, 2, 0).contiguous().cpu().numpy().astype("<f4")
        self._examples[row, self._made_for.index(delivery)] = pixels.tobytes()

    def whole(self) -> pa.Table:
        """All rows."""
        return schema.table(self._schema, self._columns)

    def examples(self) -> pa.Table:
        """The images that were kept, of tuples."""
        kept = sorted(self._examples)
        rows = [row for row, _ in kept]
        ids = ("tuple_id", "target_id", "attack_id", "epsilon")
        height, width = self._shape
        examples = {name: self._columns[name][rows] for name in ids} | {
            "height": [height] * len(rows),
            "width": [width] * len(rows),
            "pixels": [self._examples[key] for key in kept],
        }
        through = self._made_for[1:]
        if through:
            examples["delivery"] = [self._made_for[place] for _, place in kept]
        return schema.table(schema.examples(through), examples)
