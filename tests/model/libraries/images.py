"""Images for tests of encoders: what a catalog holds, as Pillow and as a batch."""

import numpy as np
import torch
from PIL import Image

from advrec.model.encoder import to_images
from advrec.model.libraries import registry
from advrec.model.preprocessing import Preprocessed
from advrec.spec.models import OwnModel


def pictures(count, size, seed=0):
    """Images (N, size, size, 3), uint8: soft shapes, sharp edges, noise, and a white background."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        soft = np.array(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
        noisy = soft + random.integers(-20, 21, soft.shape)
        quarter = size // 4
        noisy[:quarter] = 255
        noisy[-quarter:, : 2 * quarter] = random.integers(0, 2) * 255
        made.append(noisy.clip(0, 255).astype(np.uint8))
    return np.stack(made)


def batch(pixels):
    """Images (N, 3, H, W) in [0, 1] of pixels (N, H, W, 3)."""
    return to_images(pixels.copy())


def prepared_by(transform, pixels):
    """A batch of images, each prepared by a library's own transform of a Pillow image."""
    return torch.stack([transform(Image.fromarray(each)) for each in pixels])


def distances(first, second):
    """Cosine distances (N,) of embeddings (N, D)."""
    return 1.0 - torch.nn.functional.cosine_similarity(first.double(), second.double())


def taken(size, **keys):
    """The encoder of an entry with these keys, for a catalog of this size, before its rehearsal."""
    encoder = registry.take(OwnModel(**keys))
    return Preprocessed(encoder.network, encoder.named.preprocessing, size).eval()


def is_as_the_librarys(ours, embed, transform, pixels):
    """Assert that an encoder prepares images and embeds them as its library does.

    Args:
        ours: what `taken` gives.
        embed: the library's own, of images that it prepared.
        transform: the library's own, of a Pillow image.
    """
    given = prepared_by(transform, pixels)
    with torch.no_grad():
        levels = 255 * (ours.prepared(batch(pixels)) - (given * ours.std + ours.mean)).abs()
        assert levels.max() < 3  # Pillow rounds to 8 bits after either direction
        embeddings, features = ours(batch(pixels)), embed(given)
    far = distances(embeddings, features).max()
    assert far < 1e-3
    assert far < 0.05 * distances(embeddings, features.roll(1, 0)).min()  # another image's
