"""The worker that holds models and their indexes, and turns blocks into rows. It writes nothing.

It works in an actor of Ray or in this process, and knows neither.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from advrec.catalog.pixels import Pixels, decode_png
from advrec.distributed.pool import Pool, Reference
from advrec.evaluation import health
from advrec.evaluation.block import AnyBlock, CategoryBlock, Outcomes, method_of
from advrec.evaluation.categories import evaluate_category
from advrec.evaluation.harness import evaluate_block
from advrec.model import checkpoint
from advrec.model.arithmetic import exact_arithmetic
from advrec.model.checkpoint import AnyArchitecture, AnyNetwork
from advrec.model.encoder import (
    EMBED_BATCH,
    embed_all,
    frozen,
    in_few_sizes,
    plain_step,
    to_images,
)
from advrec.model.memory import give_back, keep_freed
from advrec.recommenders.bank import Seen
from advrec.recommenders.hybrid import Factors
from advrec.recommenders.recommender import Recommender
from advrec.spec.attacks import AttackSpec

T = TypeVar("T")
RENEW_S = 300.0
"""On cores: batches that shrink as images are solved leave the heap in ever more pieces, and the
next block's activations take more.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A model that workers can ask for: NumPy arrays, which the processes of a node share."""

    sha256: str
    architecture: AnyArchitecture
    state: Reference
    """The state dict, by name."""
    embeddings: Reference | None = None
    """(N, D) float32, raw; None while the catalog is being embedded."""
    network: str = ""
    """SHA-256 of the network's weights, where `sha256` is of a hybrid's factors."""
    factors: Reference | None = None
    """Arrays of a hybrid's Factors, by name, and of what its users have seen: starts, articles."""


def put(pool: Pool, sha256: str, network: AnyNetwork) -> ModelRef:
    """Make a model available to the workers of a pool."""
    state = {name: _array(value) for name, value in network.state_dict().items()}
    return ModelRef(sha256=sha256, architecture=network.architecture, state=pool.put(state))


def _array(value: torch.Tensor) -> npt.NDArray[Any]:
    """A weight of any shape, as (D, C, h, w), for NumPy, which lacks the shorter floats: float32
    holds them exactly.
    """
    known = (torch.float16, torch.float32, torch.float64)
    return (
        value.float() if value.is_floating_point() and value.dtype not in known else value
    ).numpy()


class Attacker:
    """A worker with the models of its last units; it loads a model that is not among them.

    Args:
        device: cpu or cuda.
        threads: torch's and NumPy's while a unit is at work: the study's, not the machine's, so
            that rows do not depend on it.
    """

    def __init__(self, device: str, threads: int) -> None:
        keep_freed()
        self._device = device
        self._threads = threads
        self._networks: dict[str, AnyNetwork] = {}
        self._recommenders: dict[str, Recommender] = {}
        self._room = 2
        """Models that are kept: the one that is attacked, and those that the attack is made on."""

    def embed(self, model: ModelRef, pngs: list[bytes]) -> npt.NDArray[np.float32]:
        """Raw embeddings (n, D) of n prepared images."""
        pixels = np.stack([decode_png(png) for png in pngs])
        with exact_arithmetic(self._threads):
            return fitting(
                lambda batch: embed_all(self._network(model).embed, pixels, self._device, batch),
                EMBED_BATCH,
            )

    def attack(
        self, model: ModelRef, sources: Sequence[ModelRef], attack: AttackSpec, block: AnyBlock
    ) -> Outcomes:
        """The rows of one block under an attack of the study.

        Args:
            sources: the models that the attack is made on, where they are others.
        """
        method = method_of(attack)
        with exact_arithmetic(self._threads):
            self._room = max(self._room, 1 + len(sources))
            others = [self._recommender(source, fused=block.fused) for source in sources]
            recommender = self._recommender(model, fused=block.fused)

            def rows(batch: int) -> Outcomes:
                smaller = dataclasses.replace(block, batch=batch)
                if isinstance(smaller, CategoryBlock):
                    return evaluate_category(recommender, method, smaller)
                return evaluate_block(recommender, method, smaller, *others)

            outcomes = fitting(rows, block.batch)
        give_back()
        return outcomes

    def health(self, model: ModelRef, pixels: Pixels) -> dict[str, Any]:
        """Measure a model on prepared images (n, H, W, 3); see health.measure.

        Besides, plain_step is the reason against the fused form of its step.
        """
        with exact_arithmetic(self._threads):
            recommender = self._recommender(model)
            images = to_images(pixels.copy(), self._device)
            measured = fitting(
                lambda batch: health.measure(recommender, images[:batch]), len(images)
            )
        return measured | {"plain_step": plain_step(self._network(model))}

    def _recommender(self, model: ModelRef, *, fused: bool = True) -> Recommender:
        if model.sha256 not in self._recommenders:
            assert model.embeddings is not None, "the catalog is embedded first"
            recommender = self._made(model, model.embeddings())
            self._keep(self._recommenders, model.sha256, recommender)
        recommender = self._recommenders[model.sha256]
        if fused:
            return recommender
        plain = in_few_sizes(self._network(model).plain)
        return dataclasses.replace(recommender, embed=plain)

    def _made(self, model: ModelRef, embeddings: npt.NDArray[np.float32]) -> Recommender:
        network = self._network(model)
        embed = network.embed
        if model.factors is None:
            made = Recommender.similar_articles(embed, embeddings, device=self._device)
            return made.behind_door_of(network)
        arrays: dict[str, Any] = dict(model.factors())
        seen = Seen(arrays.pop("starts"), arrays.pop("articles"))
        made = Recommender.hybrid(embed, embeddings, Factors(**arrays), seen, device=self._device)
        head = getattr(network, "category_head", None)
        return dataclasses.replace(made, category_head=head).behind_door_of(network)

    def _network(self, model: ModelRef) -> AnyNetwork:
        key = model.network or model.sha256
        if key not in self._networks:
            network = checkpoint.build(model.architecture)
            state: dict[str, Any] = model.state()
            network.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
            self._keep(self._networks, key, frozen(network).to(self._device))
        return self._networks[key]

    def _keep(self, cache: dict[str, Any], key: str, value: Any) -> None:
        """Keep the last ones, as many as one attack needs."""
        cache[key] = value
        while len(cache) > self._room:
            del cache[next(iter(cache))]


def fitting(work: Callable[[int], T], batch: int) -> T:
    """`work(batch)`, with half the batch as often as the device's memory does not hold it; an image
    alone has to fit.
    """
    while True:
        try:
            return work(batch)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        # Not in the handler: there the error keeps the frames, and these the memory, that did not
        # fit.
        batch //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
