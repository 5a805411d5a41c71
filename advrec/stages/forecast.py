"""Forecast of the time and memory of an evaluation, from a gradient step that is timed here."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch

from advrec.attacks import names
from advrec.attacks.objective import evaluate
from advrec.attacks.own import rehearse
from advrec.catalog.pixels import Pixels
from advrec.distributed import memory
from advrec.distributed.placement import Placement, place, within_memory
from advrec.model import adoption, checkpoint
from advrec.model.arithmetic import exact_arithmetic
from advrec.model.checkpoint import AnyNetwork
from advrec.model.encoder import embed_all, frozen, to_images
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.model.guarded import door_of
from advrec.model.joined import JoinedArchitecture, JoinedNetwork
from advrec.model.memory import keep_freed
from advrec.recommenders.recommender import Recommender
from advrec.run.cells import CATEGORY_ATTACKS, CHECKS, Cell
from advrec.run.directory import Run
from advrec.run.progress import duration
from advrec.spec.base import FLOAT
from advrec.spec.label_free import LabelFree
from advrec.spec.models import AnyHybrid, AnyTraining, JoinedModel, OwnModel
from advrec.spec.study import Study
from advrec.stages.plan import Plan

LONG_S = 600.0  # a block that takes longer is much to lose with a process
STEPS = 3  # gradient steps that are timed


class Step(NamedTuple):
    """One gradient step of a batch."""

    batch: int
    seconds: float
    activations: int
    """Bytes that are kept for the backward pass."""
    weights: int
    """Bytes of the model."""
    dimension: int


class CellForecast(NamedTuple):
    cell: Cell
    blocks: int
    """Blocks that are missing."""
    images: int
    """Images of a whole block."""
    seconds: float
    """Seconds of a whole block, if nothing stops the attack."""


class ModelForecast(NamedTuple):
    model: str
    step: Step
    cells: list[CellForecast]

    @property
    def seconds(self) -> float:
        """Seconds of one process for all that is missing."""
        return sum(cell.blocks * cell.seconds for cell in self.cells)


class Forecast(NamedTuple):
    """Blocks, processes, time and memory of what an evaluation has still to do."""

    study: Study
    placement: Placement
    grows: bool
    """A cluster, whose nodes may come later; not this machine."""
    articles: int | None
    """Articles of the catalog; None: it is not prepared."""
    models: list[ModelForecast]
    """Models that have something to do."""

    def lines(self) -> list[str]:
        """Write the forecast down; nothing where nothing is to do."""
        if not self.models:
            return []
        lines = [line for model in self.models for line in self._model_lines(model)]
        return [*lines, f"estimate  evaluation: {self._in_all()}"]

    def _in_all(self) -> str:
        """Say how long the whole evaluation takes, from the time of one process."""
        placement, besides = self.placement, "preparation and training come on top"
        seconds = sum(model.seconds for model in self.models)
        if placement.actors == 0:
            return f"up to about {duration(seconds)} in this process, without Ray; {besides}"
        plural = "process" if placement.actors == 1 else "processes"
        cluster = "the cluster, if its machines are as fast as this one"
        return (
            f"up to about {duration(seconds / placement.actors)} in {placement.actors} {plural} "
            f"of {placement.each} each, on {cluster if self.grows else 'this machine'}; "
            f"side by side they may be slower than the one timed; {besides}"
        )

    def _model_lines(self, forecast: ModelForecast) -> Iterator[str]:
        model, step, _ = forecast
        yield (
            f"estimate  {model}: a gradient step of a batch of {step.batch} images takes "
            f"{step.seconds:.3g} s here, {step.batch / step.seconds:,.0f} image-steps/s a process"
        )
        yield f"          {model}: {_memory(step, self.articles)}"
        for cell, blocks, images, seconds in forecast.cells:
            if cell.part not in CHECKS:
                all_steps = cell.attack.stop == "never" and not cell.attack.nested
                yield (
                    f"          {model} {cell.attack.name}: {blocks} blocks of "
                    f"{_images(cell, images)} at "
                    f"{len(cell.epsilons)} budgets, "
                    f"{'' if all_steps else 'up to '}about {duration(seconds)} a block"
                    f"{_long(cell, images, seconds)}"
                )
        checks = sum(
            blocks * seconds for cell, blocks, _, seconds in forecast.cells if cell.part in CHECKS
        )
        if checks:
            yield f"          {model} checks: up to about {duration(checks)} in all"


def forecast(
    run: Run, study: Study, plan: Plan, nodes: list[dict[str, float]], *, grows: bool
) -> Forecast:
    """Time a gradient step of each model that has something to do. Nothing is written.

    Args:
        plan: what is missing.
        nodes: resources of each machine, CPU and GPU.
        grows: whether nodes may come later.

    Raises:
        AdvrecError: they have no room for the study's actors.
    """
    placement = place(study.resources, nodes, grows=grows)
    own = {
        name: rehearse(name, study.catalog.image_size)
        for name in sorted({cell.attack.attack for cell in plan.unfinished if cell.attack.own})
    }
    models = []
    for model, spec in study.models.items():
        missing = {
            cell: len(blocks) for cell, blocks in plan.unfinished.items() if cell.model == model
        }
        if missing:
            encoder = spec.encoder if isinstance(spec, AnyHybrid) else model
            step = measure(_network(run, study, encoder), study, placement)
            forecasts = [
                CellForecast(cell, blocks, images, block_seconds(study, cell, images, step, own))
                for cell, blocks in missing.items()
                for images in [_images_of(run, study, cell, plan.tuples or 0)]
            ]
            models.append(ModelForecast(model, step, forecasts))
    each = max((_process(model.step) for model in models), default=0.0)
    if placement.actors > 1 and not placement.gpus:
        placement = within_memory(placement, nodes, each, grows=grows)
    articles = pq.read_metadata(run.catalog).num_rows if plan.catalog else None
    return Forecast(study, placement, grows, articles, models)


def block_seconds(
    study: Study, cell: Cell, images: int, step: Step, own: Mapping[str, int]
) -> float:
    """Seconds of a whole block, if nothing stops the attack.

    They are those of its gradient steps, at the rate of the one that was timed. A codec's seconds
    are not among them: of a JPEG few, of an AVIF more than those of the steps.

    Args:
        images: of the block.
        own: the steps of attacks of the user's own.
    """
    budgets = len(cell.epsilons)
    attack = cell.attack
    steps = sum(
        names.most_steps(
            attack.attack,
            budgets,
            restarts=attack.restarts,
            nested=attack.nested,
            delivered=delivery != FLOAT,
            own=own.get(attack.attack, 0),
        )
        for delivery in (FLOAT, *attack.made_for)
    )
    steps *= max(1, len(attack.sources)) * (1.0 + names.FORWARD * bool(attack.di))
    steps += budgets * names.FORWARD * (1 + len(cell.deliveries))
    return images * steps * step.seconds / step.batch


def measure(network: AnyNetwork, study: Study, placement: Placement) -> Step:
    """Time a gradient step as an attacker takes it, of as many images as it has at once."""
    keep_freed()
    device = "cuda" if placement.gpus and torch.cuda.is_available() else "cpu"
    size = study.catalog.image_size
    batch = memory.batch_of(study)
    pixels = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    with exact_arithmetic(placement.cpus):
        ready = frozen(network)
        each = memory.activations(ready, size)
        return _measure(ready.to(device), pixels, device)._replace(activations=each * batch)


def _measure(network: AnyNetwork, pixels: Pixels, device: str) -> Step:
    """Time a gradient step of a frozen network on `device` on images (n, H, W, 3)."""
    images = to_images(pixels, device)
    embeddings = embed_all(network.embed, pixels, device)
    recommender = Recommender.similar_articles(network.embed, embeddings, device=device)
    objective = recommender.objective(np.roll(np.arange(len(pixels)), 1))
    evaluate(objective, images)
    seconds = []
    for _ in range(STEPS):
        start = time.monotonic()
        evaluate(objective, images)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.monotonic() - start)
    median = sorted(seconds)[STEPS // 2]
    return Step(len(pixels), median, 0, memory.weights(network), network.dimension)


def _network(run: Run, study: Study, model: str) -> AnyNetwork:
    """Load the model, or build one of the same size where it is not trained yet."""
    if run.weights(model).exists():
        return checkpoint.load(run.weights(model))
    spec = study.models[model]
    assert not isinstance(spec, AnyHybrid), "embeds nothing"
    network = _alike(run, study, spec)
    network.behind(door_of(spec.ingest, study.seed))
    return network


def _alike(run: Run, study: Study, spec: AnyTraining | OwnModel | JoinedModel) -> AnyNetwork:
    if isinstance(spec, LabelFree):
        return _network(run, study, spec.init)
    if isinstance(spec, OwnModel):
        return adoption.adopt(spec, study.catalog.image_size).network
    if isinstance(spec, JoinedModel):
        parts = [_network(run, study, part) for part in spec.join]
        architecture = JoinedArchitecture(
            parts=tuple(part.architecture for part in parts),
            weights=spec.weights or (1.0,) * len(parts),
        )
        return JoinedNetwork(architecture, parts)
    return FashionNet(
        Architecture(
            backbone=spec.backbone, width=spec.width or 1.0, categories=("a", "b"), textures=()
        )
    )


def _memory(step: Step, articles: int | None) -> str:
    mib = 2**20
    shared = (
        f"{articles * step.dimension * 4 / mib:,.0f} MiB of embeddings, once a node"
        if articles
        else "the embeddings, once a node"
    )
    return (
        f"about {_process(step) / mib:,.0f} MiB a process, "
        f"of which {step.activations / mib:,.0f} are the activations "
        f"of {step.batch} images (evaluation.batch); besides {shared}"
    )


def _process(step: Step) -> float:
    return memory.PROCESS_BYTES + step.weights + step.activations


def _images_of(run: Run, study: Study, cell: Cell, tuples: int) -> int:
    """Images of a whole block, or of all that there are; of a category that is not named, or not
    prepared, the most.

    Args:
        tuples: of the study.
    """
    wanted = study.evaluation.category_attack
    if cell.part != CATEGORY_ATTACKS or wanted is None:
        return min(study.evaluation.block, cell.tuples(tuples))
    if not run.catalog.exists():
        return study.catalog.articles or study.evaluation.block
    names = pq.read_table(run.catalog, columns=["category"])["category"].to_pylist()
    sizes = Counter(names)
    return max(sizes.values()) if wanted.origin is None else sizes[wanted.origin]


def _images(cell: Cell, images: int) -> str:
    if cell.part == CATEGORY_ATTACKS:
        return f"up to {images} articles of a category"
    return f"{images} {'tuples' if cell.articles is None else f'articles before {cell.audience}'}"


def _long(cell: Cell, images: int, seconds: float) -> str:
    if seconds <= LONG_S:
        return ""
    lost = f"; WARNING: longer than {duration(LONG_S)}, all of which is lost with a process"
    if cell.part == CATEGORY_ATTACKS:
        return lost
    better = max(1, int(images * LONG_S / seconds))
    return f"{lost}: set evaluation.block to {better} or less"
