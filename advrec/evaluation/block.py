"""One block of tuples: attack, then verify and measure. The harness believes nothing that an attack says about its images."""

import dataclasses
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from advrec import schema
from advrec.attacks import budget
from advrec.attacks.objective import CosineDistance
from advrec.attacks.registry import Attack
from advrec.attacks.result import Attacked
from advrec.catalog.pixels import Pixels
from advrec.index.exact import ExactIndex, pair_distances
from advrec.model.encoder import to_images

Embed = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """The work of one result file: n tuples, each at every epsilon."""

    tuple_ids: npt.NDArray[np.int32]
    target_ids: npt.NDArray[np.int32]
    attack_ids: npt.NDArray[np.int32]
    pixels: Pixels
    """Prepared images of the attack articles, (n, H, W, 3) uint8."""
    epsilons: tuple[float, ...]
    batch: int
    """Images on the device at once."""
    examples: int
    """Keep the adversarial images of tuples with a smaller id than this."""


class Outcomes(NamedTuple):
    rows: pa.Table
    """schema.OUTCOMES, ordered by tuple, then epsilon"""
    examples: pa.Table
    """schema.EXAMPLES"""


class Verified(NamedTuple):
    """One batch after the harness: the images that count, and what was measured on them."""

    images: Tensor
    embeddings: npt.NDArray[np.float32]
    linf: Tensor
    l2: Tensor
    raw_linf: Tensor
    gradient_steps: Tensor
    forward_passes: Tensor
    seconds: float


def evaluate_block(embed: Embed, index: ExactIndex, attack: Attack, block: Block, device: str = "cpu") -> Outcomes:
    """Attack every tuple of a block at every epsilon and rank the result.

    Args:
        embed: images (N, 3, H, W) to raw embeddings (N, D); of a frozen network.
        index: over the clean embeddings of the whole catalog by the same network.
        attack: called on the cosine distance to each target's embedding.

    Raises:
        ValueError: the attack returned pixels that are not finite.
    """
    tuples = len(block.tuple_ids)
    # Row r is tuple r // E at epsilon r % E; all epsilons share batches, for a budget is a value of the sample.
    places = np.repeat(np.arange(tuples), len(block.epsilons))
    epsilons = np.tile(np.array(block.epsilons, dtype=np.float64), tuples)
    batches = []
    for start in range(0, len(places), block.batch):
        chosen = slice(start, start + block.batch)
        images = to_images(block.pixels[places[chosen]], device)
        targets = torch.from_numpy(index.embeddings[block.target_ids[places[chosen]]]).to(device)
        budgets = torch.from_numpy(epsilons[chosen]).to(device)
        batches.append(verify(embed, attack, CosineDistance(embed, targets), images, budgets))
    return Outcomes(_rows(index, block, places, epsilons, batches), _examples(block, places, epsilons, batches))


def verify(embed: Embed, attack: Attack, objective: CosineDistance, images: Tensor, epsilon: Tensor) -> Verified:
    """Run an attack on a batch; project its images to the budget and the box; measure and embed what is left."""
    start = time.monotonic()
    attacked: Attacked = attack(objective, images, epsilon)
    if images.is_cuda:
        torch.cuda.synchronize()
    seconds = (time.monotonic() - start) / len(images)
    claimed = attacked.images.detach().float()
    if claimed.shape != images.shape or not torch.isfinite(claimed).all():
        raise ValueError(f"{attack} returned images of another shape or with pixels that are not finite")
    final = budget.ball(images, epsilon).project(claimed)
    with torch.inference_mode():
        embeddings = embed(final).float().cpu().numpy()
    return Verified(
        images=final.cpu(),
        embeddings=embeddings,
        linf=budget.linf(images, final),
        l2=budget.l2(images, final),
        raw_linf=budget.linf(images, claimed),
        gradient_steps=attacked.gradient_steps,
        forward_passes=attacked.forward_passes,
        seconds=seconds,
    )


def _rows(
    index: ExactIndex,
    block: Block,
    places: npt.NDArray[np.int64],
    epsilons: npt.NDArray[np.float64],
    batches: list[Verified],
) -> pa.Table:
    targets, attacks = block.target_ids, block.attack_ids
    clean = index.embeddings[attacks]
    clean_distances = pair_distances(index.embeddings[targets], clean)
    clean_ranks = index.ranks(targets, attacks, clean)
    adversarial = np.concatenate([batch.embeddings for batch in batches])

    def joined(field: str) -> npt.NDArray[np.float64]:
        return torch.cat([getattr(batch, field) for batch in batches]).cpu().numpy()

    return schema.table(
        schema.OUTCOMES,
        {
            "tuple_id": block.tuple_ids[places],
            "target_id": targets[places],
            "attack_id": attacks[places],
            "epsilon": epsilons,
            "clean_distance": clean_distances[places].astype(np.float32),
            "adversarial_distance": pair_distances(index.embeddings[targets[places]], adversarial).astype(np.float32),
            "clean_rank": clean_ranks[places],
            "adversarial_rank": index.ranks(targets[places], attacks[places], adversarial),
            "linf": joined("linf").astype(np.float32),
            "l2": joined("l2").astype(np.float32),
            "raw_linf": joined("raw_linf").astype(np.float32),
            "gradient_steps": joined("gradient_steps"),
            "forward_passes": joined("forward_passes"),
            "seconds": np.concatenate([np.full(len(b.images), b.seconds, dtype=np.float32) for b in batches]),
        },
    )


def _examples(
    block: Block, places: npt.NDArray[np.int64], epsilons: npt.NDArray[np.float64], batches: list[Verified]
) -> pa.Table:
    images = torch.cat([batch.images for batch in batches])
    kept = np.flatnonzero(block.tuple_ids[places] < block.examples)
    pixels = images[torch.from_numpy(kept)].permute(0, 2, 3, 1).contiguous().numpy().astype("<f4")
    return schema.table(
        schema.EXAMPLES,
        {
            "tuple_id": block.tuple_ids[places[kept]],
            "target_id": block.target_ids[places[kept]],
            "attack_id": block.attack_ids[places[kept]],
            "epsilon": epsilons[kept],
            "height": [images.shape[2]] * len(kept),
            "width": [images.shape[3]] * len(kept),
            "pixels": [image.tobytes() for image in pixels],
        },
    )
