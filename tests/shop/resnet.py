"""A shop's own model, as its engineers would write it: a ResNet-18 (He et al. 2016) that knows
nothing of advrec.
"""

import sys
from functools import partial
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = None
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)), inplace=True)))
        return functional.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet18(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        blocks = [
            nn.Sequential(Block(a, b, 1 + (a != b)), Block(b, b, 1)) for a, b in pairwise(widths)
        ]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, images):
        return self.blocks(self.stem((images - 0.5) / 0.25)).mean((2, 3))


class ActivatedFirst(nn.Module):
    """Lists its layers in an order in which it does not run them: folding its BatchNorm as listed
    would change it.
    """

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.first = nn.Conv2d(3, 8, 3)
        self.norm.running_var *= 4.0

    def forward(self, images):
        return (self.convolution(images) + self.norm(self.first(images))).relu().mean((2, 3))


def resnet18():
    torch.manual_seed(0)
    return ResNet18(width=16)


def activated_first():
    return ActivatedFirst()


def no_module():
    return "weights.pt"


def exits():
    sys.exit("no licence")


def broken():
    raise RuntimeError("the weights are on another machine")


def maps():
    return nn.Conv2d(3, 4, 3)


class Detached(nn.Module):
    def forward(self, images):
        return images.detach().flatten(1)


def detached():
    return Detached()


class Unregistered(nn.Module):
    """Draws its projection anew each time it is built, and keeps it out of the state dict."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3)
        self.projection = torch.randn(8, 16)

    def forward(self, images):
        return self.convolution(images).mean((2, 3)) @ self.projection


def unregistered():
    return Unregistered()


narrow = partial(ResNet18, width=4)


class Double(nn.Module):
    def forward(self, images):
        return images.double().flatten(1)


def double():
    return Double()
