"""The exponential moving average of weights."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from advrec.model.checkpoint import Network
from advrec.model.fashionnet import FashionNet
from advrec.model.own import OwnNetwork
from advrec.training.state import Tensors


class MovingAverage:
    """The average of a network's weights and statistics over the steps of its training.

    Young averages forget faster, for they would be what training began with.

    Args:
        decay: a step.
    """

    def __init__(self, network: Network, decay: float) -> None:
        @torch.no_grad()
        def _move(averages: Sequence[Tensor], values: Sequence[Tensor], seen: Tensor | int) -> None:
            if averages[0].is_floating_point():
                young = (1.0 + int(seen)) / (10.0 + int(seen))
                torch._foreach_lerp_(list(averages), list(values), 1.0 - min(decay, young))
                return
            for average, value in zip(averages, values, strict=True):  # BatchNorm's counts
                average.copy_(value)

        self._averaged = AveragedModel(network, multi_avg_fn=_move, use_buffers=True)

    @property
    def network(self) -> Network:
        """The network with averaged weights."""
        averaged = self._averaged.module
        assert isinstance(averaged, FashionNet | OwnNetwork)
        return averaged

    @property
    def seen(self) -> int:
        """Steps that the average has seen."""
        return int(self._averaged.n_averaged)

    def update(self, network: Network) -> None:
        """Take in the weights after a step."""
        self._averaged.update_parameters(network)

    def resume(self, weights: Tensors, seen: int) -> None:
        """Go on from a saved average."""
        self.network.load_state_dict(weights)
        self._averaged.n_averaged.fill_(seen)
