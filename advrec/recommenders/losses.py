"""Losses of an adversary against a recommender: one value an image, the smaller the better for the
adversary.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from advrec.attacks.objective import Losses, Objective


def cosine_distance(embeddings: Tensor, targets: Tensor) -> Tensor:
    """1 - cos of each pair of rows, (N, D) and (N, D) to (N,), 0..2."""
    return 1.0 - functional.cosine_similarity(embeddings, targets, dim=1)


def squared_distance(embeddings: Tensor, targets: Tensor) -> Tensor:
    """Squared Euclidean distance of each pair of rows as they are, (N, D) and (N, D) to (N,)."""
    return (embeddings - targets).square().sum(1)


@dataclasses.dataclass(frozen=True)
class CosineDistance(Objective):
    """1 - cos(F(x), F(T)): item-to-item, the distance that the recommender ranks by.

    Args:
        embed: images (N, C, H, W) to raw embeddings (N, D).
        targets: raw embeddings of the target articles, (N, D).
        descended: of embeddings and targets, what gradients are taken of; images are judged by the
            cosine distance all the same.
    """

    embed: Callable[[Tensor], Tensor]
    targets: Tensor
    descended: Callable[[Tensor, Tensor], Tensor] = cosine_distance

    def __call__(self, images: Tensor) -> Tensor:
        """Scores (N,) of images (N, C, H, W)."""
        return cosine_distance(self.embed(images), self.targets)

    def losses(self, images: Tensor) -> Losses:
        """Both losses (N,) of images (N, C, H, W)."""
        embeddings = self.embed(images)
        distance = cosine_distance(embeddings, self.targets)
        same = self.descended is cosine_distance
        return Losses(distance if same else self.descended(embeddings, self.targets), distance)

    def surrogate(self) -> Self:
        """The same goal by gradients of the squared distance of the raw embeddings. They act on an
        embedding's length too, to which the cosine is blind.
        """
        return dataclasses.replace(self, descended=squared_distance)

    def select(self, rows: Tensor) -> Self:
        """The loss of some of the images: those at `rows` (n,), int64."""
        return dataclasses.replace(self, targets=self.targets[rows])


class Alike(Objective):
    """A loss that wants the same of every image, and is the score too."""

    def losses(self, images: Tensor) -> Losses:
        """The loss (N,) of images (N, C, H, W), twice."""
        loss = self(images)
        return Losses(loss, loss)

    def surrogate(self) -> Self:
        """The loss itself."""
        return self

    def select(self, rows: Tensor) -> Self:
        """The loss itself, for images at `rows` (n,) too."""
        return self


@dataclasses.dataclass(frozen=True)
class Point(Alike):
    """Squared distance to one embedding, as a share of that embedding's square length.

    Args:
        embed: images (N, C, H, W) to raw embeddings (N, D).
        point: (D,), raw.
    """

    embed: Callable[[Tensor], Tensor]
    point: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Scores (N,) of images (N, C, H, W)."""
        return (self.embed(images) - self.point).square().sum(1) / self.point.square().sum()


@dataclasses.dataclass(frozen=True)
class CategoryOf(Alike):
    """Cross entropy of one category: an image is to be taken for it.

    Args:
        embed: images (N, C, H, W) to raw embeddings (N, D).
        head: raw embeddings (N, D) to logits (N, categories).
        category: its place among the logits.
    """

    embed: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor]
    category: int

    def __call__(self, images: Tensor) -> Tensor:
        """Scores (N,) of images (N, C, H, W)."""
        logits = self.head(self.embed(images))
        wanted = torch.full((len(logits),), self.category, device=logits.device)
        return functional.cross_entropy(logits, wanted, reduction="none")


HIT, SCORE, EMBEDDING = "hit", "score", "embedding"
REACH = "reach"
"""Loss that hit is descended by.

Why: its own gradient dies away with the distance to a threshold, so an image that has won some
queries never finds the others. On a drawn catalog (32 articles, budget 0.05) HR@10 was 10.1 % by
its own, 13.0 % by this one.
"""
NARROWER, SLANT = 0.25, 0.02
"""T of reach as a share of that of hit, and the weight of what is linear in it."""
LARGE = 1e6
"""Cost that stands for an infinite one, where fewer articles compete than the rank asked for."""


class Asked(NamedTuple):
    """S queries, and what they ask of N images."""

    queries: Tensor
    """(S, D'); at unit length where the bank's are."""
    thresholds: Tensor
    """(N, S), costs below which an article is among the K best."""
    weights: Tensor
    """(N, S), 0 of a query that is not of an image's audience; a row's sum is 1."""

    def select(self, rows: Tensor) -> "Asked":
        """The same of some of the images: those at `rows` (n,), int64."""
        return self._replace(thresholds=self.thresholds[rows], weights=self.weights[rows])

    def to(self, device: str) -> "Asked":
        """The same on a device."""
        return Asked(*(each.to(device) for each in self))


@dataclasses.dataclass(frozen=True)
class Promotion(Objective):
    """An article before many queries at once: N images, S queries.

    hit is minus the smoothed HR@K, the mean of sigmoid((tau_u - cost_u) / T), judged by that and
    descended by reach: a softsign, whose slope never dies away, and a slant. score is the mean
    cost, one fixed direction. embedding is the squared distance to one embedding, for an adversary
    who knows no query, as a share of that embedding's square length.

    Args:
        embed: images (N, C, H, W) to raw embeddings (N, D).
        candidates: raw embeddings (N, D) and articles (N,), int64, to items (N, D') of a bank whose
            cost is minus the product with a query; None: cosine distance.
        asked: the queries that losses are of.
        hook: raw embedding (D,) that the loss embedding goes to.
        article_ids: (N,) int64.
        temperature: (N,), T.
        judged: the loss that is the score, unless a share is asked for.
        descended: the loss of which gradients are taken.
        share: the score is minus the share of the audience that is hit; equal shares are told
            apart by the smoothed one. None: nobody asks for a share.
        everyone: the queries that the share is of, where `asked` are a sample; None: they are all.
        sign: 1, or -1 where the article is to stand low.
    """

    embed: Callable[[Tensor], Tensor]
    candidates: Callable[[Tensor, Tensor], Tensor] | None
    asked: Asked
    hook: Tensor
    article_ids: Tensor
    temperature: Tensor
    judged: str = HIT
    descended: str = HIT
    share: float | None = None
    everyone: Asked | None = None
    sign: float = 1.0

    def __call__(self, images: Tensor) -> Tensor:
        """Scores (N,) of images (N, C, H, W)."""
        return self.losses(images).score

    def losses(self, images: Tensor) -> Losses:
        """Both losses (N,) of images (N, C, H, W)."""
        embeddings = self.embed(images)
        costs = self._costs(embeddings, self.asked)
        descended = self._loss(self.descended, embeddings, costs)
        if self.share is not None:
            hard = self._share_hit(embeddings, costs)
            return Losses(descended, -hard + 1e-6 * self._loss(HIT, embeddings, costs))
        same = self.judged == self.descended
        return Losses(descended, descended if same else self._loss(self.judged, embeddings, costs))

    def surrogate(self) -> Self:
        """The same goal by gradients of the mean cost, and of hit where that is the goal."""
        return dataclasses.replace(self, descended=REACH if self.judged == SCORE else SCORE)

    def select(self, rows: Tensor) -> Self:
        """The loss of some of the images: those at `rows` (n,), int64."""
        return dataclasses.replace(
            self,
            article_ids=self.article_ids[rows],
            asked=self.asked.select(rows),
            everyone=self.everyone and self.everyone.select(rows),
            temperature=self.temperature[rows],
        )

    def _share_hit(self, embeddings: Tensor, costs: Tensor) -> Tensor:
        """The share (N,) of the audience that is hit, by the costs (N, S) of the queries asked."""
        asked = self.asked
        if self.everyone is not None:
            asked, costs = self.everyone, self._costs(embeddings.detach(), self.everyone)
        return ((costs < asked.thresholds) * asked.weights).sum(1)

    def _costs(self, embeddings: Tensor, asked: Asked) -> Tensor:
        """Costs (N, S) of embeddings (N, D) for the queries."""
        if self.candidates is None:
            return 1.0 - functional.normalize(embeddings, dim=1) @ asked.queries.T
        return -(self.candidates(embeddings, self.article_ids) @ asked.queries.T)

    def _loss(self, loss: str, embeddings: Tensor, costs: Tensor) -> Tensor:
        return self.sign * self._promoting(loss, embeddings, costs)

    def _promoting(self, loss: str, embeddings: Tensor, costs: Tensor) -> Tensor:
        if loss == EMBEDDING:
            return (embeddings - self.hook).square().sum(1) / self.hook.square().sum()
        if loss == SCORE:
            return (costs * self.asked.weights).sum(1)
        margins = (self.asked.thresholds - costs) / self.temperature[:, None]
        if loss == REACH:
            steep = margins / NARROWER
            worth = functional.softsign(steep) + SLANT * steep
            return -(worth * self.asked.weights).sum(1)
        return -(torch.sigmoid(margins) * self.asked.weights).sum(1)
