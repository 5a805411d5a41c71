"""Encoders of a shop that train in moments; images of 32 pixels."""

import torch
from torch import nn


def normed() -> nn.Module:
    """16 values of an image: two convolutions with BatchNorm, whose statistics are no new one's."""
    torch.manual_seed(5)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 5, 2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
    )
    made.train()
    with torch.no_grad():
        for _ in range(8):
            made(torch.rand(16, 3, 32, 32))
    return made.eval()


def linear() -> nn.Module:
    """4 values of an image, a linear function of its pixels."""
    torch.manual_seed(6)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))


def computed() -> nn.Module:
    """Weights that the module computes, as weight_norm does."""
    torch.manual_seed(7)
    return nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 5, 4)),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
    )
