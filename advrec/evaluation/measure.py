"""Measures: the numbers of a row, from the final image by the attacked recommender. Nothing that
an attack says about its images is believed.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import Tensor

from advrec.attacks import budget
from advrec.attacks.problem import Problem
from advrec.attacks.result import Reached, Smallest
from advrec.delivery.chain import Chain, chain, eight_bits
from advrec.evaluation.attempts import Attempt, Attempts
from advrec.evaluation.block import AnyBlock, Block, Outcomes
from advrec.evaluation.rows import Places, Rows
from advrec.model.encoder import to_images
from advrec.recommenders.bank import Doubles, Floats, Ids
from advrec.recommenders.recommender import Recommender
from advrec.run import schema
from advrec.run.distinct import DISTINCT
from advrec.spec.base import FLOAT


class Measure(Protocol):
    """Measures images that attacks return, and notes what their rows say."""

    block: AnyBlock
    table: Rows

    def __call__(
        self,
        attempts: Attempts,
        rows: Places,
        problem: Problem,
        attempt: Attempt,
        inherited: npt.NDArray[np.bool_] | bool = False,
    ) -> Tensor:
        """Project what was claimed, have it judged, and note the rows (n,); gives the images
        (n, C, H, W) that count.
        """
        delivery, attacked = attempts.delivery, attempt.attacked
        final = problem.ball.project(attacked.images)
        if attempts.eight_bits:
            # levels are not exact in float32
            final = problem.ball.project(eight_bits(final))
        if not ((final >= 0.0) & (final <= 1.0)).all():
            raise ValueError(f"{attempts.attack} left the box [0, 1] after projection")
        passes = attacked.forward_passes.numpy().astype(np.float64)
        shares = passes / passes.sum() if passes.sum() else np.full(len(rows), 1.0 / len(rows))
        norms = {
            "linf": budget.linf(problem.images, final).cpu().numpy(),
            "l2": budget.l2(problem.images, final).cpu().numpy(),
        }
        if delivery == FLOAT:
            columns: dict[str, Any] = {
                **norms,
                "epsilon": problem.epsilon.cpu().numpy(),
                "raw_linf": budget.linf(problem.images, attacked.images).cpu().numpy(),
                "batch": self.block.batch,
                "winner": attacked.winners or self.block.label,
                "inherited": inherited,
                **self.unchanged(rows // len(self.block.epsilons)),
                **self.judged(rows, problem.images, final, FLOAT),
            }
        else:
            # Each pixel is repeated in both directions in what is handed in.
            norms["l2"] *= attempts.round_trips[delivery].enlargement(final.shape[-1])
            columns = {schema.suffixed(name, delivery): norm for name, norm in norms.items()}
        columns |= self._delivered(attempts, problem, rows, final)
        spent = {
            "gradient_steps": attacked.gradient_steps.numpy(),
            "forward_passes": attacked.forward_passes.numpy(),
            "seconds": attempt.seconds * shares,
        }
        self.table.note(rows, columns, spent)
        self.keep(rows, final, delivery)
        return final

    def _delivered(
        self, attempts: Attempts, problem: Problem, rows: Places, final: Tensor
    ) -> dict[str, Any]:
        """Columns of images (n, C, H, W) after each delivery that they meet."""
        if self.block.levels and not attempts.eight_bits and attempts.round_trips:
            allowed = budget.in_levels(problem.epsilon)
            final = budget.ball(problem.images, allowed).project(final)
        columns: dict[str, Any] = {}
        for each, trip in attempts.round_trips.items():
            columns |= self.judged(rows, problem.images, trip(final), each)
        return columns

    def unchanged(self, places: Places) -> Mapping[str, Any]:
        """Columns (n,) of images at `places` of the block that no attack changes."""

    def judged(
        self, rows: Places, clean: Tensor, images: Tensor, delivery: str
    ) -> Mapping[str, Any]:
        """Columns (n,) of rows, for images (n, C, H, W) as they arrive by a delivery."""

    def keep(self, rows: Places, images: Tensor, delivery: str) -> None:
        """Keep images (n, C, H, W) of rows (n,) that are asked for."""
        raise NotImplementedError

    def own(self, places: Places, reached: Reached) -> None:
        """Note the columns of the attack's own for images at `places` (n,)."""
        count = len(self.block.epsilons)
        if reached.projected is not None:
            for number, projected in enumerate(reached.projected.numpy()):
                self.table.note(places * count + number, {"projected": projected}, {})
        if reached.smallest is not None:
            columns = self.smallest(places, reached.smallest)
            for number in range(count):
                self.table.note(places * count + number, columns, {})

    def smallest(self, places: Places, smallest: Smallest) -> dict[str, Any]:
        """Smallest budgets of images at `places` (n,), measured on them."""

    def outcomes(self) -> Outcomes:
        """The rows, when all are noted."""


class Ranked(Measure):
    """Distance and rank of each image in its target's list.

    Args:
        own: columns of the attack's own.
    """

    block: Block

    def __init__(self, recommender: Recommender, block: Block, own: pa.Schema) -> None:
        self._recommender, self.block = recommender, block
        distinct = () if block.groups is None else DISTINCT
        columns = (
            *schema.outcomes(block.deliveries, block.through, baselines=block.chains),
            *distinct,
            *own,
        )
        self.table = Rows(block, pa.schema(columns))
        index, attack_ids = recommender.index, block.attack_ids
        clean = recommender.bank.items[attack_ids]
        self._clean_distances = index.pair_costs(block.target_ids, clean)
        self._clean_ranks = index.ranks(block.target_ids, attack_ids, clean)
        if block.groups is not None:
            self._clean_distinct = self._distinct(slice(None), clean)
        self._baselines = {
            schema.suffixed("clean_rank", each): self._clean_ranks_after(chain(each))
            for each in (block.deliveries if block.chains else ())
        }

    def unchanged(self, places: Places) -> dict[str, Any]:
        """The tuples (n,), and the places of their unchanged images."""
        return {
            "tuple_id": self.block.tuple_ids[places],
            "target_id": self.block.target_ids[places],
            "attack_id": self.block.attack_ids[places],
            "clean_distance": self._clean_distances[places],
            "clean_rank": self._clean_ranks[places],
            **{name: ranks[places] for name, ranks in self._baselines.items()},
        }

    def judged(self, rows: Places, clean: Tensor, images: Tensor, delivery: str) -> dict[str, Any]:
        """Distances and ranks (n,) of images (n, C, H, W)."""
        places = rows // len(self.block.epsilons)
        embeddings = self._recommender.embeddings(images)
        ranked = self._rank(places, embeddings)
        if delivery != FLOAT:
            return dict(zip(schema.delivered(delivery), ranked, strict=True))
        columns = {"adversarial_distance": ranked[0], "adversarial_rank": ranked[1]}
        if self.block.groups is not None:
            distinct = (self._clean_distinct[places], self._distinct(places, embeddings))
            columns |= zip(DISTINCT.names, distinct, strict=True)
        return columns

    def keep(self, rows: Places, images: Tensor, delivery: str) -> None:
        """Keep images (n, C, H, W) as examples."""
        tuple_ids = self.block.tuple_ids[rows // len(self.block.epsilons)]
        for place in np.flatnonzero(tuple_ids < self.block.examples):
            self.table.keep(int(rows[place]), delivery, images[place])

    def smallest(self, places: Places, smallest: Smallest) -> dict[str, Doubles]:
        """Smallest budgets of tuples at `places` (n,)."""
        block = self.block
        assert block.minimal_rank is not None, "the attack is minimal-K"
        clean = to_images(block.pixels[places], smallest.images.device)
        ranks = self._rank(places, self._recommender.embeddings(smallest.images))[1]
        linf = budget.linf(clean, smallest.images).cpu().numpy()
        high = np.where(ranks <= block.minimal_rank, linf, np.inf)
        return {"epsilon_low": smallest.low.cpu().numpy(), "epsilon_high": high}

    def outcomes(self) -> Outcomes:
        """Rows of schema.outcomes, and the examples."""
        return Outcomes(self.table.whole(), self.table.examples())

    def _clean_ranks_after(self, delivery: Chain) -> Ids:
        """Ranks (n,) of the unchanged images after a delivery."""
        recommender, batch = self._recommender, self.block.batch
        ranks = []
        for start in range(0, len(self.block.attack_ids), batch):
            places = np.arange(start, min(start + batch, len(self.block.attack_ids)))
            clean = to_images(self.block.pixels[places], recommender.device)
            ranks.append(self._rank(places, recommender.embeddings(delivery(clean)))[1])
        return np.concatenate(ranks)

    def _rank(self, places: Places, embeddings: Floats) -> tuple[Doubles, Ids]:
        """Distance (n,) to the target and rank (n,) of embeddings (n, D)."""
        index = self._recommender.index
        targets, attacks = self.block.target_ids[places], self.block.attack_ids[places]
        return (
            index.pair_costs(targets, embeddings),
            index.ranks(targets, attacks, embeddings),
        )

    def _distinct(self, places: Places | slice, embeddings: Floats) -> Ids:
        """Ranks (n,) among distinct images of embeddings (n, D)."""
        assert self.block.groups is not None, "the caller asks"
        targets, attacks = self.block.target_ids[places], self.block.attack_ids[places]
        index = self._recommender.index
        return index.distinct_ranks(targets, attacks, embeddings, self.block.groups)
