"""Layers of a frozen network, on a processor: forward pass and input gradient made by hand.

A segment keeps what the gradient with respect to its input needs, and no more: of a ReLU6 its
output. Convolution and clamp are one kernel, and gradients are convolutions with the kernel turned.

Why no products of matrices, though 1x1 convolutions are such: MKL's depend on the number of rows in
the last bits, so an image's row would depend on its batch.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LAST = torch.channels_last

SCALES = torch.mul, torch.div

_aten, _mkldnn = torch.ops.aten, torch.ops.mkldnn


class Clamp(NamedTuple):
    """An activation: values below `low` and above `high` become these; ReLU has no `high`."""

    low: float
    high: float

    @property
    def is_relu(self) -> bool:
        return self == (0.0, math.inf)

    def forward(self, values: Tensor) -> Tensor:
        """Values (N, C, H, W), clamped in place."""
        return values.relu_() if self.is_relu else values.clamp_(*self)

    def backward(self, gradient: Tensor, output: Tensor, *, own: bool) -> Tensor:
        """The gradient (N, C, H, W) where the output is inside; in place if it is its `own`."""
        into = gradient if own else torch.empty_like(gradient)
        if self.is_relu:
            _aten.threshold_backward.grad_input(gradient, output, 0.0, grad_input=into)
        else:
            _aten.hardtanh_backward.grad_input(gradient, output, *self, grad_input=into)
        return into


class Work:
    """A layer that does not change any more, and its gradient with respect to its input."""

    def forward(self, *given: Tensor, clamp: Clamp | None) -> Tensor:
        """The output (N, C, H, W) of inputs (N, C, H, W), clamped, in memory of its own."""
        raise NotImplementedError

    def backward(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The gradient with respect to each input, in memory of its own or the one given.

        Args:
            gradient: (N, C, H, W), with respect to the output before it is clamped.
            shape: of the input.
        """
        raise NotImplementedError

    def refresh(self) -> None:
        """Take over the layer's weights as they now are; there may be none."""


class Convolution(Work):
    """A convolution of constant weights."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self.layer = layer
        self.pad = [int(side) for side in layer.padding]
        self.stride, self.dilation = list(layer.stride), list(layer.dilation)
        size = layer.kernel_size
        reach = [step * (length - 1) for step, length in zip(self.dilation, size, strict=True)]
        self.turned_pad = [far - pad for far, pad in zip(reach, self.pad, strict=True)]
        self.is_turned = self.stride == [1, 1] and min(self.turned_pad) >= 0
        even = len({*self.stride}) == len({*size}) == len({*self.pad}) == 1
        self.is_stem = even and layer.in_channels <= 4 and layer.groups * max(self.dilation) == 1
        self.refresh()

    def refresh(self) -> None:
        """Take over the layer's weights."""
        layer, weight = self.layer, self.layer.weight.detach()
        self.weight = _packed(weight, self.pad, self.stride, self.dilation, layer.groups)
        if self.is_turned:
            turned = weight.reshape(self.layer.groups, -1, *weight.shape[1:]).transpose(1, 2)
            turned = turned.flatten(0, 1).flip(2, 3)
            self.turned = _packed(turned, self.turned_pad, [1, 1], self.dilation, layer.groups)
        elif self.is_stem:
            self.before, self.phases = _phases(weight, self.stride[0], self.pad[0])

    def forward(self, *given: Tensor, clamp: Clamp | None) -> Tensor:
        """The output (N, O, h, w), clamped, of an input (N, C, H, W)."""
        layer = self.layer
        return self._convolved(given[0], self.weight, layer.bias, self.pad, self.stride, clamp)

    def backward(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The gradient (N, C, H, W) with respect to the input of that shape.

        Args:
            gradient: (N, O, h, w), with respect to the output.
        """
        if self.is_turned:
            return self._convolved(gradient, self.turned, None, self.turned_pad, [1, 1], None)
        if self.is_stem:
            return self._to_image(gradient, shape)
        layer, read = self.layer, torch.empty(shape, memory_format=LAST)  # only its shape is
        geometry = self.stride, self.pad, self.dilation, False, [0, 0], layer.groups
        given = gradient, read, layer.weight, None
        return cast(Tensor, _aten.convolution_backward(*given, *geometry, [True, False, False])[0])

    def _convolved(
        self,
        given: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        pad: list[int],
        stride: list[int],
        clamp: Clamp | None,
    ) -> Tensor:
        """A convolution (N, O, h, w) of (N, C, H, W), clamped as it is written."""
        name, limits = "none", cast(list[float], [])
        if clamp is not None:
            name, limits = ("relu", []) if clamp.is_relu else ("hardtanh", list(clamp))
        rest = pad, stride, self.dilation, self.layer.groups, name, limits, ""
        made: Tensor = _mkldnn._convolution_pointwise(given, weight, bias, *rest)
        return made.contiguous(memory_format=LAST)

    def _to_image(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The gradient (N, C, H, W) of few channels: one convolution makes every phase of the
        stride, and they are interleaved.
        """
        count, channels, height, width = shape
        step, span = self.stride[0], self.phases.shape[2]
        down, across = -(-height // step), -(-width // step)
        after = max(down - gradient.shape[2], across - gradient.shape[3]) + span - 1 - self.before
        pad = max(self.before, after)
        skip = pad - self.before
        made = self._convolved(gradient, self.phases, None, [pad, pad], [1, 1], None)
        made = made.permute(0, 2, 3, 1)[:, skip : skip + down, skip : skip + across]
        # Its values are (line, column, channel) of a phase; line by line they are the image's.
        made = made.reshape(count, down, across, step, step * channels).transpose(2, 3)
        made = made.reshape(count, down * step, across * step, channels)
        return made[:, :height, :width].permute(0, 3, 1, 2)


class Affine(Work):
    """Operations with constants, each one a channel, in order: normalisation."""

    def __init__(self, *operations: tuple[Any, Tensor]) -> None:
        self.operations = operations
        """Functions torch.add, sub, mul or div, and constants (C,)."""
        self._long: list[Tensor] = []

    def forward(self, *given: Tensor, clamp: Clamp | None) -> Tensor:
        """The output, clamped, of the shape of the input (N, C, H, W)."""
        made = torch.empty(given[0].shape, memory_format=LAST)
        rows, into = _images(given[0]), _images(made)
        for (function, _), constants in zip(self.operations, self._along(rows), strict=True):
            rows = function(rows, constants, out=into)
        return made if clamp is None else clamp.forward(made)

    def backward(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The gradient, of the same shape (N, C, H, W)."""
        made = torch.empty(shape, memory_format=LAST)
        rows, into = _images(gradient), _images(made)
        pairs = zip(self.operations, self._along(rows), strict=True)
        scales = [(function, each) for (function, _), each in pairs if function in SCALES]
        for function, constants in reversed(scales):
            rows = function(rows, constants, out=into)
        return made if scales else gradient

    def _along(self, rows: Tensor) -> list[Tensor]:
        """The constants (H W C) as they lie along images (N, H W C)."""
        length = rows.shape[1]
        if not self._long or len(self._long[0]) != length:
            self._long = [each.repeat(length // len(each)) for _, each in self.operations]
        return self._long


class Sum(Work):
    """The sum of two inputs; of one alone a copy, as an activation after another layer has it."""

    def forward(self, *given: Tensor, clamp: Clamp | None) -> Tensor:
        """The output, clamped, of the shape of each input (N, C, H, W)."""
        made = given[0] + given[1] if len(given) == 2 else given[0].clone()
        return made if clamp is None else clamp.forward(made)

    def backward(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The same gradient (N, C, H, W) for each."""
        return gradient


class Step(NamedTuple):
    """One piece of work of a segment; values have names."""

    output: str
    inputs: tuple[str, ...]
    work: Work
    clamp: Clamp | None


class Segment(nn.Module):
    """Steps in order, as one function of autograd."""

    def __init__(self, inputs: list[str], steps: list[Step], outputs: list[str]) -> None:
        super().__init__()
        self.inputs, self.steps, self.outputs = inputs, steps, outputs
        self.over: list[list[str]] = []
        read = set(outputs)
        for step in reversed(steps):
            self.over.insert(0, [name for name in {*step.inputs} if name not in read])
            read.update(step.inputs)

    def forward(self, *given: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs (N, C, H, W) of inputs (N, C, H, W)."""
        if torch.is_grad_enabled() and any(values.requires_grad for values in given):
            made: tuple[Tensor, ...] = _Gradient.apply(self, *given)
        else:
            made = self.run(given, None, {})
        return made if len(self.outputs) > 1 else made[0]

    def run(
        self,
        given: Iterable[Tensor],
        kept: dict[str, Tensor] | None,
        shapes: dict[str, torch.Size],
    ) -> tuple[Tensor, ...]:
        """The outputs of inputs, all (N, C, H, W).

        Args:
            kept: gets the output of each clamp, by its name; None: no gradient is wanted.
            shapes: gets the shape of what made each value.
        """
        given = (values.contiguous(memory_format=LAST) for values in given)
        values = dict(zip(self.inputs, given, strict=True))
        for step, over in zip(self.steps, self.over, strict=True):
            shapes[step.output] = values[step.inputs[0]].shape
            made = step.work.forward(*(values[name] for name in step.inputs), clamp=step.clamp)
            values[step.output] = made
            if kept is not None and step.clamp is not None:
                kept[step.output] = made
            for name in over:
                del values[name]
        return tuple(values[name] for name in self.outputs)

    def back(
        self,
        gradients: Iterable[Tensor],
        kept: dict[str, Tensor],
        shapes: dict[str, torch.Size],
    ) -> tuple[Tensor | None, ...]:
        """The gradients with respect to the inputs, of those to the outputs, all (N, C, H, W)."""
        held: dict[str, tuple[Tensor, bool]] = {}  # and whether nobody else reads it
        for name, gradient in zip(self.outputs, gradients, strict=True):
            held[name] = gradient.contiguous(memory_format=LAST), False
        for step in reversed(self.steps):
            if step.output not in held:
                continue
            gradient, own = held.pop(step.output)
            if step.clamp is not None:
                gradient = step.clamp.backward(gradient, kept.pop(step.output), own=own)
                own = True
            made = step.work.backward(gradient, shapes[step.output])
            own = made is not gradient or (own and len(step.inputs) == 1)
            for name in step.inputs:
                held[name] = _added(made, own, *held[name]) if name in held else (made, own)
        return tuple(held[name][0] if name in held else None for name in self.inputs)


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, segment: Segment, *given: Tensor) -> tuple[Tensor, ...]:
        """Outputs (N, C, H, W) of inputs (N, C, H, W)."""
        kept: dict[str, Tensor] = {}
        ctx.segment, ctx.shapes = segment, {}
        outputs = segment.run(given, kept, ctx.shapes)
        ctx.names = tuple(kept)
        ctx.save_for_backward(*kept.values())
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients (N, C, H, W) with respect to the inputs."""
        kept = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        return None, *ctx.segment.back(gradients, kept, ctx.shapes)


def _packed(
    weight: Tensor, pad: list[int], stride: list[int], dilation: list[int], groups: int
) -> Tensor:
    """The kernel (O, C, K, K) laid out as oneDNN reads it, which it would else do in every call."""
    geometry = pad, stride, dilation, groups
    return cast(Tensor, _mkldnn._reorder_convolution_weight(weight.contiguous(), *geometry))


def _added(first: Tensor, own: bool, second: Tensor, second_own: bool) -> tuple[Tensor, bool]:
    """The sum of two gradients (N, C, H, W), in the memory of one that nobody else reads."""
    if own:
        return first.add_(second), True
    return (second.add_(first) if second_own else first + second), True


def _images(values: Tensor) -> Tensor:
    """Values (N, C, H, W) as (N, H W C), which they are in memory."""
    return values.permute(0, 2, 3, 1).reshape(len(values), -1)


def _phases(weight: Tensor, step: int, pad: int) -> tuple[int, Tensor]:
    """The kernel (S S C, O, D, D) that makes, of a gradient, every pixel of the input's S x S.

    Pixel S i + r of a line gets output i + d times the weight at r + pad - S d.

    Args:
        weight: (O, C, K, K).
        step: S.

    Returns:
        How far the first d lies before 0, and the kernel.
    """
    size = weight.shape[2]
    first, last = -((size - 1 - pad) // step), (step - 1 + pad) // step
    span = last - first + 1
    phases = weight.new_zeros(step, step, weight.shape[1], weight.shape[0], span, span)
    taps = [
        (phase, place, at)
        for phase in range(step)
        for place in range(span)
        if 0 <= (at := phase + pad - step * (first + place)) < size
    ]
    for row, down, line in taps:
        for column, across, at in taps:
            phases[row, column, :, :, down, across] = weight[:, :, line, at].t()
    return -first, phases.flatten(0, 2).contiguous(memory_format=LAST)
