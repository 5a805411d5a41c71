"""The lists that a shop shows, and nothing else of its recommender: what `rank-Q` may ask for."""

from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from torch import Tensor

from advrec.attacks.oracle import Oracle
from advrec.recommenders.bank import Floats, Ids
from advrec.recommenders.recommender import Recommender

LENGTH = 10
"""Articles of a list; fewer where the catalog has not so many."""


class ShownLists(Oracle):
    """Lists of similar articles, before N attacked images and with each of them in its place.

    Args:
        target_ids, article_ids: (N,), as of the tuples.
        arrive: images (n, C, H, W) to what the shop stores of them.
    """

    def __init__(
        self,
        recommender: Recommender,
        target_ids: Ids,
        article_ids: Ids,
        arrive: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._recommender, self._arrive = recommender, arrive
        self._targets, self._articles = target_ids, article_ids
        self.target_ids = torch.from_numpy(target_ids.astype(np.int64))
        self.article_ids = torch.from_numpy(article_ids.astype(np.int64))
        self.asked = torch.zeros(len(target_ids), dtype=torch.int32)
        self._length = min(LENGTH, len(recommender) - 2)

    def select(self, rows: Tensor) -> Self:
        """Those of some of the images: at `rows` (n,), int64."""
        here = rows.cpu().numpy()
        return type(self)(
            self._recommender, self._targets[here], self._articles[here], self._arrive
        )

    def of_articles(self, rows: Tensor, article_ids: Tensor) -> Tensor:
        """Lists (n, 10) of articles (n,), before anything was attacked."""
        self._count(rows)
        ids = article_ids.numpy().astype(np.int32)
        shown = self._recommender.index.top_k(ids, self._length).ids
        return torch.from_numpy(shown.astype(np.int64))

    def of_images(self, rows: Tensor, images: Tensor) -> Tensor:
        """Lists (n, 10) of images (n, C, H, W) in the place of the attacked articles of rows."""
        self._count(rows)
        costs = self._recommender.index.distances(self._embeddings(images))
        costs[np.arange(len(costs)), self._articles[rows.numpy()]] = np.inf
        ids = np.sort(np.argpartition(costs, self._length - 1, axis=1)[:, : self._length], axis=1)
        order = np.argsort(np.take_along_axis(costs, ids, axis=1), axis=1, kind="stable")
        return torch.from_numpy(np.take_along_axis(ids, order, axis=1).astype(np.int64))

    def of_targets(self, rows: Tensor, images: Tensor) -> Tensor:
        """Lists (n, 10) of the targets of rows, with images (n, C, H, W) in the catalog."""
        self._count(rows)
        places, index = rows.numpy(), self._recommender.index
        targets, articles = self._targets[places], self._articles[places]
        ranks = index.ranks(targets, articles, self._embeddings(images))
        before = index.top_k(targets, self._length + 1).ids
        lists = []
        for ids, article, rank in zip(before, articles, ranks, strict=True):
            others = ids[ids != article].tolist()
            lists.append([*others[: rank - 1], int(article), *others[rank - 1 :]][: self._length])
        return torch.tensor(lists)

    def _embeddings(self, images: Tensor) -> Floats:
        arrived = images if self._arrive is None else self._arrive(images)
        return self._recommender.embeddings(arrived)

    def _count(self, rows: Tensor) -> None:
        self.asked += torch.bincount(rows, minlength=len(self.asked)).int()
