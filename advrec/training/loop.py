"""The training loop: plain PyTorch, on one worker or on several joined by torch.distributed. It knows no Ray."""

import copy
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from advrec.attacks.gradient import PGD
from advrec.attacks.objective import classification_loss
from advrec.catalog.dataset import Catalog
from advrec.config import CurriculumAdversarialTraining, TrainedModel
from advrec.model.encoder import frozen, refresh
from advrec.model.fashionnet import FashionNet
from advrec.spec import Split
from advrec.training import data, defenses, quality

WEIGHT_DECAY = 0.01
WARM_UP = 0.15  # share of the steps


class Epoch(NamedTuple):
    """One row of history.parquet."""

    epoch: int
    attack_steps: int
    train_loss: float
    validation_clean_accuracy: float
    validation_adversarial_accuracy: float
    learning_rate: float
    seconds: float


class Fitted(NamedTuple):
    network: FashionNet
    """With the best weights by the validation split."""
    history: list[Epoch]
    metrics: dict[str, Any]
    """Of the best weights on the test split; see `quality.metrics`."""


def fit(
    network: FashionNet,
    spec: TrainedModel,
    catalog: Catalog,
    *,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Fitted:
    """Train `network` in place as `spec` says. Called by every worker of a process group, or alone.

    Selection is by the validation split: accuracy under the defense's own attack (clean accuracy without one). The test
    split is measured once, at the end. Where validation was merged into training (published_split) the study selected on the
    test split, and so does this; the metrics say so.
    """
    rank, world = _place()
    defense = defenses.of(spec)
    schedule = defense.schedule()
    train_ids = catalog.ids_of("train")
    device = network.mean.device
    module: nn.Module = DistributedDataParallel(network) if world > 1 else network
    optimizer = torch.optim.AdamW(network.parameters(), lr=spec.learning_rate, weight_decay=WEIGHT_DECAY)
    rate = _rate(optimizer, spec, data.num_batches(len(train_ids), spec.batch))
    generator = torch.Generator().manual_seed(seed * 1009 + rank)
    attacked = frozen(network)
    best = copy.deepcopy(network.state_dict())
    history: list[Epoch] = []

    while True:
        start = time.monotonic()
        number, steps = len(history) + 1, schedule.attack_steps
        losses = []
        module.train()
        for ids in data.shuffled(train_ids, spec.batch, seed=seed, epoch=number, rank=rank, world=world):
            batch = data.load(catalog, ids, device)
            batch = batch._replace(images=data.augment(batch.images, generator))
            if defense.adversarial:
                refresh(attacked, network)
            images = defense.craft(attacked, batch, steps, generator)
            losses.append(_step(module, optimizer, batch._replace(images=images)))
            rate.step()
        clean, adversarial = _validate(network, defense, steps, catalog, rank, world)
        mean_loss = float(_sum(torch.stack(losses).double().mean(), device) / world)
        epoch = Epoch(
            number, steps, mean_loss, clean, adversarial, optimizer.param_groups[0]["lr"], time.monotonic() - start
        )
        history.append(epoch)
        verdict = schedule.update(adversarial if steps else clean)
        if verdict.best:
            best = copy.deepcopy(network.state_dict())
        if verdict.restore:
            network.load_state_dict(best)
        on_epoch(epoch)
        if verdict.finished:
            return Fitted(network.eval(), history, {**_measure(network, catalog, rank, world), "selected_on": _selection(catalog)})


def _step(module: nn.Module, optimizer: torch.optim.Optimizer, batch: data.Batch) -> Tensor:
    category, texture = module(batch.images)
    # The sum over textures, not the study's mean, with which the category is nearly all of the loss.
    weight = 1.0 if batch.textures is None else float(batch.textures.shape[1])
    loss = classification_loss(category, texture, batch.categories, batch.textures, weight).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def _rate(optimizer: torch.optim.Optimizer, spec: TrainedModel, batches: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Warm-up and cosine where the number of steps is known; the curriculum's is not, so its rate stays."""
    if isinstance(spec, CurriculumAdversarialTraining):
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=spec.learning_rate, total_steps=spec.epochs * batches + 1, pct_start=WARM_UP, cycle_momentum=False
    )


def _validate(
    network: FashionNet, defense: defenses.Defense, steps: int, catalog: Catalog, rank: int, world: int
) -> tuple[float, float]:
    """Clean accuracy, and accuracy under the study's PGD of as many steps as training now uses; fractions 0..1."""
    _same_statistics(network)
    measured = frozen(network)
    ids = quality.shard(catalog.ids_of(_selection(catalog)), rank, world)
    clean = _sum(quality.count(measured, catalog, ids), network.mean.device)
    if not steps:
        return float(clean[1] / clean[0]), float(clean[1] / clean[0])
    attack = PGD(steps=steps)
    attacked = _sum(quality.count(measured, catalog, ids, attack=attack, epsilon=defense.epsilon), network.mean.device)
    return float(clean[1] / clean[0]), float(attacked[1] / attacked[0])


def _selection(catalog: Catalog) -> Split:
    return "validation" if len(catalog.ids_of("validation")) else "test"


def _measure(network: FashionNet, catalog: Catalog, rank: int, world: int) -> dict[str, Any]:
    _same_statistics(network)
    measured = frozen(network)
    ids = quality.shard(catalog.ids_of("test"), rank, world)
    clean = _sum(quality.count(measured, catalog, ids), network.mean.device)
    attacked = quality.count(measured, catalog, ids, attack=quality.PUBLISHED, epsilon=quality.PUBLISHED_EPSILON)
    return quality.metrics(clean, _sum(attacked, network.mean.device))


def _place() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _sum(values: Tensor, device: torch.device) -> Tensor:
    """The sum over all workers, on the CPU; `device` is where their process group works."""
    if dist.is_initialized():
        values = values.to(device)
        dist.all_reduce(values)
    return values.cpu()


def _same_statistics(network: FashionNet) -> None:
    """Give every worker the first one's BatchNorm statistics: it is their weights that are kept."""
    if dist.is_initialized():
        for buffer in network.buffers():
            dist.broadcast(buffer, 0)
