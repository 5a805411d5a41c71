"""Memory that an attacker takes, before there is one: placement counts it, a dry run shows it."""

import torch
from torch import Tensor

from advrec.model.checkpoint import AnyNetwork
from advrec.model.encoder import frozen, padded_size
from advrec.spec.study import Study

PROCESS_BYTES = 450e6
"""Memory of an attacker at most, beside embeddings, model and activations (benchmarks.engine)."""


def batch_of(study: Study) -> int:
    """Images that an attacker has at once, with those that fill a batch up."""
    evaluation = study.evaluation
    return padded_size(min(evaluation.at_once, evaluation.block * len(evaluation.epsilons)))


def activations(network: AnyNetwork, size: int) -> int:
    """Bytes that a frozen network on the CPU keeps of each image of `size` pixels for the backward
    pass.

    It is what a second image adds to the first: weights are kept once.
    """
    return _kept(network, 2, size) - _kept(network, 1, size)


def process_bytes(network: AnyNetwork, study: Study) -> float:
    """Bytes of an attacker that works on cores, but for the embeddings, which processes share."""
    each = activations(frozen(network), study.catalog.image_size)
    return PROCESS_BYTES + weights(network) + each * batch_of(study)


def weights(network: AnyNetwork) -> int:
    """Bytes of a network's weights."""
    return sum(value.nbytes for value in network.state_dict().values())


def _kept(network: AnyNetwork, count: int, size: int) -> int:
    kept: dict[int, int] = {}

    def _keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()  # which several layers may keep
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.full((count, 3, size, size), 0.5).to(memory_format=torch.channels_last)
    with torch.no_grad():
        network.bare(images)  # what it makes at first is not counted
    with torch.autograd.graph.saved_tensors_hooks(_keep, lambda tensor: tensor):
        embeddings = network.bare(images.requires_grad_())
    del embeddings  # until here none of what is kept was freed, nor its address used again
    return sum(kept.values())
