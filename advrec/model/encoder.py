"""A network made ready for being attacked: frozen, in evaluation mode, in its fastest form."""

import copy
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from advrec.errors import ConfigError
from advrec.model.fashionnet import FashionNet
from advrec.model.fused import Encoder, Fused
from advrec.model.joined import JoinedNetwork
from advrec.model.own import OwnNetwork

EMBED_BATCH = 64
AGREE = 1e-4  # relative: folding changes an embedding by rounding only

Images = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
"""(N, H, W, 3): uint8, or float32 in [0, 1]."""
N = TypeVar("N", bound=FashionNet | OwnNetwork)


class Form(NamedTuple):
    """The shortcuts that a model of the user's own is attacked with."""

    copied: bool = True
    folded: bool = False
    channels_last: bool = False
    fused: bool = False


FORMS = {
    "fused": Form(folded=True, channels_last=True, fused=True),
    "fast": Form(folded=True, channels_last=True),
    "unfolded": Form(channels_last=True),
    "contiguous": Form(),
    "uncopied": Form(copied=False, channels_last=True),
    "plain": Form(copied=False),
}
"""Every form by its name, the fastest first; adoption takes the first that changes nothing."""


@overload
def frozen(network: N) -> N: ...


@overload
def frozen(network: JoinedNetwork) -> JoinedNetwork: ...


def frozen(network: Any) -> Any:
    """A copy that computes the same function as `network.eval()` (up to rounding), faster, and only
    with respect to its input.

    Folding BatchNorm, channels-last memory and frozen parameters together make a gradient step
    about twice as fast, and fused layers a third faster. A model of the user's own has the form
    that its adoption found; where that is without a copy, the network itself is frozen. Of a joined
    network each part is made ready by itself.
    """
    if isinstance(network, JoinedNetwork):
        parts = [frozen(part) for part in network.networks]
        return JoinedNetwork(network.architecture, parts).eval()
    if isinstance(network, OwnNetwork) and network.architecture.form is not None:
        return in_form(network, FORMS[network.architecture.form])
    copied = _evaluating(copy.deepcopy(network))
    unfolded = copy.deepcopy(copied) if isinstance(copied, OwnNetwork) else copied
    _fold(copied)
    # A user's module may run its layers in another order than it lists them.
    if (
        isinstance(copied, OwnNetwork)
        and isinstance(unfolded, OwnNetwork)
        and not _agree(copied, unfolded)
    ):
        copied = unfolded
    copied.to(memory_format=torch.channels_last)
    if isinstance(copied, FashionNet):
        copied.fused = Fused(copied, copied.plain)
    return copied


def in_form(network: N, form: Form) -> N:
    """A network made ready for being attacked, in one of `FORMS`."""
    ready = _evaluating(copy.deepcopy(network) if form.copied else network)
    if form.folded:
        _fold(ready, activated=True)
    if form.channels_last:
        ready.to(memory_format=torch.channels_last)
    elif isinstance(ready, OwnNetwork):
        ready.contiguous = True
    if form.fused:
        ready.fused = Fused(ready, ready.plain)
    return ready


def _evaluating(network: N) -> N:
    network.eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return network


def plain_step(network: FashionNet | OwnNetwork | JoinedNetwork) -> str | None:
    """The reason against the fused form of a frozen network's step, of a joined one the first
    part's; None: it has the form, or the device does not take it.
    """
    if isinstance(network, JoinedNetwork):
        return next(filter(None, map(plain_step, network.networks)), None)
    return None if network.fused is None else network.fused.refused


@torch.no_grad()
def _agree(folded: OwnNetwork, network: OwnNetwork) -> bool:
    """Say that folding changes no embedding, for models that runs of before 0.3 adopted."""
    size = network.architecture.image_size
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    try:
        first, second = folded.embed(images), network.embed(images)
    except (RuntimeError, AttributeError):  # a module that looks into its own layers
        return False
    return bool((first - second).norm() <= AGREE * second.norm())


@torch.no_grad()
def refresh(copied: N, network: N) -> None:
    """Bring a copy that `frozen` made up to date with its network; ten times cheaper than a new
    one.
    """
    modules, own = dict(network.named_modules()), dict(copied.named_modules())
    folded = {
        convolution: modules[norm]
        for convolution, norm in _folded_pairs(network)
        if isinstance(own[norm], nn.Identity)
    }
    norms = {id(norm) for norm in folded.values()}
    for name, module in own.items():
        source = modules.get(name)
        norm = folded.get(name)
        if norm is not None:
            assert isinstance(module, nn.Conv2d)
            _fold_into(module, source, norm)
        elif source is not None and id(source) not in norms:
            for mine, theirs in zip(_tensors(module), _tensors(source), strict=True):
                mine.copy_(theirs)
    if copied.fused is not None:
        copied.fused.refresh()


def _fold_into(module: nn.Conv2d, source: Any, norm: Any) -> None:
    """Give a convolution the weights of another one and the BatchNorm after it."""
    weight, bias = fuse_conv_bn_weights(
        source.weight,
        source.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    assert module.bias is not None
    module.weight.copy_(weight)
    module.bias.copy_(bias)


def _tensors(module: nn.Module) -> list[Tensor]:
    """A module's own weights and buffers, not those of its parts."""
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


# Not inference_mode: what a module keeps of its first forward pass has to serve gradients later.
@torch.no_grad()
def embed_all(
    embed: Encoder, pixels: Images, device: torch.device | str = "cpu", batch: int = EMBED_BATCH
) -> npt.NDArray[np.float32]:
    """Raw embeddings (n, D) of images (n, H, W, 3), `batch` at once on `device`.

    Raises:
        ConfigError: the encoder does not give one vector an image.
    """
    parts = []
    for start in range(0, len(pixels), batch):
        # Copied, for what comes from the object store, or from a user, may be read-only.
        images = to_images(pixels[start : start + batch].copy(), device)
        embeddings = embed(images)
        if not isinstance(embeddings, Tensor) or embeddings.shape[:-1] != images.shape[:1]:
            shape = tuple(getattr(embeddings, "shape", ()))
            raise ConfigError(
                f"the encoder gives {type(embeddings).__name__} {shape} for {len(images)} images; "
                f"it must give a tensor ({len(images)}, D)"
            )
        parts.append(embeddings.float().cpu().numpy())
    return np.concatenate(parts)


def in_few_sizes(embed: Encoder) -> Encoder:
    """The same function of images (N, 3, H, W), which pads a batch to one of four sizes an octave:
    8, 10, 12, 14, 16, 20, ...

    As solved images leave, batches take every size. Each has activations of its own sizes, which
    leave the heap in pieces, and kernels of its own, which oneDNN keeps. Five times through 29
    random sizes up to 128 took a process from 908 to 1,103 MiB; in few sizes, from 801 to 828, and
    a tenth of the time less.
    """

    def padded(images: Tensor) -> Tensor:
        """Embeddings (N, D) of images (N, 3, H, W)."""
        count = len(images)
        surplus = padded_size(count) - count
        if not surplus:
            return embed(images)
        filled = torch.cat([images, images[:1].detach().expand(surplus, -1, -1, -1)])
        return embed(filled.contiguous(memory_format=torch.channels_last))[:count]

    return padded


def padded_size(count: int) -> int:
    """The size to which `in_few_sizes` fills up a batch of so many images."""
    step = 1 << max(0, count.bit_length() - 3)
    return count + -count % step


def to_images(pixels: Images, device: torch.device | str = "cpu") -> Tensor:
    """Images (N, 3, H, W) float32 in [0, 1], channels last in memory, of pixels (N, H, W, 3)."""
    images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)
    return images.float().div_(255.0) if pixels.dtype == np.uint8 else images


def _fold(network: nn.Module, *, activated: bool = False) -> None:
    """Fold BatchNorm into convolutions.

    Args:
        activated: keep the activation that a layer of timm has within its BatchNorm. Not for models
            that runs of before 0.3 adopted, which are attacked unfolded.
    """
    for convolution_name, norm_name in list(_folded_pairs(network)):
        convolution, norm = (
            network.get_submodule(convolution_name),
            network.get_submodule(norm_name),
        )
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        network.set_submodule(convolution_name, fuse_conv_bn_eval(convolution, norm))
        within = [getattr(norm, name, None) for name in ("drop", "act")] if activated else []
        after = [layer for layer in within if isinstance(layer, nn.Module)]
        network.set_submodule(norm_name, nn.Sequential(*after) if after else nn.Identity())


def _folded_pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of each convolution and the BatchNorm that directly follows it."""
    for parent, module in network.named_modules():
        prefix = f"{parent}." if parent else ""
        for (name, first), (next_name, second) in itertools.pairwise(module.named_children()):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                yield f"{prefix}{name}", f"{prefix}{next_name}"
