"""A small model that kills its process when it is attacked on a bright image, as long as the file
poison.txt beside it names a brightness.
"""

import os
import signal
from pathlib import Path

import torch
from torch import nn


class Poison(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 7 * 7, 16)
        )

    def forward(self, images):
        limit = Path(__file__).with_name("poison.txt")
        if (
            images.requires_grad
            and limit.exists()
            and (images.mean((1, 2, 3)) > float(limit.read_text())).any()
        ):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.layers(images)


def model():
    torch.manual_seed(0)
    return Poison()
