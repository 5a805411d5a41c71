"""Frozen copies that follow a network in training: attacks and measurements are made on them."""

import torch

from advrec.model import own, rehearsal
from advrec.model.checkpoint import Network
from advrec.model.encoder import AGREE, FORMS, frozen, in_form, refresh
from advrec.model.own import OwnNetwork

NUDGE = 1.05
"""Factor of all weights in a trial of a copy."""


class Copy:
    """A frozen copy of a network, in the fastest form that follows its weights."""

    def __init__(self, network: Network) -> None:
        self.network: Network = frozen(_anew(network))
        if isinstance(network, OwnNetwork) and not self._follows(network):
            self.network = in_form(_anew(network), FORMS["plain"])
        self.follow(network)

    def follow(self, network: Network) -> None:
        """Take over the network's weights and statistics as they now are."""
        refresh(self.network, network)

    def _follows(self, network: OwnNetwork) -> bool:
        """Say whether the copy embeds as the network does after all weights have changed.

        Why: a module may compute its weights, or keep what it computed from them.
        """
        nudged = _anew(network)
        assert isinstance(nudged, OwnNetwork)
        with torch.no_grad():
            for value in nudged.state_dict().values():
                if value.is_floating_point():
                    value.mul_(NUDGE)
        size = network.architecture.image_size
        device = next(network.parameters()).device
        images = rehearsal.images(size, size).to(device)
        try:
            with torch.no_grad():
                self.network.bare(images)  # what is kept of the first pass is kept now
                self.follow(nudged)
                found, expected = self.network.bare(images), nudged.plain(images)
        except (RuntimeError, ValueError):  # other modules than the network's
            return False
        return not rehearsal.differ(found, expected, AGREE)


def _anew(network: Network) -> Network:
    """The network built again with the same weights, in evaluation mode.

    A classifier is given as it is: its frozen form is a copy anyway.
    """
    if not isinstance(network, OwnNetwork):
        return network
    built = own.build(network.architecture)
    built.load_state_dict(network.state_dict())
    return built.to(next(network.parameters()).device).eval()
