"""The rehearsal of an attack: what every attacker will do with an encoder, done once on a few
images. What it cannot do is refused then, not block by block.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from advrec.errors import first_line
from advrec.model.encoder import in_few_sizes
from advrec.model.fused import Encoder, UnfusableError

NOISY = 6
COLOURS = {"white": 1.0, "black": 0.0, "grey": 0.5}
BATCHES = (2, 1, 5)
"""Besides all images, which are padded."""
SAME = 5e-3
"""Relative difference of an image's embeddings; 1e-5 as cosine distance, as the checks have it."""
SAME_GRADIENT = 0.5
"""Relative, over all noisy images: an image may lie at a kink, where rounding decides."""
SHORTEST, LONGEST = 1e-6, 1e6
"""Lengths of embeddings, with room to those at which float32 fails (recommenders/bank.py)."""


class UnfitError(Exception):
    """An encoder that cannot be attacked; the message lacks its subject, the encoder."""


class Played(NamedTuple):
    """Results of a rehearsal."""

    embeddings: Tensor
    """(N, D)"""
    gradients: Tensor | None
    """(N, 3, H, W), of each embedding's product with another one; None where there are none."""


class Way(NamedTuple):
    """A way to compute an encoder."""

    name: str
    make: Callable[[], Encoder]
    within: float
    """The largest relative difference from the plain encoder."""


class Chosen(NamedTuple):
    """The first way that gives what the plain encoder gives."""

    name: str
    embed: Encoder
    """From images (N, 3, H, W) to embeddings (N, D)."""
    failed: dict[str, str]
    """The reasons against the ways before it, by their names."""


def images(height: int, width: int) -> Tensor:
    """Images (N, 3, H, W) in [0, 1]: noise, then one of each of `COLOURS`."""
    noise = torch.rand(NOISY, 3, height, width, generator=torch.Generator().manual_seed(0))
    colours = [torch.full((1, 3, height, width), value) for value in COLOURS.values()]
    return torch.cat([noise, *colours])


def play(embed: Encoder, given: Tensor, module: nn.Module | None = None) -> Played:
    """Embed images (N, 3, H, W) two, one and five at a time and all together, twice; take gradients
    afterwards, as every attacker does.

    Args:
        module: names the layer that is at fault, where the encoder is one.

    Raises:
        UnfitError: an embedding is none, is not finite or depends on other images or on chance; or
            a gradient cannot be had, or is not finite.
    """
    embeddings = embed_in_batches(embed, given, module)
    return Played(embeddings, gradients(embed, given, embeddings, module))


@torch.no_grad()
def embed_in_batches(embed: Encoder, given: Tensor, module: nn.Module | None = None) -> Tensor:
    """Embeddings (N, D) of images (N, 3, H, W); see `play`."""
    parts = [_embedded(embed, given[:count], module) for count in BATCHES]
    first, second = (_embedded(embed, given, module) for _ in range(2))
    if differ(first, second):
        place = _first_that_differs(embed, given, given, module)
        raise UnfitError(
            f"embeds the same image differently each time{place}; remove what it draws or counts "
            "in the forward pass, such as dropout that ignores eval()"
        )
    if any(differ(part, first[: len(part)]) for part in parts):
        place = _first_that_differs(embed, given[:1], given, module)
        raise UnfitError(
            f"embeds an image differently among other images{place}; compute nothing over the "
            "batch: give BatchNorm running statistics (track_running_stats=True)"
        )
    lengths = first[:NOISY].double().norm(dim=1)
    wrong = lengths[(lengths > 0) & ((lengths < SHORTEST) | (lengths > LONGEST))]
    if len(wrong):
        raise UnfitError(
            f"gives embeddings of length {float(wrong[0]):.1e}, outside {SHORTEST:g} to "
            f"{LONGEST:g}, where float32 begins to fail: multiply the embedding by a constant"
        )
    return first


def gradients(
    embed: Encoder, given: Tensor, embeddings: Tensor, module: nn.Module | None = None
) -> Tensor:
    """Gradients (N, 3, H, W) of each embedding's product with the next one's of embeddings (N, D).

    Raises:
        UnfitError: they cannot be had, or are not finite.
    """
    known = torch.isfinite(embeddings).all(1)
    towards = nn.functional.normalize(embeddings.float().roll(1, 0).nan_to_num(0.0), dim=1)
    start = given.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.enable_grad():
        scores = (_embedded(embed, start, module) * towards).sum()
    if not scores.requires_grad:
        place = _first_bad(embed, given, module, lambda layer, start: not layer.requires_grad)
        raise UnfitError(
            f"gives embeddings without a gradient with respect to the image{place}; "
            "remove no_grad and detach from it"
        )
    try:
        gradient = torch.autograd.grad(scores, start, allow_unused=True)[0]
    except Exception as error:
        place = _first_bad(embed, given, module, _has_no_backward)
        raise UnfitError(
            f"gives embeddings whose gradient raised {type(error).__name__}{place}: "
            f"{first_line(error)}; give the layer a backward pass for torch.autograd.grad"
        ) from error
    if gradient is None:
        raise UnfitError(
            "gives embeddings without a gradient with respect to the image; "
            "remove no_grad and detach from it"
        )
    bad = (known & (~torch.isfinite(gradient)).flatten(1).any(1)).nonzero()[:, 0]
    if len(bad):
        names = [*(["noisy"] * NOISY), *COLOURS]
        place = _first_bad(embed, given, module, _has_no_finite_gradient)
        raise UnfitError(
            f"has gradients that are not finite at a {names[int(bad[0])]} image{place}; "
            "where it takes a root or divides, add a small number (1e-12) inside"
        )
    return gradient


def choose(ways: Iterable[Way], given: Tensor, plain: Played) -> Chosen:
    """The first way to embed images (N, 3, H, W), channels last in memory and padded, as the plain
    encoder does.

    Raises:
        UnfitError: there is none; the message is the last one's reason.
    """
    failed: dict[str, str] = {}
    channels_last = given.contiguous(memory_format=torch.channels_last)
    for name, make, within in ways:
        try:
            embed = make()
            padded = in_few_sizes(embed)
            embeddings = embed_in_batches(padded, channels_last)
            taken = None
            if plain.gradients is not None:
                taken = gradients(padded, channels_last, embeddings)
        except (UnfitError, UnfusableError) as error:
            failed[name] = str(error)
        except (Exception, SystemExit) as error:
            failed[name] = f"raised {type(error).__name__}: {first_line(error)}"
        else:
            if _agree(plain, Played(embeddings, taken), within):
                return Chosen(name, embed, failed)
            failed[name] = "embeds differently"
    raise UnfitError(next(reversed(failed.values())))


def _agree(plain: Played, other: Played, within: float) -> bool:
    """Say that noisy images have equal embeddings and gradients, but for rounding."""
    if plain.embeddings.shape != other.embeddings.shape:
        return False
    if differ(other.embeddings.cpu()[:NOISY], plain.embeddings.cpu()[:NOISY], within):
        return False
    if plain.gradients is None or other.gradients is None:
        return plain.gradients is other.gradients
    ours, theirs = (taken.cpu()[:NOISY] for taken in (other.gradients, plain.gradients))
    return bool((ours - theirs).norm() <= SAME_GRADIENT * theirs.norm())


def differ(first: Tensor, second: Tensor, within: float = SAME) -> bool:
    """Say that an embedding of two batches (N, D) differs by more than a share of the longest."""
    first, second = first.double().flatten(1), second.double().flatten(1)
    both = torch.isfinite(first).all(1) & torch.isfinite(second).all(1)
    if not both.any():
        return False
    far = (first - second)[both].norm(dim=1).max() > within * second[both].norm(dim=1).max()
    return bool(far)


def _embedded(embed: Encoder, given: Tensor, module: nn.Module | None) -> Tensor:
    """Embeddings (n, D) of images (n, 3, H, W).

    Raises:
        UnfitError: they cannot be had, or are none.
    """
    count, (height, width) = len(given), given.shape[2:]
    pixels = f"{width} pixels" if width == height else f"{width} x {height} pixels"
    these = "an image alone" if count == 1 else f"{count} images"
    try:
        embeddings: Any = embed(given)
    except (Exception, SystemExit) as error:
        place = _where_it_stops(embed, given, module)
        raise UnfitError(
            f"raised {type(error).__name__} for {these} of {pixels}{place}: {first_line(error)}"
        ) from error
    if not isinstance(embeddings, Tensor) or embeddings.ndim != 2 or len(embeddings) != count:
        is_tensor = isinstance(embeddings, Tensor)
        shape = tuple(embeddings.shape) if is_tensor else type(embeddings).__name__
        raise UnfitError(
            f"gives {shape} for {these} of {pixels}; it must give embeddings ({count}, D)"
        )
    # A flat image may have no embedding; an article that has none is named.
    if not torch.isfinite(embeddings[:NOISY]).all():
        raise UnfitError(
            "gives embeddings that are not finite; "
            "look at its weights and at the range of its input, [0, 1]"
        )
    return embeddings.float()


# The layer that is at fault, looked for once something is known to be.


class _Watched:
    """The layers of a module as a forward pass goes through them."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        """Those that are not through yet, the innermost last."""
        self.made: list[tuple[str, Tensor]] = []
        """The output of each that is through, in order."""


@contextmanager
def _watched(module: nn.Module | None) -> Iterator[_Watched]:
    seen = _Watched()
    handles = []
    for name, layer in () if module is None else module.named_modules():
        label = f"layer {name} ({type(layer).__name__})" if name else type(layer).__name__

        def begin(*_: Any, label: str = label) -> None:
            seen.begun.append(label)

        def end(layer: nn.Module, given: Any, made: Any, label: str = label) -> None:
            seen.begun.pop()
            if isinstance(made, Tensor):
                seen.made.append((label, made))

        handles += [layer.register_forward_pre_hook(begin), layer.register_forward_hook(end)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _where_it_stops(embed: Encoder, given: Tensor, module: nn.Module | None) -> str:
    with _watched(module) as seen:
        try:
            embed(given)
        except (Exception, SystemExit):
            return f" in {seen.begun[-1]}" if seen.begun else ""
    return ""


def _first_that_differs(
    embed: Encoder, one: Tensor, other: Tensor, module: nn.Module | None
) -> str:
    """The first layer whose output for the same image is another one."""
    passes = []
    for given in (one, other):
        with _watched(module) as seen, torch.no_grad():
            embed(given)
        passes.append(seen.made)
    for (label, first), (_, second) in zip(*passes, strict=False):
        if first.ndim and second.ndim and (len(first), len(second)) == (len(one), len(other)):
            theirs = second[: len(first)]
            if first.shape == theirs.shape and differ(first, theirs):
                return f", first in {label}"
    return ""


def _first_bad(
    embed: Encoder,
    given: Tensor,
    module: nn.Module | None,
    is_bad: Callable[[Tensor, Tensor], bool],
) -> str:
    """The first layer whose output is bad in its relation to the images."""
    start = given.detach().clone().requires_grad_()
    with _watched(module) as seen, torch.enable_grad():
        embed(start)
    for label, made in tuple(seen.made):
        if is_bad(made, start):
            return f", first in {label}"
    return ""


def _has_no_backward(made: Tensor, start: Tensor) -> bool:
    try:
        _gradient(made, start)
    except Exception:
        return True
    return False


def _has_no_finite_gradient(made: Tensor, start: Tensor) -> bool:
    gradient = _gradient(made, start)
    return gradient is not None and not torch.isfinite(gradient).all()


def _gradient(made: Tensor, start: Tensor) -> Tensor | None:
    if not made.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(made.sum(), start, retain_graph=True, allow_unused=True)
    return gradient
