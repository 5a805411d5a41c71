"""The fused form against the plain network: the same embeddings and gradients."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from advrec.distributed import memory
from advrec.model import fused
from advrec.model.encoder import frozen, refresh
from advrec.model.fused import SAME, Fused, UnfusableError, segmented
from advrec.model.segments import Affine, Clamp, Convolution, Segment, Sum
from tests.conftest import random_network


def ready(module: nn.Module) -> nn.Module:
    """The module as a frozen one is, with statistics that are not those of a new one."""
    torch.manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0.0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return module.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def gradient(embed, images, towards):
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    return torch.autograd.grad((embed(images) * towards).sum(), images)[0]


def differences(whole, plain, images, within=SAME):
    """Relative differences (N,) of gradients, where embeddings are equal but for a share."""
    expected = plain(images)
    assert relative(whole(images), expected).max() <= within
    with torch.no_grad():
        assert relative(whole(images), expected).max() <= within
    towards = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    ours, theirs = gradient(whole, images, towards), gradient(plain, images, towards)
    assert ours.shape == theirs.shape == images.shape
    return relative(ours, theirs)


def relative(ours, theirs):
    """The relative difference (N,) of values (N, ...)."""
    return (ours - theirs).flatten(1).norm(dim=1) / theirs.flatten(1).norm(dim=1)


def agree(whole, plain, images, within=SAME):
    """Say that the gradients of most images are equal: at a kink rounding decides."""
    far = differences(whole, plain, images, within)
    return bool(far.median() <= SAME and far.max() < 0.1)


class Odd(nn.Module):
    """Strides, groups, paddings, dilations and additions of every kind."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 5, stride=3, padding=2)
        self.wide = nn.Conv2d(8, 12, (1, 3), padding=(0, 1), bias=False)
        self.grouped = nn.Conv2d(12, 24, 3, padding=1, groups=4)
        self.depth = nn.Conv2d(24, 24, 3, padding=1, groups=24, stride=2)
        self.dilated = nn.Conv2d(24, 24, 3, padding=2, dilation=2, groups=24)
        self.overpadded = nn.Conv2d(24, 24, 1, padding=1)
        self.strided = nn.Conv2d(24, 20, 3, stride=(1, 2))
        self.tanh = nn.Hardtanh(-0.3, 0.4)

    def forward(self, images):
        first = functional.relu((2.0 * images - 1.0) / 0.5 + self.stem.bias[:3, None, None])
        maps = functional.relu6(self.wide(self.stem(first) * 3.0))
        maps = self.depth(self.grouped(maps))
        again = maps + maps
        maps = torch.relu(again) + self.dilated(maps)
        maps += again
        maps = self.strided(self.tanh(self.overpadded(maps)))
        return torch.cat([maps.mean((2, 3)), again.flatten(2).amax(2)], 1)


class Excited(nn.Module):
    """Squeeze and excitation with SiLU, as EfficientNet has it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.expand, self.project = nn.Conv2d(16, 32, 1), nn.Conv2d(32, 16, 1)
        self.down, self.up = nn.Conv2d(32, 4, 1), nn.Conv2d(4, 32, 1)
        self.silu = nn.SiLU(inplace=True)

    def forward(self, images):
        maps = self.silu(self.stem(images))
        inner = self.silu(self.expand(maps))
        scale = torch.sigmoid(self.up(self.silu(self.down(inner.mean((2, 3), keepdim=True)))))
        return (maps + self.project(inner * scale)).mean((2, 3))


class Padding(nn.Conv2d):
    """A convolution that pads by itself, as TensorFlow's converted ones do."""

    def forward(self, images):
        padded = functional.pad(images, (0, 1, 0, 1))
        return functional.conv2d(
            padded, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


NETWORKS = {
    "padding": lambda: nn.Sequential(
        *(Padding(3, 8, 3, stride=2), nn.ReLU6(), Padding(8, 8, 3, groups=8, bias=False)),
        *(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ),
    "mobilenet": lambda: torchvision.models.mobilenet_v2(width_mult=0.25).features.append(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    ),
    "resnet": lambda: torchvision.models.resnet18(),
    "resnext": lambda: torchvision.models.ResNet(
        torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], groups=4, width_per_group=4
    ),
    "efficient": Excited,
    "odd": Odd,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fused_network_is_the_same_function_with_the_same_gradient(name):
    torch.manual_seed(0)
    plain = ready(NETWORKS[name]())
    images = torch.rand(7, 3, 37, 33).contiguous(memory_format=torch.channels_last)
    whole = segmented(plain, plain, images[:2])
    assert any(isinstance(part, Segment) for part in whole.modules())
    assert agree(whole, plain, images)
    assert differences(whole, plain, images[:1].contiguous()) < 0.1  # contiguous, an image alone


class Deciding(nn.Module):
    """A network whose way depends on what it sees."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3)

    def forward(self, images):
        maps = self.layer(images)
        return (maps if maps.sum() > 0.0 else -maps).mean((2, 3))


class Counting(nn.Module):
    """A network that torch.fx traces wrong: it asks for the data, not for its history."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3)

    def forward(self, images):
        shift = torch.zeros(8) if isinstance(images, torch.fx.Proxy) else torch.ones(8)
        return self.layer(images).mean((2, 3)) + shift


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Deciding, "torch.fx raised TraceError: symbolically traced variables"),
        (Counting, "it would differ by "),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), "no convolution is recognised"),
    ],
)
def test_what_cannot_be_fused_takes_the_plain_way_and_says_why(network, reason):
    plain = ready(network())
    images = torch.rand(5, 3, 8, 8)
    fused = Fused(plain, plain)
    assert fused.refused is None
    for _ in range(2):
        assert torch.equal(fused(images), plain(images))
    assert fused.refused is not None
    assert fused.refused.startswith(reason)
    with pytest.raises(UnfusableError, match=reason):
        Fused(plain, plain).build(8, 8)


@pytest.mark.parametrize("rows", [slice(0, 4), slice(4, 5)])
def test_a_fused_form_is_refused_whose_gradients_are_not_those_of_most_images(rows, monkeypatch):
    """Not a number is no small difference."""
    network = ready(torchvision.models.mobilenet_v2(width_mult=0.25).features)
    embed, played = (lambda images: network(images).flatten(1)), fused._played

    def wrong(way, images):
        made, gradient = played(way, images)
        if way is not embed:
            gradient[rows] = torch.nan if rows.start else 0.0
        return made, gradient

    monkeypatch.setattr(fused, "_played", wrong)
    with pytest.raises(UnfusableError, match="would differ by"):
        Fused(network, embed).build(64, 64)


class Broadcasting(nn.Module):
    """A layer whose operand is larger than what comes."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.register_buffer("offset", torch.ones(1, 3, 1, 1))

    def forward(self, images):
        return (self.convolution(images).mean(1, keepdim=True) - self.offset).mean((2, 3))


def test_no_network_fails_for_want_of_a_fused_form():
    network = ready(Broadcasting())
    images = torch.rand(2, 3, 8, 8)
    assert torch.allclose(Fused(network, network)(images), network(images))


def test_a_convolution_by_the_function_is_one_of_a_segment():
    plain = ready(NETWORKS["padding"]())
    whole = segmented(plain, plain, torch.rand(2, 3, 16, 16))
    works = [
        step.work for part in whole.modules() if isinstance(part, Segment) for step in part.steps
    ]
    assert sum(isinstance(work, Convolution) for work in works) == 2


def test_an_image_gets_the_same_bits_in_every_batch():
    copied = frozen(random_network())
    images = torch.rand(20, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    whole = gradient(copied.embed, images, torch.ones(1280))
    assert copied.fused.is_made
    for count in (1, 2, 5, 12):
        part = images[:count]
        assert torch.equal(copied.embed(part), copied.embed(images)[:count])
        assert torch.equal(gradient(copied.embed, part, torch.ones(1280)), whole[:count])


def test_a_hooked_layer_is_left_to_autograd():
    plain = ready(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Flatten()))
    plain[0].register_forward_hook(lambda layer, given, made: 2.0 * made)
    images = torch.rand(5, 3, 8, 8)
    whole = segmented(plain, plain, images)
    assert agree(whole, plain, images)
    (segment,) = (part for part in whole.modules() if isinstance(part, Segment))
    assert [type(step.work) for step in segment.steps] == [Sum, Convolution]


def test_a_frozen_network_is_fused_follows_new_weights_and_computes_in_float64_plainly():
    first, second = random_network(seed=1), random_network(seed=2)
    copied = frozen(first)
    images = torch.rand(9, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    # Untrained, it makes of the rounding of a pixel a hundred times as much.
    assert agree(copied.embed, copied.plain, images, within=1e-4)
    assert copied.fused.is_made
    refresh(copied, second)
    assert agree(copied.embed, copied.plain, images, within=1e-4)
    assert not torch.allclose(copied.embed(images), first.embed(images))
    precise = copied.double()
    assert torch.equal(precise.embed(images.double()), precise.plain(images.double()))


def test_of_mobilenet_one_segment_is_made_which_clamps_as_it_convolves():
    copied = frozen(random_network())
    whole = segmented(copied, copied.plain, torch.rand(2, 3, 32, 32))
    (segment,) = (part for part in whole.modules() if isinstance(part, Segment))
    works = [type(step.work) for step in segment.steps]
    assert works.count(Affine) == 1
    assert works.count(Convolution) == 52
    assert works.count(Sum) == 10  # residual additions, none for an activation alone
    assert [step.clamp for step in segment.steps].count(Clamp(0.0, 6.0)) == 35


def test_a_fused_network_keeps_less_for_its_gradient():
    copied = frozen(random_network())
    fused = memory.activations(copied, 32)
    copied.fused = None
    assert 0 < fused < 0.7 * memory.activations(copied, 32)
