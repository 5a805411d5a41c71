"""Kinds of module that people have: each is a function without arguments, as a study names it. They
embed images of 64 pixels by a few layers.
"""

import threading

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Fn(nn.Module):
    """A layer without weights."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def seq(*layers):
    return nn.Sequential(*layers)


def body(channels=3):
    """Images (N, 3, 64, 64) to maps (N, 32, 7, 7)."""
    torch.manual_seed(7)
    return seq(nn.Conv2d(channels, 16, 5, 4), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU())


def mean():
    return Fn(lambda f: f.mean((2, 3)))


def plain():
    return seq(body(), mean())


# Names of weights


class Holder(nn.Module):
    """An attribute `module` of its own."""

    def __init__(self):
        super().__init__()
        self.module = plain()

    def forward(self, x):
        return self.module(x)


def holder():
    return Holder()


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.one, self.two = plain(), nn.Linear(32, 32), nn.Linear(32, 32)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.two(self.one(self.net(x)).relu())


def tied():
    torch.manual_seed(9)
    return Tied()


_ = threading, checkpoint
