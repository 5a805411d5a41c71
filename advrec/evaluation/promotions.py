"""Promotions: one article before a whole audience, attacked and measured."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from advrec.attacks import budget
from advrec.attacks.result import Smallest
from advrec.evaluation.attempts import Aim, Bounds
from advrec.evaluation.block import Outcomes, PromotionBlock
from advrec.evaluation.measure import Measure
from advrec.evaluation.rows import Places, Rows
from advrec.model.encoder import to_images
from advrec.recommenders import audience, losses
from advrec.recommenders.audience import Audience
from advrec.recommenders.bank import Doubles, Floats, Ids
from advrec.recommenders.recommender import Recommender
from advrec.run import promotions, schema
from advrec.spec.base import FLOAT

SAMPLE = 4096
"""Queries that gradients are taken of; verdicts, and a share that is asked for, are of all."""
WARMTH = 0.5
"""T of the loss hit, as a share of the spread of the clean margins."""


class Wishes(Aim):
    """Each image is to stand high before the block's audience, as the source sees it."""

    def __init__(self, source: Recommender, block: PromotionBlock) -> None:
        self.device, self._source, self._block = source.device, source, block
        bank, article_ids = source.bank, block.attack_ids
        guides: Places | slice = _sample(len(block.audience.query_ids), block.seed)
        asked = block.audience
        if block.share is None:
            asked, guides = asked.some(guides), slice(None)
        clean = bank.items[article_ids][:, None]
        costs = audience.costs_of(bank, asked.query_ids, clean)[:, 0]
        limits = audience.thresholds(source.index, asked.query_ids, block.aim).against(costs)
        limits = np.minimum(limits, losses.LARGE)
        weights = asked.members(bank, article_ids)
        queries = bank.vectors(asked.query_ids).astype(np.float64)
        if bank.unit:
            queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        shares = _shares(weights[:, guides], asked.weights[guides])
        self._temperature = _tensor(WARMTH * _spread((limits - costs)[:, guides], shares))
        self._guides = self._asked(queries[guides], limits[:, guides], shares)
        self._everyone = None
        if len(self._guides.queries) < len(queries):
            self._everyone = self._asked(queries, limits, _shares(weights, asked.weights))
        factors = source.factors
        hook = source.raw[_hook(source, block.audience)]
        self._hook = torch.from_numpy(np.array(hook)).to(self.device)
        self._candidates = None if factors is None else factors.differentiable(self.device)
        below = -torch.inf if block.share is None else -block.share
        size = (len(article_ids),)
        self.bounds = Bounds(torch.full(size, below), torch.full(size, torch.inf))

    def _asked(self, queries: Doubles, limits: Floats, weights: Doubles) -> losses.Asked:
        """Queries (S, D') on the device; limits and weights (n, S) beside the images."""
        return losses.Asked(_tensor(queries).to(self.device), _tensor(limits), _tensor(weights))

    def objective(self, places: Places) -> losses.Promotion:
        """The loss of the images at `places` (n,)."""
        block, rows = self._block, torch.from_numpy(places)
        # who pushes an article down must not stir the queries that are far away
        by_reach = block.loss == losses.HIT and block.goal == "promote"
        return losses.Promotion(
            embed=self._source.embed,
            candidates=self._candidates,
            asked=self._guides.select(rows).to(self.device),
            everyone=self._everyone and self._everyone.select(rows).to(self.device),
            hook=self._hook,
            article_ids=torch.from_numpy(block.attack_ids[places].astype(np.int64)).to(self.device),
            temperature=self._temperature[rows].to(self.device),
            judged=block.loss,
            descended=losses.REACH if by_reach else block.loss,
            share=block.share,
            sign=-1.0 if block.goal == "demote" else 1.0,
        )


def _hook(source: Recommender, everyone: Audience) -> int:
    """The article that an adversary knows who knows no query: the best-seller, the heaviest of the
    targets, or the article that most users have bought.
    """
    if source.bank.seen is None:
        return int(everyone.query_ids[everyone.weights.argmax()])
    return int(np.bincount(source.bank.seen.articles, minlength=len(source)).argmax())


def _sample(size: int, seed: int) -> Places | slice:
    """Places, of so many queries, of those that gradients are taken of: all, or a sample, the same
    for every article.
    """
    if size <= SAMPLE:
        return slice(None)
    return np.sort(np.random.default_rng((seed, SAMPLE)).choice(size, SAMPLE, replace=False))


def _shares(members: Doubles, everyone: Doubles) -> Doubles:
    """Weights (n, S) of members as shares; those of everyone (S,) where there is no member, as a
    sample may have missed them all.
    """
    weights = np.where(members.any(axis=1, keepdims=True), members, everyone)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _spread(margins: Doubles, weights: Doubles) -> Doubles:
    """Standard deviation (n,) of margins (n, S) by weights (n, S) whose rows sum to 1."""
    known = np.where(np.abs(margins) < losses.LARGE / 2, weights, 0.0)
    known /= np.maximum(known.sum(axis=1, keepdims=True), 1e-12)
    means = (known * margins).sum(axis=1, keepdims=True)
    return np.asarray(np.maximum(np.sqrt((known * (margins - means) ** 2).sum(axis=1)), 1e-6))


def _tensor(values: Doubles | Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


class Promoted(Measure):
    """Ranks of each image before the audience, and what they are worth.

    All images of a block are ranked together at its end: every query's costs are computed once.

    Args:
        own: columns of the attack's own.
    """

    block: PromotionBlock

    def __init__(self, recommender: Recommender, block: PromotionBlock, own: pa.Schema) -> None:
        self._recommender, self.block = recommender, block
        columns = promotions.promotions(block.ranks, block.deliveries, block.through)
        self.table = Rows(block, pa.schema([*columns, *own]))
        self._forms = (FLOAT, *block.deliveries)
        clean = recommender.bank.items[block.attack_ids]
        forms = 1 + len(block.epsilons) * len(self._forms) + ("epsilon_high" in own.names)
        self._items = np.repeat(clean[:, None], forms, axis=1)
        """(n, F, D'): the unchanged article, then by epsilon and delivery, last the image of its
        smallest budget.
        """

    def unchanged(self, places: Places) -> dict[str, Any]:
        """The articles (n,) and their audience."""
        ids = self.block.attack_ids[places]
        return {"article_id": ids, "audience": self.block.audience.name}

    def judged(self, rows: Places, clean: Tensor, images: Tensor, delivery: str) -> dict[str, Any]:
        """Nothing yet: images (n, C, H, W) are embedded, and ranked with all others of the block.

        An image that is not changed has the article's own embedding, and so its ranks, bit for bit.
        """
        places, number = np.divmod(rows, len(self.block.epsilons))
        items = self._recommender.items(images, self.block.attack_ids[places])
        same = (images == clean).flatten(1).all(1).cpu().numpy()
        items[same] = self._items[places[same], 0]
        column = 1 + number * len(self._forms) + self._forms.index(delivery)
        self._items[places, column] = items
        return {}

    def keep(self, rows: Places, images: Tensor, delivery: str) -> None:
        """Keep none of the images (n, C, H, W)."""

    def smallest(self, places: Places, smallest: Smallest) -> dict[str, Any]:
        """Smallest budgets of articles at `places` (n,); the end says whether they are any."""
        clean = to_images(self.block.pixels[places], smallest.images.device)
        self._items[places, -1] = self._recommender.items(
            smallest.images, self.block.attack_ids[places]
        )
        high = budget.linf(clean, smallest.images).cpu().numpy()
        return {"epsilon_low": smallest.low.cpu().numpy(), "epsilon_high": high}

    def outcomes(self) -> Outcomes:
        """Rows of promotions.promotions, and the ranks by query that are kept."""
        block, bank = self.block, self._recommender.bank
        query_ids = block.audience.query_ids
        ranks = audience.ranks_for_all(
            self._recommender.index, query_ids, block.attack_ids, self._items
        )
        costs = audience.costs_of(bank, query_ids, self._items)
        members = block.audience.members(bank, block.attack_ids)
        nobody = np.asarray(~members.any(axis=1))
        members[nobody] = block.audience.weights  # nobody is left to be reached: size 0 says it
        self._note_worth(ranks, costs, members, nobody)
        self._judge_smallest(ranks[:, -1], members)
        return Outcomes(
            self.table.whole(), schema.EXAMPLES.empty_table(), self._ranks_by_query(ranks)
        )

    def _note_worth(
        self,
        ranks: Ids,
        costs: Doubles,
        members: Doubles,
        nobody: npt.NDArray[np.bool_],
    ) -> None:
        """Note what ranks (n, F, Q) are worth, by weights (n, Q)."""
        block, count = self.block, len(self.block.epsilons)
        places = np.arange(len(block.attack_ids))
        before = _worth(ranks[:, 0], members, block.ranks, "before")
        before["median_rank_before"] = audience.median_rank(ranks[:, 0], members)
        before["audience_size"] = np.where(nobody, 0, (members > 0.0).sum(axis=1))
        for number in range(count):
            for place, delivery in enumerate(self._forms):
                form = 1 + number * len(self._forms) + place
                here = ranks[:, form]
                after = _worth(here, members, block.ranks, "after")
                after["median_rank_after"] = audience.median_rank(here, members)
                after["improved"] = audience.mean(here < ranks[:, 0], members)
                after["score_shift"] = audience.mean(costs[:, 0] - costs[:, form], members)
                if delivery == FLOAT:
                    after |= before
                else:
                    after = {schema.suffixed(name, delivery): v for name, v in after.items()}
                self.table.note(places * count + number, after, {})

    def _judge_smallest(self, ranks: Ids, members: Doubles) -> None:
        """Take back smallest budgets whose images, with ranks (n, Q), reach no such share."""
        block = self.block
        if block.share is None or "epsilon_high" not in self.table.names:
            return
        reached = audience.hit_rate(ranks, members, block.aim)
        rows = np.flatnonzero(reached < block.share)[:, None] * len(block.epsilons)
        rows = (rows + np.arange(len(block.epsilons))).ravel()
        self.table.note(rows, {"epsilon_high": np.inf}, {})

    def _ranks_by_query(self, ranks: Ids) -> pa.Table | None:
        block = self.block
        kept = np.flatnonzero(block.keeps_ranks)
        if not len(kept):
            return None
        query_ids, forms = block.audience.query_ids, len(self._forms)
        size = len(query_ids)
        columns: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in promotions.RANKS.names}
        for place in kept:
            for number, epsilon in enumerate(block.epsilons):
                columns["article_id"].append(np.repeat(block.attack_ids[place], size))
                columns["epsilon"].append(np.repeat(epsilon, size))
                columns["query_id"].append(query_ids)
                columns["rank_before"].append(ranks[place, 0])
                columns["rank_after"].append(ranks[place, 1 + number * forms])
        whole = {name: np.concatenate(parts) for name, parts in columns.items()}
        return schema.table(promotions.RANKS, whole)


def _worth(ranks: Ids, weights: Doubles, wanted: tuple[int, ...], when: str) -> dict[str, Any]:
    columns = {}
    for rank in wanted:
        columns[f"hr_{when}_{rank}"] = audience.hit_rate(ranks, weights, rank)
        columns[f"ndcg_{when}_{rank}"] = audience.gain(ranks, weights, rank)
    return columns
