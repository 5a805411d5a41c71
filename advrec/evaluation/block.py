"""One block of tuples: attack, then verify and measure. The harness believes nothing that an attack
says about its images.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from advrec.attacks import budget
from advrec.attacks.ensemble import START
from advrec.attacks.objective import CosineDistance, score
from advrec.attacks.problem import Goal, Problem
from advrec.attacks.registry import Attack
from advrec.attacks.result import Attacked
from advrec.catalog.pixels import Pixels
from advrec.evaluation.delivery import round_trip
from advrec.model.encoder import to_images
from advrec.recommenders.ranks import ExactIndex, pair_distances
from advrec.run import schema
from advrec.spec.study import Stop

# a solved image is nearer than the nearest article by this much, so that rounding does not undo it
MARGIN = 1e-6


@dataclasses.dataclass(frozen=True)
class Recommender:
    """What is attacked, or what an attack is made on."""

    embed: Callable[[Tensor], Tensor]
    """Images (N, 3, H, W) to raw embeddings (N, D); of a frozen network."""
    index: ExactIndex
    """Over the clean embeddings of the whole catalog by the same network."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """The work of one result file: n tuples, each at every epsilon."""

    tuple_ids: npt.NDArray[np.int32]
    target_ids: npt.NDArray[np.int32]
    attack_ids: npt.NDArray[np.int32]
    pixels: Pixels
    """Prepared images of the attack articles, (n, H, W, 3) uint8."""
    epsilons: tuple[float, ...]
    """Rising."""
    batch: int
    """Images on the device at once."""
    examples: int
    """Keep the adversarial images of tuples with a smaller id than this."""
    label: str
    """The attack's name, for the column winner."""
    seed: int
    stop: Stop = "never"
    nested: bool = False
    """Go from budget to budget, each from the result of the one before."""
    deliveries: tuple[str, ...] = ()
    """Other than float."""


class Outcomes(NamedTuple):
    rows: pa.Table
    """schema.outcomes, ordered by tuple, then epsilon"""
    examples: pa.Table
    """schema.EXAMPLES, in the same order"""


def evaluate_block(
    recommender: Recommender,
    attack: Attack,
    block: Block,
    source: Recommender | None = None,
    device: str = "cpu",
) -> Outcomes:
    """Attack every tuple of a block at every epsilon and rank the result.

    Args:
        attack: called on the cosine distance to each target's embedding.
        source: what the attack is made on, where that is another than the one it is measured on
            (transfer).

    Raises:
        ValueError: the attack returned pixels that are not finite.
    """
    harness = _Harness(recommender, source or recommender, attack, block, device)
    if block.nested:
        harness.nested()
    else:
        harness.alone()
    return harness.outcomes()


class _Harness:
    def __init__(
        self,
        recommender: Recommender,
        source: Recommender,
        attack: Attack,
        block: Block,
        device: str,
    ) -> None:
        self._recommender, self._source = recommender, source
        self._attack, self._block, self._device = attack, block, device
        index, targets, attacks = recommender.index, block.target_ids, block.attack_ids
        clean = index.embeddings[attacks]
        self._clean_distances = pair_distances(index.embeddings[targets], clean)
        self._clean_ranks = index.ranks(targets, attacks, clean)
        self._below = torch.from_numpy(source.index.nearest_distances(targets, attacks) - MARGIN)
        self._round_trips = {delivery: round_trip(delivery) for delivery in block.deliveries}
        self._schema = schema.outcomes(block.deliveries)
        # Row r is tuple r // E at epsilon r % E. The columns are made before the work: small
        # results that stay, allocated between large activations that go, would leave the heap in
        # pieces.
        size = len(block.tuple_ids) * len(block.epsilons)
        self._columns = {
            field.name: np.empty(size, dtype=field.type.to_pandas_dtype()) for field in self._schema
        }
        self._examples: dict[int, bytes] = {}

    def outcomes(self) -> Outcomes:
        rows = schema.table(self._schema, self._columns)
        kept = sorted(self._examples)
        ids = {
            name: self._columns[name][kept]
            for name in ("tuple_id", "target_id", "attack_id", "epsilon")
        }
        height, width = self._block.pixels.shape[1:3]
        shape = {"height": [height] * len(kept), "width": [width] * len(kept)}
        return Outcomes(
            rows,
            schema.table(
                schema.EXAMPLES, ids | shape | {"pixels": [self._examples[row] for row in kept]}
            ),
        )

    def alone(self) -> None:
        """Every (tuple, epsilon) by itself; they share batches, for a budget is a value of the
        sample.
        """
        epsilons = np.array(self._block.epsilons, dtype=np.float64)
        size = len(self._block.tuple_ids) * len(epsilons)
        for start in range(0, size, self._block.batch):
            rows = np.arange(start, min(start + self._block.batch, size))
            problem = self._problem(rows // len(epsilons), epsilons[rows % len(epsilons)])
            attacked, seconds = self._run(problem)
            self._measure(rows, problem, attacked, seconds)

    def nested(self) -> None:
        """Batch of tuples by batch, from budget to budget; with a stop, what a smaller budget has
        solved is not attacked again.
        """
        for start in range(0, len(self._block.tuple_ids), self._block.batch):
            places = np.arange(start, min(start + self._block.batch, len(self._block.tuple_ids)))
            carried, winners = None, [self._block.label] * len(places)
            solved = torch.zeros(len(places), dtype=torch.bool)
            for number, epsilon in enumerate(self._block.epsilons):
                problem = self._problem(places, np.full(len(places), epsilon), carried)
                merged, seconds = self._go_on(problem, ~solved, winners)
                rows = places * len(self._block.epsilons) + number
                carried = self._measure(rows, problem, merged, seconds, inherited=solved.numpy())
                winners = list(merged.winners)
                if self._block.stop != "never":
                    solved = problem.solved(carried, score(problem.objective, carried))[0].cpu()

    def _go_on(
        self, problem: Problem, unsolved: Tensor, winners: list[str]
    ) -> tuple[Attacked, float]:
        """Attack the unsolved images of a batch; the others stay as the smaller budget left them,
        and cost nothing.
        """
        images = problem.images if problem.start is None else problem.start
        steps, passes = torch.zeros(2, len(images), dtype=torch.int32)
        rows = unsolved.nonzero()[:, 0]
        if not len(rows):
            return Attacked(images, steps, passes, tuple(winners)), 0.0
        there = rows.to(images.device)
        attacked, seconds = self._run(problem.select(there))
        steps[rows], passes[rows] = attacked.gradient_steps, attacked.forward_passes
        named = list(winners)
        for row, winner in zip(rows.tolist(), attacked.winners, strict=True):
            named[row] = named[row] if winner == START else winner
        return Attacked(
            images.index_copy(0, there, attacked.images), steps, passes, tuple(named)
        ), seconds

    def _problem(
        self,
        places: npt.NDArray[np.int64],
        epsilons: npt.NDArray[np.float64],
        start: Tensor | None = None,
    ) -> Problem:
        block, source = self._block, self._source
        targets = torch.from_numpy(source.index.embeddings[block.target_ids[places]]).to(
            self._device
        )
        below = self._below[torch.from_numpy(places)].to(self._device)
        return Problem(
            objective=CosineDistance(source.embed, targets),
            images=to_images(block.pixels[places], self._device),
            epsilon=torch.from_numpy(epsilons).to(self._device),
            start=start,
            seeds=torch.from_numpy(block.seed * 2**31 + block.tuple_ids[places].astype(np.int64)),
            goal=Goal(below=below, stop=block.stop, round_trips=tuple(self._round_trips.values())),
        )

    def _run(self, problem: Problem) -> tuple[Attacked, float]:
        """What the attack claims, and its wall time in seconds."""
        start = time.monotonic()
        attacked = self._attack(problem)
        if problem.images.is_cuda:
            torch.cuda.synchronize()
        seconds = time.monotonic() - start
        claimed = attacked.images.detach().float()
        if claimed.shape != problem.images.shape or not torch.isfinite(claimed).all():
            raise ValueError(
                f"{self._attack} returned images of another shape or with pixels that are not finite"
            )
        return attacked._replace(images=claimed), seconds

    def _measure(
        self,
        rows: npt.NDArray[np.int64],
        problem: Problem,
        attacked: Attacked,
        seconds: float,
        inherited: npt.NDArray[np.bool_] | bool = False,
    ) -> Tensor:
        """Project what was claimed, embed it again, rank it; note the rows and give back the images
        that count.
        """
        block, places = self._block, rows // len(self._block.epsilons)
        final = problem.ball.project(attacked.images)
        if not ((final >= 0.0) & (final <= 1.0)).all():
            raise ValueError(f"{self._attack} left the box [0, 1] after projection")
        passes = attacked.forward_passes.numpy().astype(np.float64)
        shares = passes / passes.sum() if passes.sum() else np.full(len(rows), 1.0 / len(rows))
        columns: dict[str, Any] = {
            "tuple_id": block.tuple_ids[places],
            "target_id": block.target_ids[places],
            "attack_id": block.attack_ids[places],
            "epsilon": problem.epsilon.cpu().numpy(),
            "clean_distance": self._clean_distances[places],
            "clean_rank": self._clean_ranks[places],
            "linf": budget.linf(problem.images, final).cpu().numpy(),
            "l2": budget.l2(problem.images, final).cpu().numpy(),
            "raw_linf": budget.linf(problem.images, attacked.images).cpu().numpy(),
            "gradient_steps": attacked.gradient_steps.numpy(),
            "forward_passes": attacked.forward_passes.numpy(),
            "seconds": seconds * shares,
            "batch": block.batch,
            "winner": attacked.winners or block.label,
            "inherited": inherited,
        }
        columns["adversarial_distance"], columns["adversarial_rank"] = self._rank(places, final)
        for delivery, trip in self._round_trips.items():
            distance, rank = schema.delivered(delivery)
            columns[distance], columns[rank] = self._rank(places, trip(final))
        for name, values in columns.items():
            self._columns[name][rows] = values
        for place in np.flatnonzero(block.tuple_ids[places] < block.examples):
            pixels = final[place].permute(1, 2, 0).contiguous().cpu().numpy().astype("<f4")
            self._examples[int(rows[place])] = pixels.tobytes()
        return final

    def _rank(
        self, places: npt.NDArray[np.int64], images: Tensor
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
        """Distance to the target and rank of each image."""
        embed, index = self._recommender.embed, self._recommender.index
        targets, attacks = self._block.target_ids[places], self._block.attack_ids[places]
        with torch.inference_mode():
            embeddings = embed(images).float().cpu().numpy()
        return pair_distances(index.embeddings[targets], embeddings), index.ranks(
            targets, attacks, embeddings
        )
