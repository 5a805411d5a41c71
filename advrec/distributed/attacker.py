"""The actor that holds a model and its index, and turns blocks into rows. It writes nothing."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import torch
from ray.actor import ActorHandle

from advrec.attacks import registry
from advrec.catalog.pixels import Pixels, decode_png
from advrec.config import AttackSpec
from advrec.evaluation import health
from advrec.evaluation.block import Block, Outcomes, Recommender, evaluate_block
from advrec.index.exact import ExactIndex
from advrec.model import checkpoint
from advrec.model.checkpoint import AnyArchitecture, Network
from advrec.model.encoder import embed_all, frozen, to_images
from advrec.model.memory import keep_freed

THREADS = 1  # of each actor, everywhere: rows must not depend on the machine


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A model in the object store: NumPy arrays, so that the processes of a node share one copy."""

    sha256: str
    architecture: AnyArchitecture
    state: ray.ObjectRef
    embeddings: ray.ObjectRef | None = None
    """(N, D) float32, raw; None while the catalog is being embedded."""


def put(sha256: str, network: Network, embeddings: npt.NDArray[np.float32] | None = None) -> ModelRef:
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    return ModelRef(
        sha256=sha256,
        architecture=network.architecture,
        state=ray.put(state),
        embeddings=None if embeddings is None else ray.put(embeddings),
    )


class Attacker:
    """One process with the models of its last units; a model is loaded when it is not among them."""

    def __init__(self) -> None:
        torch.set_num_threads(THREADS)
        keep_freed()
        # TF32 rounds convolutions to 10 bits: distances would be off by 1e-3, and a stop at a margin of 1e-6 would mean nothing.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.deterministic = True  # a sign step turns the last bit of a gradient into another image
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._networks: dict[str, Network] = {}
        self._recommenders: dict[str, Recommender] = {}

    def embed(self, model: ModelRef, pngs: list[bytes]) -> npt.NDArray[np.float32]:
        """Raw embeddings (n, D) of prepared images."""
        return embed_all(self._network(model).embed, np.stack([decode_png(png) for png in pngs]), self._device)

    def attack(self, model: ModelRef, source: ModelRef | None, attack: AttackSpec, block: Block) -> Outcomes:
        """The rows of one block under an attack of the study, made on `source` where that is another model."""
        method = registry.build(attack.attack, restarts=attack.restarts, nested=attack.nested)
        other = None if source is None else self._recommender(source)
        return evaluate_block(self._recommender(model), method, block, other, self._device)

    def health(self, model: ModelRef, pixels: Pixels) -> dict[str, Any]:
        """What health.measure says of a model on prepared images."""
        return health.measure(self._recommender(model), to_images(pixels.copy(), self._device))

    def _recommender(self, model: ModelRef) -> Recommender:
        if model.sha256 not in self._recommenders:
            made = Recommender(self._network(model).embed, ExactIndex(ray.get(model.embeddings)))
            _keep_last(self._recommenders, model.sha256, made)
        return self._recommenders[model.sha256]

    def _network(self, model: ModelRef) -> Network:
        if model.sha256 not in self._networks:
            network = checkpoint.build(model.architecture)
            state: dict[str, Any] = ray.get(model.state)
            network.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
            _keep_last(self._networks, model.sha256, frozen(network).to(self._device))
        return self._networks[model.sha256]


def _keep_last(cache: dict[str, Any], key: str, value: Any) -> None:
    """Keep two: the model that is attacked and the one that its perturbations are made on."""
    cache[key] = value
    while len(cache) > 2:
        del cache[next(iter(cache))]


def start(gpu: bool) -> ActorHandle:
    """A new attacker. It is never restarted by Ray: the engine replaces it and counts the attempt."""
    options = {"num_cpus": 1, "num_gpus": 1 if gpu else 0, "max_restarts": 0, "max_task_retries": 0}
    return ray.remote(Attacker).options(**options).remote()
