"""How long an evaluation takes and what memory its processes need, from a gradient step that is
timed here.
"""

import csv
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from advrec.attacks import names
from advrec.attacks.objective import CosineDistance, evaluate
from advrec.distributed.placement import Placement, place
from advrec.evaluation import cells
from advrec.evaluation.cells import Cell
from advrec.model import checkpoint, own
from advrec.model.checkpoint import Network
from advrec.model.encoder import frozen, to_images
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.model.memory import keep_freed
from advrec.run.directory import Run
from advrec.run.progress import duration
from advrec.spec.models import OwnModel
from advrec.spec.study import Study
from advrec.stages.status import every_cell

LONG_S = 600.0  # a block that takes longer is much to lose with a process
# of an attacker's own at most, beside embeddings, model and activations (benchmarks/engine.py)
PROCESS_BYTES = 450e6
STEPS = 3  # timed


class Step(NamedTuple):
    """One gradient step of a batch."""

    batch: int
    seconds: float
    activations: int
    """Bytes that it keeps for the backward pass."""
    weights: int
    """Bytes of the model."""
    dimension: int


def forecast(run: Run, study: Study, nodes: list[dict[str, float]], *, grows: bool) -> list[str]:
    """Blocks, actors, time and memory of what an evaluation has still to do, as lines of text.
    Nothing is written.

    Args:
        nodes: of each machine its resources, CPU and GPU.
        grows: whether nodes may come later.

    Raises:
        AdvrecError: they have no room for the study's actors.
    """
    placement = place(study.resources, nodes, grows=grows)
    tuples = _tuples(run, study)
    lines, whole = [], 0.0
    articles = pq.read_metadata(run.catalog).num_rows if run.catalog.exists() else None
    for model in study.models:
        left = {
            cell: missing
            for cell in every_cell(study)
            if cell.model == model
            and (missing := sum(1 for _ in cells.missing_blocks(run, study, cell, tuples)))
        }
        if not left:
            continue
        step = measure(_network(run, study, model), study, placement)
        lines.append(
            f"estimate  {model}: a gradient step of a batch of {step.batch} images takes {step.seconds:.3g} s here, "
            f"{step.batch / step.seconds:,.0f} image-steps/s a process"
        )
        lines.append(f"          {model}: {_memory(step, articles)}")
        of_checks = 0.0
        for cell, missing in left.items():
            seconds = block_seconds(study, cell, step)
            blocks = f"{missing} blocks of {study.evaluation.block} tuples at {len(cell.epsilons)} budgets"
            at_most = (
                "about "
                if cell.attack.stop == "never" and not cell.attack.nested
                else "up to about "
            )
            if cell.part == "attacks":
                lines.append(
                    f"          {model} {cell.attack.name}: {blocks}, {at_most}{duration(seconds)} a block{_long(study, seconds)}"
                )
            else:
                of_checks += missing * seconds
            whole += missing * seconds
        if of_checks:
            lines.append(f"          {model} checks: up to about {duration(of_checks)} in all")
    if not lines:
        return []
    return [*lines, f"estimate  evaluation: {_in_all(whole, placement, grows=grows)}"]


def _in_all(seconds: float, placement: Placement, *, grows: bool) -> str:
    """Time of the whole evaluation, from that of one process, in words."""
    besides = "preparation and training come on top"
    if placement.actors == 0:
        return f"up to about {duration(seconds)} in this process, without Ray; {besides}"
    plural = "process" if placement.actors == 1 else "processes"
    on = "the cluster, if its machines are as fast as this one" if grows else "this machine"
    which = f"{placement.actors} {plural} of {placement.each} each, on {on}"
    return (
        f"up to about {duration(seconds / placement.actors)} in {which}; "
        f"side by side they may be slower than the one timed; {besides}"
    )


def block_seconds(study: Study, cell: Cell, step: Step) -> float:
    """Of a whole block, if nothing stops an attack: its gradient steps, at the rate of one that was
    timed.
    """
    images = study.evaluation.block * len(cell.epsilons)
    steps = names.most_steps(
        cell.attack.attack, restarts=cell.attack.restarts, nested=cell.attack.nested
    )
    return images * (steps + names.FORWARD * (1 + len(cell.deliveries))) * step.seconds / step.batch


def measure(network: Network, study: Study, placement: Placement) -> Step:
    """Time a gradient step of as many images as the study puts on the device at once, as an
    attacker takes it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(placement.cpus)
    keep_freed()
    device = "cuda" if placement.gpus and torch.cuda.is_available() else "cpu"
    size = study.catalog.image_size
    batch = min(study.evaluation.batch, study.evaluation.block * len(study.evaluation.epsilons))
    images = to_images(
        np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8), device
    )
    copied = frozen(network).to(device)
    with torch.inference_mode():
        targets = copied.embed(images).clone().roll(1, 0)
    objective, kept = CosineDistance(copied.embed, targets), 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        evaluate(objective, images)
    seconds = []
    for _ in range(STEPS):
        start = time.monotonic()
        evaluate(objective, images)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.monotonic() - start)
    torch.set_num_threads(threads)
    weights = sum(value.nbytes for value in copied.state_dict().values())
    return Step(batch, sorted(seconds)[STEPS // 2], kept, weights, targets.shape[1])


def _tuples(run: Run, study: Study) -> int:
    wanted = study.evaluation.tuples
    if run.tuples.exists():
        return int(pq.read_metadata(run.tuples).num_rows)
    if isinstance(wanted, int):
        return wanted
    with Path(wanted).open(newline="", encoding="utf-8-sig") as handle:
        return sum(1 for _ in csv.DictReader(handle))


def _network(run: Run, study: Study, model: str) -> Network:
    """The model, or one of the same size where it is not trained yet."""
    if run.weights(model).exists():
        return checkpoint.load(run.weights(model))
    spec = study.models[model]
    if isinstance(spec, OwnModel):
        return own.adopt(spec, study.catalog.image_size)
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
    own_part = (PROCESS_BYTES + step.weights + step.activations) / mib
    return (
        f"about {own_part:,.0f} MiB a process, of which {step.activations / mib:,.0f} are the activations of {step.batch} images "
        f"(evaluation.batch); besides {shared}"
    )


def _long(study: Study, seconds: float) -> str:
    if seconds <= LONG_S:
        return ""
    better = max(1, int(study.evaluation.block * LONG_S / seconds))
    return f"; WARNING: longer than {duration(LONG_S)}, all of which is lost with a process: set evaluation.block to {better} or less"
