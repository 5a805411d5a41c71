"""Attacks on the embeddings of a hybrid's articles, as published: untargeted, in feature space
(Tang et al. 2019, section 4.3). They change no image, and say how brittle a ranking is. Torch-free.
"""

from typing import Any

import numpy as np
import scipy.special

from advrec.catalog.interactions import Interactions
from advrec.evaluation.utility import measured, scores_of, standings
from advrec.recommenders.bank import Doubles, Floats, Seen
from advrec.recommenders.hybrid import Factors, spread
from advrec.recommenders.purchases import Purchases

EPSILONS = (0.05, 0.1, 0.2)
"""The published budgets, in units of the embeddings' spread."""
K = 10
RESAMPLES = 1000
DRAWS = 10


def directions(factors: Factors, embeddings: Floats, known: Interactions, *, seed: int) -> Doubles:
    """Directions (N, D), of unit length or 0, in which embeddings (N, D) raise the ranking loss of
    the measured held-out purchases. Each stands beside DRAWS articles that its user has not bought.
    """
    sizes = {"num_users": known.num_users, "num_articles": known.num_articles}
    bought = Purchases(known.query_ids, known.article_ids, **sizes)
    users, held = measured(known)
    some = known.sizes[users] < known.num_articles  # not those who have bought everything
    users, held = users[some], held[some]
    items = factors.centred(embeddings).candidates(
        embeddings, np.arange(len(embeddings), dtype=np.int32)
    )
    queries = factors.queries()[users]
    visual = np.hstack([np.ones((len(users), 1)), factors.user_visual[users].astype(np.float64)])
    sums = np.zeros((len(embeddings), visual.shape[1]))
    random = np.random.default_rng(seed)
    for _ in range(DRAWS):
        others = bought.others(users, random)
        margins = np.einsum("hd,hd->h", queries, items[held] - items[others], dtype=np.float64)
        # The loss -log sigmoid(margin) falls with the embedding of what was bought, by so much of
        # the user's vector.
        weights = scipy.special.expit(-margins)[:, None]
        np.add.at(sums, held, -weights * visual)
        np.add.at(sums, others, weights * visual)
    slopes = sums @ np.vstack([factors.visual_bias, factors.projection]).astype(np.float64)
    lengths = np.linalg.norm(slopes, axis=1, keepdims=True)
    return np.asarray(np.divide(slopes, np.where(lengths > 0.0, lengths, 1.0)))


def relative_changes(
    factors: Factors, embeddings: Floats, interactions: Interactions, *, seed: int
) -> list[dict[str, Any]]:
    """Rows of metrics.json: NDCG@10 of held-out purchases, 0..1, before and after embeddings (N, D)
    were moved by epsilon; those without a direction stay. The relative change, in percent, has a
    bootstrap interval.
    """
    moves = directions(factors, embeddings, interactions, seed=seed)
    unit, seen = spread(embeddings), Seen(*interactions.seen())
    before = _gains(factors, embeddings, interactions, seen)
    if not before.any():  # then there is nothing to lose
        return []
    picks = np.random.default_rng(seed).integers(len(before), size=(RESAMPLES, len(before)))
    rows: list[dict[str, Any]] = []
    for epsilon in EPSILONS:
        moved = (embeddings + epsilon * unit * moves).astype(np.float32)
        after = _gains(factors, moved, interactions, seen)
        percent = _change(before.mean(), after.mean())
        changes = _change(before[picks].mean(axis=1), after[picks].mean(axis=1))
        low, high = np.quantile(changes[np.isfinite(changes)], (0.025, 0.975))
        row = {"before": before.mean(), "after": after.mean(), "percent": percent}
        row |= {"low_percent": low, "high_percent": high}
        row = {name: float(value) for name, value in row.items()}
        rows.append({"epsilon": epsilon, "n": len(before)} | row)
    return rows


def _gains(factors: Factors, embeddings: Floats, interactions: Interactions, seen: Seen) -> Doubles:
    """NDCG@10 (H,) of held-out purchases, the articles having the embeddings (N, D)."""
    return standings(
        scores_of(factors.centred(embeddings).bank(embeddings, seen)), interactions
    ).gains(K)


def _change(before: Doubles, after: Doubles) -> Doubles:
    """Relative changes in percent; NaN where there was nothing to lose."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(100.0 * (after - before) / before)
