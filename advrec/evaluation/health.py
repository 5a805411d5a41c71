"""Reasons for worthless gradients, looked for in the model itself: a step of an
evaluation's examination of itself.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from advrec.attacks.objective import evaluate
from advrec.recommenders.losses import CosineDistance, cosine_distance
from advrec.recommenders.recommender import Recommender

MOST_EMBEDDINGS = 2000  # for the effective rank: a singular value decomposition


def measure(recommender: Recommender, images: Tensor) -> dict[str, Any]:
    """Numbers about a model; evaluation/checks.py judges them.

    Args:
        images: clean (N, 3, H, W), N >= 2.

    Returns:
        n; repeat_difference and alone_difference: the largest cosine distance between an image's
        embedding in a batch and in the same batch again, or by itself; zero_gradients: images whose
        gradient towards another one is zero everywhere; broken_gradients: those in whose gradient a
        value is not finite; zero_values: the share of the gradients'
        values that are exactly zero; and of the catalog's embeddings mean_cosine (of two different
        articles) and effective_rank (Roy & Vetterli 2007: the exponential of the singular values'
        entropy).
    """
    embed = recommender.embed
    with torch.no_grad():
        embeddings = embed(images)
        again = embed(images)
        alone = torch.cat([embed(image[None]) for image in images])
    gradient = evaluate(CosineDistance(embed, embeddings.clone().roll(1, 0)), images).gradient
    return {
        "n": len(images),
        "repeat_difference": float(cosine_distance(embeddings.double(), again.double()).max()),
        "alone_difference": float(cosine_distance(embeddings.double(), alone.double()).max()),
        "broken_gradients": int((~torch.isfinite(gradient)).flatten(1).any(1).sum()),
        "zero_gradients": int((gradient == 0).flatten(1).all(1).sum()),
        "zero_values": float((gradient == 0).double().mean()),
        **_spread(recommender.bank.items),
    }


def _spread(embeddings: npt.NDArray[np.float32]) -> dict[str, Any]:
    chosen = embeddings[
        np.linspace(0, len(embeddings) - 1, min(len(embeddings), MOST_EMBEDDINGS)).astype(int)
    ]
    units = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
    n = len(units)
    mean_cosine = (float(np.square(units.sum(0, dtype=np.float64)).sum()) - n) / (n * (n - 1))
    values = np.linalg.svd(units, compute_uv=False).astype(np.float64)
    shares = values[values > 0] / values.sum()
    return {
        "embeddings": n,
        "dimension": embeddings.shape[1],
        "mean_cosine": mean_cosine,
        "effective_rank": float(np.exp(-(shares * np.log(shares)).sum())),
    }
