"""Arithmetic without shortcuts, wherever ranks and distances are computed."""

import contextlib
from collections.abc import Iterator

import torch
from threadpoolctl import threadpool_limits


@contextlib.contextmanager
def exact_arithmetic(threads: int | None = None) -> Iterator[None]:
    """Compute without shortcuts in this process, and with so many threads; afterwards as before.

    Args:
        threads: torch's and NumPy's; None: as many as there are.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = torch.get_num_threads(), cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic
    with threadpool_limits(threads):  # NumPy's
        torch.set_num_threads(before[0] if threads is None else threads)
        # TF32 rounds convolutions to 10 bits: distances would be off by 1e-3, and a stop at a
        # margin of 1e-6 would mean nothing.
        cudnn.allow_tf32 = False
        matmul.allow_tf32 = False
        # A sign step turns the last bit of a gradient into another image.
        cudnn.deterministic = True
        try:
            yield
        finally:
            threads, cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic = before
            torch.set_num_threads(threads)
