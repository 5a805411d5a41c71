"""Drift: how far embeddings have moved from what they were. Torch-free."""

import numpy as np
import numpy.typing as npt

from advrec.recommenders.bank import Floats


def drift(embeddings: Floats, originals: Floats) -> npt.NDArray[np.float64]:
    """The distance (N,) of embeddings (N, D) from the original ones, as a share of their length:
    0 of what did not move, infinite of what was 0 and did.
    """
    before = originals.astype(np.float64)
    moved = np.linalg.norm(embeddings - before, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(moved == 0.0, 0.0, moved / np.linalg.norm(before, axis=1))
