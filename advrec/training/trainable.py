"""The weights of an encoder that a defense without labels trains."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from advrec.errors import ConfigError
from advrec.model.checkpoint import Network
from advrec.model.fashionnet import FashionNet
from advrec.spec.label_free import LabelFree

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
MATRICES = 2
"""Weights of two or more dimensions that make a member of a list a block of layers."""


def weights(network: Network, spec: LabelFree, images: Tensor) -> set[str]:
    """Names of the weights that `spec` trains: of those that embeddings depend on, all, or those
    that what enters the first trained block does not depend on.

    Why: DistributedDataParallel waits for the gradient of every weight that asks for one. An
    encoder may have some that it does not use, such as a mask token or a classifier.

    Args:
        network: is passed through, with gradients, and should be thrown away.
        images: (N, 3, H, W), a few.

    Raises:
        ConfigError: there is nothing in it to train, or not as many blocks.
    """
    encoder = network.backbone if isinstance(network, FashionNet) else network.module
    network.eval().requires_grad_(False)
    inside = {id(weight) for weight in _weights(encoder)}
    named = {name: each for name, each in network.named_parameters() if id(each) in inside}
    for weight in named.values():
        weight.requires_grad_()
    entered: dict[nn.Module, list[Tensor]] = {}  # in the order of calls

    def note(block: nn.Module, given: tuple[Any, ...], keys: dict[str, Any]) -> None:
        tensors = [each for each in (*given, *keys.values()) if isinstance(each, Tensor)]
        entered.setdefault(block, tensors)

    for block in blocks(encoder):
        block.register_forward_pre_hook(note, with_kwargs=True)
    embeddings = network.bare(images)
    used = _behind([embeddings], named)
    if not used:
        raise ConfigError(f"init: {spec.init} has no weights that could be trained")
    if spec.trainable == "all":
        return used
    if spec.trainable > len(entered):
        raise ConfigError(
            f"trainable is {spec.trainable}, and {spec.init} has {len(entered)} blocks; write at "
            "most as many, or all"
        )
    first = list(entered)[-spec.trainable]
    return used - _behind(entered[first], named)


def _behind(values: list[Tensor], named: dict[str, nn.Parameter]) -> set[str]:
    """Names of the weights that values depend on."""
    sums = [value.sum() for value in values if value.requires_grad]
    if not sums:
        return set()
    gradients = torch.autograd.grad(
        sums, list(named.values()), retain_graph=True, allow_unused=True
    )
    return {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None}


def blocks(encoder: nn.Module) -> list[nn.Module]:
    """An encoder's blocks of layers: the members of its innermost lists of blocks, such as the
    layers of a transformer, or bottlenecks. Without such lists, its layers that have weights.

    What stands beside a list (a stem, the last norm, a pooler, a projection) is no block.
    """
    parts = list(_unrolled(encoder))
    listed = [part for part, is_listed in parts if is_listed and _is_block(part)]
    if listed and _has_list(encoder):
        return listed
    return [part for part, _ in parts if _weights(part) and not isinstance(part, NORMS)]


def _unrolled(
    module: nn.Module, *, whole: bool = True, listed: bool = False
) -> Iterator[tuple[nn.Module, bool]]:
    """An encoder's parts, and whether each is a member of a list of layers.

    Args:
        whole: the module is the encoder; what is nothing but a hull around one part is taken off.
    """
    parts = [part for part in module.children() if _weights(part)]
    hull = len(parts) == 1 and not any(True for _ in module.parameters(recurse=False))
    if not parts or not (whole or _is_list(module) or _has_list(module)):
        yield module, listed
        return
    for part in parts:
        yield from _unrolled(part, whole=whole and hull, listed=_is_list(module))


def _has_list(module: nn.Module) -> bool:
    """Say whether a list of blocks is in a module, or is it."""
    return any(
        _is_list(each) and sum(_is_block(part) for part in each.children()) > 1
        for each in module.modules()
    )


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential | nn.ModuleList)


def _is_block(module: nn.Module) -> bool:
    return sum(weight.dim() >= 2 for weight in _weights(module)) >= MATRICES


def _weights(module: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in module.parameters() if weight.is_floating_point()]
