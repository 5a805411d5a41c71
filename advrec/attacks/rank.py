"""The attack rank-Q: lists of ten articles are all that it asks for. No score, no distance and no
gradient reaches it.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from advrec.attacks.blind import Drawn, side_of
from advrec.attacks.oracle import Oracle
from advrec.attacks.problem import Problem
from advrec.attacks.result import Attacked

FOLLOW = 0.9
"""Probability that a shopper goes on to a further list."""
WALK = 40
"""Lists after which a walk is cut: what is left of it is below 2 %."""
UNKNOWN = 1e-9
"""Nearness of an article that no walk from there brings to the target."""
UNSEEN = 1000
"""Place of an image that was not seen in the target's list."""


class Chart(NamedTuple):
    """The way to a target, as lists of articles say it."""

    near: Mapping[int, float]
    """Logarithm of the nearness of articles, by number."""
    around: frozenset[int]
    """The target and its list."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankSearch:
    """Squares of +-epsilon, as Square sets them, kept where the lists say that the image has come
    nearer to the target, or as near.

    First lists of articles around the target and the attacked one are read: a map of the catalog.
    A shopper who follows lists from an article comes to the target more or less often: that is how
    near the article is. An image is as near as the articles of its own list, the first ones most.
    (QAIR, Li et al. 2021, compares the list with the target's alone.) Where the list meets that of
    the target, the latter is asked for too. The place there comes before nearness, as in the order
    attack of Zhou et al. 2021.

    Args:
        queries: lists in all; each counts once, of an article, an image or a target.
        reading: share of them that the map may take.
        share: of the pixels that the first squares cover.
    """

    queries: int
    reading: float = 1 / 3
    share: float = 0.8

    def __call__(self, problem: Problem) -> Attacked:
        oracle = problem.lists
        if oracle is None:
            raise ValueError("rank-Q asks for lists, and this problem has none")
        size, device = len(problem.images), problem.images.device
        charts = [self._chart(oracle, row) for row in range(size)]
        read, drawn = oracle.asked.clone(), Drawn.of(problem, self.queries)
        best = _Best(charts, problem.images.clone())
        active = torch.arange(size)
        for number in range(self.queries):
            active = active[oracle.asked[active] < self.queries]
            if not len(active):
                break
            here = active.to(device)
            candidates = best.images[here]
            if number:
                spent = (oracle.asked - read)[active] / (self.queries - read)[active]
                sides = [side_of(each, self.share, candidates.shape) for each in spent.tolist()]
                mine, ball = drawn.select(here), problem.ball.select(here)
                window = mine.window(number, torch.tensor(sides), candidates.shape)
                up = mine.signs[:, number, :, None, None] > 0
                edge = torch.where(up, ball.upper, ball.lower)
                candidates = torch.where(window, edge, candidates)
            first = best.take(oracle, active, candidates, self.queries)
            if problem.stop != "never":
                active = active[~first]
        steps = torch.zeros(size, dtype=torch.int32)
        return Attacked(best.images, steps, oracle.asked.clone())

    def _chart(self, oracle: Oracle, row: int) -> Chart:
        target, article = int(oracle.target_ids[row]), int(oracle.article_ids[row])
        most = int(self.reading * self.queries)
        lists: dict[int, Sequence[int]] = {}
        wave = [target, article]
        while wave and len(lists) < most:
            ids = torch.tensor(wave[: most - len(lists)])
            shown = oracle.of_articles(torch.full_like(ids, row), ids).tolist()
            lists |= zip(ids.tolist(), shown, strict=True)
            met = (each for ten in shown for each in ten)
            wave = [each for each in dict.fromkeys(met) if each not in lists]
        around = frozenset([target, *lists.get(target, ())])
        return Chart(nearness(lists, target), around)


class _Best:
    """The best image so far of each of N, and what the lists say of it."""

    def __init__(self, charts: Sequence[Chart], images: Tensor) -> None:
        self._charts, self.images = charts, images
        size = (len(images),)
        self._place = torch.full(size, UNSEEN)
        self._far = torch.full(size, torch.inf, dtype=torch.float64)

    def take(self, oracle: Oracle, rows: Tensor, images: Tensor, queries: int) -> Tensor:
        """Ask for lists of images (n, C, H, W) of rows (n,), and keep those that are no worse; says
        which now stand first in the target's list, (n,) bool.
        """
        shown = oracle.of_images(rows, images)
        each = list(zip([self._charts[row] for row in rows.tolist()], shown.tolist(), strict=True))
        far = torch.tensor([-_mean(chart.near, ten) for chart, ten in each], dtype=torch.float64)
        meets = torch.tensor([not chart.around.isdisjoint(ten) for chart, ten in each])
        place = torch.full((len(rows),), UNSEEN)
        able = (far <= self._far[rows]) | (self._place[rows] < UNSEEN)
        asks = meets & able & (oracle.asked[rows] < queries)
        if asks.any():
            asking = rows[asks]
            lists = oracle.of_targets(asking, images[asks.to(images.device)])
            found = lists == oracle.article_ids[asking, None]
            place[asks] = torch.where(found.any(1), found.int().argmax(1) + 1, UNSEEN)
        before = self._place[rows]
        better = (place < before) | ((place == before) & (far <= self._far[rows]))
        self._place[rows[better]], self._far[rows[better]] = place[better], far[better]
        there = better.to(images.device)
        self.images[rows.to(images.device)[there]] = images[there]
        return better & (place == 1)


def nearness(lists: Mapping[int, Sequence[int]], target: int) -> dict[int, float]:
    """The nearness of articles to a target, as its logarithm: how often a shopper comes to the
    target who starts at the article. From article to list and back, he goes on with probability
    FOLLOW each time.

    Args:
        lists: of articles, nearest first.
    """
    known = {each: place for place, each in enumerate(dict.fromkeys(_met(lists, target)))}
    ends = [(known[one], known[other]) for one, ten in lists.items() for other in ten]
    weights = [weight for ten in lists.values() for weight in _weights(len(ten))]
    first, second = torch.tensor(ends, dtype=torch.int64).view(-1, 2).unbind(1)
    weight = torch.tensor(weights, dtype=torch.float64).repeat(2)
    away, towards = torch.cat([first, second]), torch.cat([second, first])
    zeros = torch.zeros(len(known), dtype=torch.float64)
    weight = FOLLOW * weight / zeros.index_add(0, away, weight)[away]
    visits = arriving = zeros.index_fill(0, torch.tensor([known[target]]), 1.0)
    for _ in range(WALK):
        arriving = zeros.index_add(0, away, weight * arriving[towards])
        visits = visits + arriving
    return dict(zip(known, visits.clamp_min(UNKNOWN).log().tolist(), strict=True))


def _met(lists: Mapping[int, Sequence[int]], target: int) -> Iterable[int]:
    yield target
    for one, ten in lists.items():
        yield one
        yield from ten


def _mean(chart: Mapping[int, float], ten: Sequence[int]) -> float:
    """The mean nearness of a list's articles, the first ones counting most."""
    weights = _weights(len(ten))
    unknown = math.log(UNKNOWN)
    near = sum(w * chart.get(each, unknown) for w, each in zip(weights, ten, strict=True))
    return near / sum(weights)


def _weights(length: int) -> list[float]:
    """Weights of the places of a list, as in DCG."""
    return [1.0 / math.log2(place + 2) for place in range(length)]
