"""An encoder's own preparation of images: gradients pass through it as far as the encoder sees."""

import torch
from torch.nn import functional

from advrec.model.preprocessing import Preprocessed, preprocessing


def test_the_gradient_of_a_white_background_passes_bicubic_scaling():
    """Which overshoots beside edges, and is clamped."""
    said = {"size": 20, "resize": 20, "mean": [0.5] * 3, "std": [0.5] * 3}
    made = preprocessing("shop", interpolation="bicubic", **said)
    images = torch.ones(1, 3, 32, 32)
    images[:, :, 10:20, 12:22] = 0.0
    weights = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(1)) + 0.5
    seen = [images.clone().requires_grad_(), images.clone().requires_grad_()]
    prepared = Preprocessed(torch.nn.Identity(), made, 32).prepared(seen[0])
    scaled = functional.interpolate(seen[1], size=(20, 20), mode="bicubic", antialias=True)
    assert prepared.min() >= 0.0
    assert prepared.max() <= 1.0
    assert scaled.max() > 1.01
    for found in (prepared, scaled):
        (weights * found).sum().backward()
    assert torch.allclose(seen[0].grad, seen[1].grad, atol=1e-5)
    assert (seen[0].grad != 0.0).all()
