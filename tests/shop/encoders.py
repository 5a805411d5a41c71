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


class Layer(nn.Module):
    """A layer of the tower below: 8 values of each token to 8 values."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (N, T, 8) after the layer."""
        return tokens + self.mlp(self.norm(tokens)) + tokens.mean(1, keepdim=True)


class Layers(nn.Module):
    """Three layers in a hull, as transformer libraries have them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(3))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (N, T, 8) after all layers."""
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens


class Tower(nn.Module):
    """6 values of an image by a small transformer, with weights that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.randn(1, 1, 8))
        self.mask_token = nn.Parameter(torch.randn(1, 1, 8))
        self.projection = nn.Parameter(torch.randn(8, 6))
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.encoder = Layers()
        self.norm = nn.LayerNorm(8)
        self.classifier = nn.Linear(6, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embeddings (N, 6) of images (N, 3, 32, 32)."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], 1)
        return self.norm(self.encoder(tokens))[:, 0] @ self.projection


def tower() -> nn.Module:
    """6 values of an image by a small transformer that has its mask token and classifier still."""
    torch.manual_seed(8)
    return Tower()
