"""The faster gradient step on a processor: a frozen network, traced with torch.fx, whose layers
become segments of model/segments.py. A layer that is not recognised stays with autograd.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata
from torch.nn import functional

from advrec.errors import first_line
from advrec.model.segments import LAST, Affine, Clamp, Convolution, Segment, Step, Sum, Work

Encoder = Callable[[Tensor], Tensor]
"""Images (N, 3, H, W) in [0, 1] to raw embeddings (N, D)."""

SAME = 1e-5
"""Relative difference that embeddings and gradients may have from the plain network's."""
CHECKED = 5
"""Images that the two are compared on. Where a value lies at a kink of an activation, rounding
decides an image's gradient: most of them have to agree.
"""


class UnfusableError(Exception):
    """A network that has no fused form; the message says why."""


class _Whole(nn.Module):
    def __init__(self, network: nn.Module, embed: Encoder) -> None:
        super().__init__()
        self.network, self.embed = network, embed

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (N, D) of images (N, 3, H, W)."""
        return self.embed(images)


class Fused:
    """A frozen network, from images (N, 3, H, W) to embeddings (N, D), on a processor in float32;
    elsewhere, and where it cannot be fused, the plain way.

    It is made when the first images come, whose size decides.
    """

    def __init__(self, network: nn.Module, plain: Encoder) -> None:
        self._network, self._plain = network, plain
        self._whole: fx.GraphModule | None = None
        self._is_tried = False
        self.refused: str | None = None
        """Why there is no fused form; None: there is one, or none was tried."""

    def __call__(self, images: Tensor) -> Tensor:
        """Embeddings (N, D) of images (N, 3, H, W)."""
        if images.device.type != "cpu" or images.dtype != torch.float32:
            return self._plain(images)
        if not self._is_tried:
            try:
                self.build(*images.shape[2:])
            except UnfusableError as reason:
                self.refused = str(reason)
        if self._whole is None:
            return self._plain(images)
        made: Tensor = self._whole(images)
        return made

    @property
    def is_made(self) -> bool:
        """Say whether the fused form was made, and gave what the plain one gives."""
        return self._whole is not None

    def build(self, height: int, width: int) -> None:
        """Make and check the fused form for images (N, 3, height, width).

        Raises:
            UnfusableError: there is none, or it gives something else.
        """
        self._is_tried = True
        random = torch.Generator().manual_seed(0)
        with torch.inference_mode(False), torch.enable_grad():
            images = torch.rand(CHECKED, 3, height, width, generator=random)
            images = images.contiguous(memory_format=LAST)
            plain = _played(self._plain, images)
            try:
                whole = segmented(self._network, self._plain, images)
                ours = _played(whole, images)
            except UnfusableError:
                raise
            except Exception as error:  # a layer with operands of shapes that no segment takes
                raise UnfusableError(f"{type(error).__name__}: {first_line(error)}") from error
        far = torch.maximum(_far(ours[0], plain[0]).max(), _far(ours[1], plain[1]).median())
        if not far <= SAME:
            raise UnfusableError(f"it would differ by {float(far):.1e}")
        self._whole = whole

    def refresh(self) -> None:
        """Take over the network's weights as they now are."""
        if self._whole is None:
            return
        for part in self._whole.modules():
            if isinstance(part, Segment):
                for step in part.steps:
                    step.work.refresh()


def _far(ours: Tensor, plain: Tensor) -> Tensor:
    """Relative differences (N,) of values (N, ...); NaN where one is not finite."""
    norms: list[Tensor] = [each.flatten(1).norm(dim=1) for each in (ours - plain, plain)]
    return torch.where(norms[0] == 0.0, norms[0], norms[0] / norms[1])


def _played(embed: Encoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings (N, D) and, of their product with something, gradients (N, 3, H, W)."""
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    made = embed(images)
    towards = torch.rand(made.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((made * towards).sum(), images)
    return made.detach(), gradient


def segmented(network: nn.Module, embed: Encoder, images: Tensor) -> fx.GraphModule:
    """The network as segments, and between them the layers that are not recognised.

    Args:
        embed: its function from images (N, 3, H, W) to embeddings (N, D).
        images: a few of those that will be embedded.

    Raises:
        UnfusableError: torch.fx cannot trace it, or there is nothing to gain.
    """
    try:
        whole = fx.symbolic_trace(_Whole(network, embed))
        _drop_idle(whole)
        ShapeProp(whole).propagate(images)
    except Exception as error:  # whatever a user's code raises
        raise UnfusableError(
            f"torch.fx raised {type(error).__name__}: {first_line(error)}"
        ) from error
    works = {node: work for node in whole.graph.nodes if (work := _work(node, whole)) is not None}
    if not any(isinstance(work, Convolution) for work in works.values()):
        raise UnfusableError("no convolution is recognised")
    run: list[fx.Node] = []
    for node in list(whole.graph.nodes):
        if node in works:
            run.append(node)
        elif run and node.op != "get_attr":
            _replace(whole, run, works)
            run = []
    whole.recompile()
    return whole


def _drop_idle(whole: fx.GraphModule) -> None:
    """Take out layers that do nothing, as a folded BatchNorm leaves them."""
    for node in whole.graph.nodes:
        if node.op == "call_module":
            layer = whole.get_submodule(str(node.target))
            idle = type(layer) is nn.Identity or (
                type(layer) in (nn.Dropout, nn.Dropout2d) and not layer.training
            )
            if idle and not (layer._forward_hooks or layer._forward_pre_hooks):
                node.replace_all_uses_with(node.args[0])
                whole.graph.erase_node(node)
    whole.recompile()


def _replace(
    whole: fx.GraphModule, run: list[fx.Node], works: dict[fx.Node, "Work | Clamp"]
) -> None:
    """Put a segment in the place of nodes that follow each other."""
    steps: list[Step] = []
    for node in run:
        work, given = works[node], _given(node)
        names = tuple(source.name for source in given)
        last = steps[-1] if steps else None
        follows = last is not None and names == (last.output,) and len(given[0].users) == 1
        if isinstance(work, Clamp):
            if last is not None and follows and last.clamp is None:
                steps[-1] = last._replace(output=node.name, clamp=work)
            else:
                steps.append(Step(node.name, names, Sum(), work))
        elif (
            last is not None
            and follows
            and last.clamp is None
            and (isinstance(work, Affine) and isinstance(last.work, Affine))
        ):
            steps[-1] = last._replace(
                output=node.name, work=Affine(*last.work.operations, *work.operations)
            )
        else:
            steps.append(Step(node.name, names, work, None))
    inside = set(run)
    inputs = list(dict.fromkeys(source for node in run for source in _given(node)))
    inputs = [source for source in inputs if source not in inside]
    outputs = [node for node in run if not inside.issuperset(node.users)]
    name = f"segment_{run[0].name}"
    whole.add_submodule(
        name, Segment([node.name for node in inputs], steps, [node.name for node in outputs])
    )
    with whole.graph.inserting_after(run[-1]):
        made = whole.graph.call_module(name, tuple(inputs))
    for place, node in enumerate(outputs):
        value = made
        if len(outputs) > 1:
            with whole.graph.inserting_after(made):
                value = whole.graph.call_function(operator.getitem, (made, place))
        node.replace_all_uses_with(value, delete_user_cb=lambda user: user not in inside)
    for node in reversed(run):
        whole.graph.erase_node(node)


def _given(node: fx.Node) -> list[fx.Node]:
    """The values that a node reads, without constants."""
    read = [argument for argument in node.args if isinstance(argument, fx.Node)]
    return [source for source in read if source.op != "get_attr"]


CONV2D = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
"""Arguments of functional.conv2d."""
ARITHMETIC = {
    **{function: torch.add for function in (operator.add, operator.iadd, torch.add)},
    **{function: torch.sub for function in (operator.sub, torch.sub)},
    **{function: torch.mul for function in (operator.mul, torch.mul)},
    **{function: torch.div for function in (operator.truediv, torch.div)},
}


def _work(node: fx.Node, whole: fx.GraphModule) -> "Work | Clamp | None":
    """The work of a node; None: it is left to autograd."""
    read = _given(node)
    shapes = [_shape(source) for source in (node, *read)]
    if not read or None in shapes or not node.kwargs.keys() <= {"inplace"}:
        return None
    if node.op == "call_module":
        layer = whole.get_submodule(str(node.target))
        return None if layer._forward_hooks or layer._forward_pre_hooks else _of_layer(layer)
    if node.op == "call_function" and node.target in (functional.conv2d, torch.conv2d):
        return _of_function(node, whole)
    if node.op == "call_function" and node.target in (torch.relu, functional.relu):
        return Clamp(0.0, math.inf)
    if node.op == "call_function" and node.target is functional.relu6:
        return Clamp(0.0, 6.0)
    if node.op != "call_function" or node.target not in ARITHMETIC or len(node.args) != 2:
        return None
    function = ARITHMETIC[node.target]
    if len(read) == 2:
        return Sum() if shapes[1] == shapes[2] and function is torch.add else None
    if node.args[0] is not read[0] or shapes[0] is None:
        return None
    constant = _constant(node.args[1], whole, shapes[0][1])
    return None if constant is None else Affine((function, constant))


def _of_function(node: fx.Node, whole: fx.GraphModule) -> Convolution | None:
    """A convolution by the function, with weights (O, C, h, w) of the network's own: such is that
    of a layer which pads by itself.
    """
    given: dict[str, Any] = dict(zip(CONV2D, node.args, strict=False))
    kept = [each for each in (given["weight"], given.get("bias")) if each is not None]
    if not all(isinstance(each, fx.Node) and each.op == "get_attr" for each in kept):
        return None
    weight, bias = (
        each and operator.attrgetter(str(each.target))(whole)
        for each in (given.pop("weight"), given.pop("bias", None))
    )
    rest = {key: value for key, value in given.items() if key != "input"}
    channels = weight.shape[1] * rest.get("groups", 1)
    with torch.device("meta"):
        layer = nn.Conv2d(
            channels, weight.shape[0], tuple(weight.shape[2:]), bias=bias is not None, **rest
        )
    layer.weight, layer.bias = weight, bias
    return None if isinstance(layer.padding, str) else Convolution(layer)


def _shape(node: fx.Node) -> torch.Size | None:
    """The shape (N, C, H, W) of a node's value; None: it is something else."""
    meta = node.meta.get("tensor_meta")
    if not isinstance(meta, TensorMetadata) or meta.dtype != torch.float32:
        return None
    return meta.shape if len(meta.shape) == 4 else None


def _of_layer(layer: nn.Module) -> "Work | Clamp | None":
    if type(layer) is nn.Conv2d:
        plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return Convolution(layer) if plain else None
    if type(layer) is nn.ReLU:
        return Clamp(0.0, math.inf)
    if type(layer) is nn.ReLU6 or type(layer) is nn.Hardtanh:
        return Clamp(float(layer.min_val), float(layer.max_val))
    return None


def _constant(value: Any, whole: fx.GraphModule, channels: int) -> Tensor | None:
    """A constant (C,) of each channel; None: it is none, or it might be trained."""
    if isinstance(value, fx.Node):
        value = operator.attrgetter(str(value.target))(whole)
    elif isinstance(value, int | float):
        value = torch.tensor(float(value))
    if isinstance(value, nn.Parameter) or value.dtype != torch.float32:
        return None
    if value.numel() == 1 or value.shape[-3:] == (channels, 1, 1) == (value.numel(), 1, 1):
        constant: Tensor = value.flatten().expand(channels)
        return constant
    return None
