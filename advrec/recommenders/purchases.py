"""Purchases of training: each with an article that its user has not bought."""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from advrec.recommenders.bank import Ids


class Triples(NamedTuple):
    """Users (B,), an article (B,) that each has bought, and one (B,) that it has not."""

    users: Ids
    bought: Ids
    others: Ids


class Purchases:
    """Training purchases of U users among N articles.

    Args:
        users: (M,)
        articles: (M,), the article of each purchase.
    """

    def __init__(self, users: Ids, articles: Ids, *, num_users: int, num_articles: int) -> None:
        self.users, self.articles = users, articles
        self.num_users, self.num_articles = num_users, num_articles

    @cached_property
    def _keys(self) -> npt.NDArray[np.int64]:
        """User and article of each purchase in one number, ascending."""
        return np.unique(self._key(self.users, self.articles))

    @cached_property
    def _pairs(self) -> npt.NDArray[np.intp]:
        """Places of the purchases whose user has not bought every article."""
        bought = np.bincount(self._keys // self.num_articles, minlength=self.num_users)
        return np.flatnonzero(bought[self.users] < self.num_articles)

    def __len__(self) -> int:
        """The number of triples of an epoch."""
        return len(self._pairs)

    def others(self, users: Ids, random: np.random.Generator) -> Ids:
        """Articles (B,), each drawn uniformly from those that its user (B,) has not bought."""
        drawn = random.integers(self.num_articles, size=len(users), dtype=np.int32)
        left = np.flatnonzero(self._are_bought(users, drawn))
        while len(left):
            drawn[left] = random.integers(self.num_articles, size=len(left), dtype=np.int32)
            left = left[self._are_bought(users[left], drawn[left])]
        return drawn

    def epoch(self, random: np.random.Generator, batch: int) -> Iterator[Triples]:
        """Every purchase once, in a drawn order, `batch` at a time."""
        order = random.permutation(self._pairs)
        others = self.others(self.users[order], random)
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            yield Triples(self.users[rows], self.articles[rows], others[start : start + batch])

    def _key(self, users: Ids, articles: Ids) -> npt.NDArray[np.int64]:
        return users.astype(np.int64) * self.num_articles + articles

    def _are_bought(self, users: Ids, articles: Ids) -> npt.NDArray[np.bool_]:
        keys = self._key(users, articles)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.asarray(self._keys[places] == keys)
