"""Accuracy of a classifier, clean and under attack, as counts that add up over workers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advrec.attacks.apgd import APGD
from advrec.attacks.gradient import PGD
from advrec.attacks.objective import Misclassification
from advrec.attacks.problem import Problem
from advrec.catalog.dataset import Catalog
from advrec.model.fashionnet import FashionNet
from advrec.spec import accuracy
from advrec.training.data import Batch, Ids, load

PUBLISHED = PGD(steps=accuracy.PUBLISHED_STEPS)
# APGD takes seven times as long: what falls to PGD is spared it, on an undefended model nearly all.
CONVERGED = (PUBLISHED, APGD(steps=accuracy.CONVERGED_STEPS))
CONVERGED_IMAGES = 1000  # at most
COUNTS = ("n", "accuracy", "top5_accuracy", "n_textures", "texture_top1_precision")


def count(
    network: FashionNet,
    catalog: Catalog,
    article_ids: Ids,
    *,
    attacks: Sequence[PGD | APGD] = (),
    epsilon: float = 0.0,
    batch: int = 64,
) -> Tensor:
    """Return counts (5,) float64 in the order of COUNTS.

    They are images, right category, right category among the first five, images with texture
    labels, and those whose highest-scored texture is one of their labels.

    Args:
        article_ids: (n,)
        network: a frozen network.
        attacks: against the classification loss, with the correct labels. The first attacks all
            images, each further one those that are still in the right category; without a category
            head, those whose first texture is still one of theirs.
    """
    totals = torch.zeros(len(COUNTS), dtype=torch.float64)
    device = network.mean.device
    for start in range(0, len(article_ids), batch):
        loaded = load(catalog, article_ids[start : start + batch], device)
        images, categories, textures = loaded.images, loaded.categories, loaded.textures
        if attacks:
            budgets = torch.full((len(images),), epsilon, dtype=torch.float64, device=device)
            problem = Problem(Misclassification(network, categories, textures), images, budgets)
            images = _attacked(network, problem, attacks, loaded)
        with torch.inference_mode():
            logits = network(images)
        totals[0] += len(images)
        if logits.category is not None:
            places = min(5, logits.category.shape[1])
            best = logits.category.topk(places, dim=1).indices == categories[:, None]
            totals[1] += best[:, 0].sum().cpu()
            totals[2] += best.any(1).sum().cpu()
        if textures is not None and logits.texture is not None:
            labelled = textures.sum(1) > 0
            hits = first_is_one(logits.texture, textures)
            totals[3] += labelled.sum().cpu()
            totals[4] += (hits & labelled).sum().cpu()
    return totals


def first_is_one(scores: Tensor, textures: Tensor) -> Tensor:
    """Say of images whose texture with the highest score (N, M) is one of theirs (N, M); (N,)."""
    return textures.gather(1, scores.argmax(1, keepdim=True))[:, 0] > 0


def _attacked(
    network: FashionNet, problem: Problem, attacks: Sequence[PGD | APGD], batch: Batch
) -> Tensor:
    """Attacked images (N, 3, H, W) of a batch with its labels."""
    first, *others = attacks
    images = first(problem).images
    for attack in others:
        with torch.no_grad():
            logits = network(images)
        if logits.category is not None:
            right = logits.category.argmax(1) == batch.categories
        else:
            assert logits.texture is not None, "a network has a head"
            assert batch.textures is not None, "or it would have no head"
            right = first_is_one(logits.texture, batch.textures)
        rows = right.nonzero()[:, 0]
        if len(rows):
            images[rows] = attack(problem.select(rows)).images
    return images


def metrics(
    clean: Tensor, adversarial: Tensor, robust: Tensor, *, on_categories: bool = True
) -> dict[str, Any]:
    """Return the content of metrics.json, fractions 0..1 with n; None where one is not known.

    Args:
        on_categories: the network has a category head.
        clean: counts (5,) of `count` on clean images.
        adversarial: counts (5,) under the published PGD.
        robust: counts (5,) under PGD and, where it fails, APGD.
    """
    measured = {
        "n": int(clean[0]),
        "n_textures": int(clean[3]),
        "clean_accuracy": _share(clean, 1),
        "adversarial_accuracy": _share(adversarial, 1),
        "robust_accuracy": _share(robust, 1),
        "n_robust": int(robust[0]),
        "top5_accuracy": _share(clean, 2),
        "adversarial_top5_accuracy": _share(adversarial, 2),
        "texture_top1_precision": _share(clean, 4),
        "adversarial_texture_top1_precision": _share(adversarial, 4),
    }
    if not on_categories:
        measured |= {name: None for name in measured if name.endswith("accuracy")}
    return measured


def _share(counts: Tensor, place: int) -> float | None:
    n = float(counts[3 if place == 4 else 0])
    return float(counts[place]) / n if n else None


def shard(article_ids: Ids, rank: int, world: int) -> Ids:
    """Return a worker's share (m,) of the articles (n,) to measure."""
    return np.ascontiguousarray(article_ids[rank::world])
