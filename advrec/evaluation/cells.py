"""Old place of advrec.run.cells, until every import has moved."""

from advrec.run.cells import (
    Cell as Cell,
)
from advrec.run.cells import (
    block_files as block_files,
)
from advrec.run.cells import (
    block_key as block_key,
)
from advrec.run.cells import (
    cells as cells,
)
from advrec.run.cells import (
    health_key as health_key,
)
from advrec.run.cells import (
    is_begun as is_begun,
)
from advrec.run.cells import (
    missing_blocks as missing_blocks,
)
from advrec.run.cells import (
    num_blocks as num_blocks,
)
