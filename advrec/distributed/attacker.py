"""The actor that holds a model and its index, and turns blocks into rows. It writes nothing."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import ray
import torch
from ray.actor import ActorHandle

from advrec.attacks import registry
from advrec.catalog.pixels import Pixels, decode_png
from advrec.distributed.placement import Placement
from advrec.evaluation import health
from advrec.evaluation.block import Block, Outcomes, Recommender, evaluate_block
from advrec.model import checkpoint
from advrec.model.checkpoint import AnyArchitecture, Network
from advrec.model.encoder import EMBED_BATCH, embed_all, frozen, in_few_sizes, to_images
from advrec.model.memory import give_back, keep_freed
from advrec.recommenders.ranks import ExactIndex
from advrec.spec.study import AttackSpec

T = TypeVar("T")
RENEW_S = 300.0
"""On cores: batches that shrink as images are solved leave the heap in ever more pieces, and the
next block's activations take more.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A model in the object store: NumPy arrays, so that the processes of a node share one copy."""

    sha256: str
    architecture: AnyArchitecture
    state: ray.ObjectRef
    embeddings: ray.ObjectRef | None = None
    """(N, D) float32, raw; None while the catalog is being embedded."""


def put(sha256: str, network: Network) -> ModelRef:
    """The model, in the object store."""
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    return ModelRef(sha256=sha256, architecture=network.architecture, state=ray.put(state))


def with_embeddings(model: ModelRef, embeddings: npt.NDArray[np.float32]) -> ModelRef:
    """The model with its embeddings (N, D) of the catalog, in the object store too."""
    return dataclasses.replace(model, embeddings=ray.put(embeddings))


class Attacker:
    """One process with the models of its last units; a model is loaded when it is not among them.

    Args:
        device: cpu or cuda.
        threads: torch's, of this process: the study's, not the machine's, so that rows do not
            depend on it.
    """

    def __init__(self, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        keep_freed()
        # TF32 rounds convolutions to 10 bits: distances would be off by 1e-3, and a stop at a
        # margin of 1e-6 would mean nothing.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        # a sign step turns the last bit of a gradient into another image
        torch.backends.cudnn.deterministic = True
        self._device = device
        self._networks: dict[str, Network] = {}
        self._recommenders: dict[str, Recommender] = {}

    def embed(self, model: ModelRef, pngs: list[bytes]) -> npt.NDArray[np.float32]:
        """Raw embeddings (n, D) of prepared images."""
        pixels = np.stack([decode_png(png) for png in pngs])
        return fitting(
            lambda batch: embed_all(self._network(model).embed, pixels, self._device, batch),
            EMBED_BATCH,
        )

    def attack(
        self, model: ModelRef, source: ModelRef | None, attack: AttackSpec, block: Block
    ) -> Outcomes:
        """The rows of one block under an attack of the study, made on `source` where that is
        another model.
        """
        method = registry.build(attack.attack, restarts=attack.restarts, nested=attack.nested)
        other = None if source is None else self._recommender(source)
        recommender = self._recommender(model)
        outcomes = fitting(
            lambda batch: evaluate_block(
                recommender, method, dataclasses.replace(block, batch=batch), other, self._device
            ),
            block.batch,
        )
        give_back()
        return outcomes

    def health(self, model: ModelRef, pixels: Pixels) -> dict[str, Any]:
        """What health.measure says of a model on prepared images."""
        recommender, images = self._recommender(model), to_images(pixels.copy(), self._device)
        return fitting(lambda batch: health.measure(recommender, images[:batch]), len(images))

    def _recommender(self, model: ModelRef) -> Recommender:
        if model.sha256 not in self._recommenders:
            made = Recommender(
                in_few_sizes(self._network(model).embed), ExactIndex(ray.get(model.embeddings))
            )
            _keep_last(self._recommenders, model.sha256, made)
        return self._recommenders[model.sha256]

    def _network(self, model: ModelRef) -> Network:
        if model.sha256 not in self._networks:
            network = checkpoint.build(model.architecture)
            state: dict[str, Any] = ray.get(model.state)
            network.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
            _keep_last(self._networks, model.sha256, frozen(network).to(self._device))
        return self._networks[model.sha256]


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


def _keep_last(cache: dict[str, Any], key: str, value: Any) -> None:
    """Keep two: the model that is attacked and the one that its perturbations are made on."""
    cache[key] = value
    while len(cache) > 2:
        del cache[next(iter(cache))]


def start(placement: Placement) -> ActorHandle:
    """A new attacker. It is never restarted by Ray: the engine replaces it and counts the attempt."""
    options = {
        "num_cpus": placement.cpus,
        "num_gpus": placement.gpus,
        "max_restarts": 0,
        "max_task_retries": 0,
    }
    return (
        ray.remote(Attacker)
        .options(**options)
        .remote("cuda" if placement.gpus else "cpu", placement.cpus)
    )
