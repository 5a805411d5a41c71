"""Utility of recommenders for their users: where held-out purchases stand in the users' lists.
Torch-free.

Ties count as the mean over all their orders: popularity has many, and no order of them is its own.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from advrec.catalog.interactions import Interactions
from advrec.evaluation.lists import mean_interval
from advrec.recommenders.bank import Bank, Doubles, Ids

KS = (1, 10, 50)
"""Lengths of lists."""
USERS = 256  # users at once
MOST = 10_000
"""Held-out purchases that are measured at most; of more, so many are drawn."""
TIE = 1e-10
"""Scores that differ by less, as a share of the largest, are equal: sums round in any order."""

Scores = Callable[[Ids], Doubles]
"""Users (n,) to the scores (n, N) of all articles."""


class Standings(NamedTuple):
    """Places of held-out purchases (H,) among the articles that their users have not seen."""

    better: npt.NDArray[np.int64]
    """(H,), articles with a higher score."""
    equal: npt.NDArray[np.int64]
    """(H,), other articles with the same."""
    rivals: npt.NDArray[np.int64]
    """(H,), all other articles that the user has not seen."""

    def auc(self) -> Doubles:
        """The share (H,) of rivals with a lower score; NaN where there is none."""
        worse = self.rivals - self.better - self.equal
        with np.errstate(invalid="ignore"):
            return np.asarray((worse + 0.5 * self.equal) / self.rivals)

    def hits(self, k: int) -> Doubles:
        """HR@k (H,): 1 for a purchase among the first k, else 0."""
        return np.clip((k - self.better) / (self.equal + 1.0), 0.0, 1.0)

    def gains(self, k: int) -> Doubles:
        """NDCG@k (H,): 1 / log2(rank + 1) for a purchase among the first k, else 0."""
        sums = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))])
        last = np.minimum(self.better + self.equal + 1, k)
        gains = sums[last] - sums[np.minimum(self.better, k)]
        return np.asarray(gains / (self.equal + 1.0))


def measured(interactions: Interactions) -> tuple[Ids, Ids]:
    """Users and articles (H,) of the held-out purchases that are measured."""
    users, articles = interactions.held_out_pairs()
    drawn = np.sort(np.random.default_rng(0).permutation(len(users))[:MOST])
    return users[drawn], articles[drawn]


def standings(scores: Scores, interactions: Interactions) -> Standings:
    """Count the rivals of the measured held-out purchases by some scores."""
    users, articles = measured(interactions)
    starts, bought = interactions.seen()
    counts = np.empty((3, len(users)), dtype=np.int64)
    for start in range(0, len(users), USERS):
        rows = slice(start, start + USERS)
        some = scores(users[rows])
        limit = TIE * np.abs(some).max(axis=1, keepdims=True)
        places = np.arange(len(some))
        own = some[places, articles[rows]][:, None]
        competes = np.ones(some.shape, dtype=bool)
        for place, user in enumerate(users[rows]):
            competes[place, bought[starts[user] : starts[user + 1]]] = False
        competes[places, articles[rows]] = False
        counts[0, rows] = np.count_nonzero(competes & (some > own + limit), axis=1)
        counts[1, rows] = np.count_nonzero(competes & (np.abs(some - own) <= limit), axis=1)
        counts[2, rows] = np.count_nonzero(competes, axis=1)
    return Standings(*counts)


def scores_of(bank: Bank) -> Scores:
    """The scores of a bank, in float64."""
    items = bank.items.astype(np.float64).T

    def scores(users: Ids) -> Doubles:
        """Scores (n, N) for users (n,)."""
        return np.asarray(bank.vectors(users).astype(np.float64) @ items)

    return scores


def by_popularity(interactions: Interactions) -> Scores:
    """The purchases of training, the same for every user."""
    _, articles = interactions.training()
    counts = np.bincount(articles, minlength=interactions.num_articles).astype(np.float64)
    return lambda users: np.broadcast_to(counts, (len(users), len(counts)))


def by_chance(interactions: Interactions) -> Scores:
    """No preference."""
    return lambda users: np.zeros((len(users), interactions.num_articles))


def utility(bank: Bank, interactions: Interactions) -> list[dict[str, Any]]:
    """Rows of metrics.json: AUC, HR@K and NDCG@K, 0..1 with interval, of all held-out purchases, of
    those of warm articles and of cold ones; `by` the model, popularity and chance.
    """
    _, articles = measured(interactions)
    cold = interactions.cold()[articles]
    kinds = {"all": np.ones_like(cold), "warm": ~cold, "cold": cold}
    rows: list[dict[str, Any]] = []
    for by, scores in (
        ("model", scores_of(bank)),
        ("popularity", by_popularity(interactions)),
        ("chance", by_chance(interactions)),
    ):
        found = standings(scores, interactions)
        quantities = {"auc": found.auc()}
        quantities |= {f"hr@{k}": found.hits(k) for k in KS}
        quantities |= {f"ndcg@{k}": found.gains(k) for k in KS}
        for kind, chosen in kinds.items():
            for quantity, values in quantities.items():
                known = values[chosen & ~np.isnan(values)]
                if len(known):
                    row = {"by": by, "articles": kind, "quantity": quantity}
                    rows.append(row | _mean(known, exact=by == "chance"))
    return rows


def _mean(values: Doubles, *, exact: bool) -> dict[str, Any]:
    """Mean of values (n,), with its interval; what is known exactly has none."""
    value, low, high = mean_interval(values)
    interval: Sequence[float | None] = (None, None) if exact else (low, high)
    return {"n": len(values), "value": value, "low": interval[0], "high": interval[1]}
