"""The workers of one training: alone, or joined by torch.distributed."""

from typing import NamedTuple, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from advrec.model.checkpoint import Network

T = TypeVar("T")


class Workers(NamedTuple):
    """This worker's place among all of them."""

    rank: int
    world: int
    device: torch.device
    """The device that their process group works on."""

    @classmethod
    def of(cls, device: torch.device) -> Self:
        """Return the place of this process in its group; without one it is alone."""
        joined = dist.is_initialized()
        return cls(*((dist.get_rank(), dist.get_world_size()) if joined else (0, 1)), device)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of all workers' values, on the CPU and of the same shape, such as (5,)."""
        if dist.is_initialized():
            values = values.to(self.device)
            dist.all_reduce(values)
        return values.cpu()

    def gathered(self, values: Tensor, places: Tensor, size: int) -> Tensor:
        """Return (size,) of which each worker has `values` (n,) at `places` (n,); on the CPU."""
        whole = torch.zeros(size, dtype=torch.float64)
        whole[places] = values.double().cpu()
        return self.total(whole)

    def share_statistics(self, network: Network) -> None:
        """Give every worker the first one's BatchNorm statistics: its weights are those kept."""
        if dist.is_initialized():
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)

    def agree(self, value: T) -> T:
        """Return what the first worker has, whose view is everyone's: on a shared disk others may
        still see the epoch before.
        """
        box = [value]
        if dist.is_initialized():
            dist.broadcast_object_list(box)
        return box[0]
