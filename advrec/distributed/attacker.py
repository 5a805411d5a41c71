"""The actor that holds a model and its index, and turns blocks into rows. It writes nothing."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import torch
from ray.actor import ActorHandle

from advrec.attacks import registry
from advrec.catalog.pixels import Pixels
from advrec.evaluation.block import Block, Outcomes, evaluate_block
from advrec.index.exact import ExactIndex
from advrec.model.encoder import frozen, to_images
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.model.memory import keep_freed

THREADS = 1  # of each actor, everywhere: rows must not depend on the machine
EMBED_BATCH = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A model in the object store: NumPy arrays, so that the processes of a node share one copy."""

    sha256: str
    architecture: Architecture
    state: ray.ObjectRef
    embeddings: ray.ObjectRef | None = None
    """(N, D) float32, raw; None while the catalog is being embedded."""


def put(sha256: str, network: FashionNet, embeddings: npt.NDArray[np.float32] | None = None) -> ModelRef:
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    return ModelRef(
        sha256=sha256,
        architecture=network.architecture,
        state=ray.put(state),
        embeddings=None if embeddings is None else ray.put(embeddings),
    )


class Attacker:
    """One process, one model at a time; the next unit's model is loaded when it differs."""

    def __init__(self) -> None:
        torch.set_num_threads(THREADS)
        keep_freed()
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._loaded: str | None = None
        self._indexed: str | None = None

    def embed(self, model: ModelRef, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Raw embeddings (n, D) of prepared images (n, H, W, 3) uint8."""
        self._load(model)
        parts = []
        with torch.inference_mode():
            for start in range(0, len(pixels), EMBED_BATCH):
                images = to_images(pixels[start : start + EMBED_BATCH].copy(), self._device)
                parts.append(self._network.embed(images).float().cpu().numpy())
        return np.concatenate(parts)

    def attack(self, model: ModelRef, attack: str, block: Block) -> Outcomes:
        """The rows of one block under the attack of that name."""
        self._load(model)
        if self._indexed != model.sha256:
            self._index = ExactIndex(ray.get(model.embeddings))
            self._indexed = model.sha256
        return evaluate_block(self._network.embed, self._index, registry.by_name(attack), block, self._device)

    def _load(self, model: ModelRef) -> None:
        if self._loaded == model.sha256:
            return
        network = FashionNet(model.architecture)
        state: dict[str, Any] = ray.get(model.state)
        network.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
        self._network = frozen(network).to(self._device)
        self._loaded = model.sha256


def start(gpu: bool) -> ActorHandle:
    """A new attacker. It is never restarted by Ray: the engine replaces it and counts the attempt."""
    options = {"num_cpus": 1, "num_gpus": 1 if gpu else 0, "max_restarts": 0, "max_task_retries": 0}
    return ray.remote(Attacker).options(**options).remote()
