"""The training loop: plain PyTorch, on one worker or on several joined by torch.distributed. It
knows no Ray.
"""

import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from advrec.attacks.gradient import PGD
from advrec.catalog.dataset import Catalog
from advrec.model.encoder import frozen, refresh
from advrec.model.fashionnet import FashionNet
from advrec.spec.base import Split
from advrec.spec.models import AdversarialTraining, CurriculumAdversarialTraining, TrainedModel
from advrec.training import data, quality, state
from advrec.training.defense import Outputs, Stage
from advrec.training.defenses import defenses
from advrec.training.recipe import RECIPES, Recipe
from advrec.training.state import Epoch, State

TIE = 1e-6


def fit(
    network: FashionNet,
    spec: TrainedModel,
    catalog: Catalog,
    *,
    seed: int,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> "Training":
    """Train `network` in place as `spec` says. Called by every worker of a process group, or alone.

    Selection is by the validation split: accuracy under the study's PGD of as many steps as the
    defense's (clean accuracy without one). Where validation was merged into training
    (published_split) the study selected on the test split, and so does this; the metrics say so.

    Args:
        spec: resolved.
        checkpoint: the first worker's file, written after each epoch, which an interrupted training
            goes on from. On CPUs, with as many workers, one or two, it ends with the weights of an
            undisturbed one.
    """
    training = Training(network, spec, catalog, seed)
    # The first worker's view of the file is everyone's: on a shared disk others may still see the
    # epoch before.
    saved = [
        state.load(checkpoint)
        if checkpoint is not None and training.rank == 0 and checkpoint.exists()
        else None
    ]
    if dist.is_initialized():
        dist.broadcast_object_list(saved)
    if saved[0] is not None:
        training.resume(saved[0])
    while not training.finished:
        epoch = training.epoch()
        if checkpoint is not None and training.rank == 0:
            state.save(checkpoint, training.state())
        on_epoch(epoch)
    network.eval()
    return training


class Training:
    """A training between two epochs.

    Args:
        network: trained in place; its weights are the best ones once it is finished.
        recipe: by default that of `spec`.
    """

    def __init__(
        self,
        network: FashionNet,
        spec: TrainedModel,
        catalog: Catalog,
        seed: int,
        recipe: Recipe | None = None,
    ) -> None:
        assert spec.learning_rate is not None, "config.load resolves it"
        self._learning_rate = spec.learning_rate
        self.network = network
        self.rank, self._world = (
            (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        )
        self.history: list[Epoch] = []
        self.finished = False
        self._spec, self._catalog, self._seed = spec, catalog, seed
        self._recipe = recipe or RECIPES[spec.recipe]
        self._defense = defenses.of(spec, self._recipe)
        self._schedule = self._defense.schedule()
        self._train_ids = catalog.ids_of("train")
        self._device = network.mean.device
        outputs = _WithEmbeddings(network)
        self._module: nn.Module = DistributedDataParallel(outputs) if self._world > 1 else outputs
        # Without decay of weights this is Adam.
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=spec.learning_rate, weight_decay=self._recipe.weight_decay
        )
        self._average = self._new_average()
        self._attacked = network if self._recipe.attacks_in_training_mode else frozen(network)
        self._best = copy.deepcopy(network.state_dict())

    def epoch(self) -> Epoch:
        """Train for one epoch, validate, and move the schedule on."""
        start = time.monotonic()
        number, stage = len(self.history) + 1, self._stage
        generator = self._streams(number)
        steps_before = (number - 1) * self._steps_an_epoch()
        losses: list[Tensor] = []
        self.network.train()
        shuffled = data.shuffled(
            self._train_ids,
            self._spec.batch,
            seed=self._seed,
            epoch=number,
            rank=self.rank,
            world=self._world,
        )
        for ids in shuffled:
            batch = data.load(self._catalog, ids, self._device)
            batch = batch._replace(images=self._recipe.augment(batch.images, generator))
            losses += self.train_on(batch, generator, steps_before + len(losses))
        clean, adversarial = self._validate(stage)
        mean_loss = float(_sum(torch.stack(losses).double().mean(), self._device) / self._world)
        rate = self._optimizer.param_groups[0]["lr"]
        self.history.append(
            Epoch(
                number, stage.steps, mean_loss, clean, adversarial, rate, time.monotonic() - start
            )
        )
        # Of epochs that withstand the attack equally, as those do that never do, the more accurate
        # one is the better.
        self._move_on(adversarial + TIE * clean if stage.steps else clean)
        return self.history[-1]

    def train_on(
        self, batch: data.Batch, generator: torch.Generator, number: int = 0
    ) -> list[Tensor]:
        """Attack a batch as the defense does and take its steps, of which the first is step
        `number` of the training; their losses.
        """
        if self._defense.attacks and self._attacked is not self.network:
            refresh(self._attacked, self.network)
        stage = self._stage._replace(epsilon=self._stage.epsilon * self._grown(number))
        crafted = self._defense.craft(self._attacked, batch, stage, generator)
        return [self._step(batch, images, number + place) for place, images in enumerate(crafted)]

    def measure(self) -> dict[str, Any]:
        """metrics.json of the network as it is, on the test split; see `quality.metrics`."""
        _same_statistics(self.network)
        measured = frozen(self.network)
        ids = quality.shard(self._catalog.ids_of("test"), self.rank, self._world)
        clean = _sum(quality.count(measured, self._catalog, ids), self._device)
        attacked = quality.count(
            measured,
            self._catalog,
            ids,
            attack=quality.PUBLISHED,
            epsilon=quality.PUBLISHED_EPSILON,
        )
        first = quality.shard(
            self._catalog.ids_of("test")[: quality.CONVERGED_IMAGES], self.rank, self._world
        )
        strong = quality.count(
            measured,
            self._catalog,
            first,
            attack=quality.CONVERGED,
            epsilon=quality.PUBLISHED_EPSILON,
        )
        counts = (clean, _sum(attacked, self._device), _sum(strong, self._device))
        return quality.metrics(*counts) | {"selected_on": self._selection}

    def state(self) -> State:
        schedule = dataclasses.asdict(self._schedule) | {"finished": self.finished}  # type: ignore[call-overload]
        return State(
            network=self.network.state_dict(),
            average={} if self._average is None else self._average.module.state_dict(),
            best=self._best,
            optimizer=state.optimizer_tensors(self._optimizer),
            schedule=schedule,
            history=self.history,
            averaged=0 if self._average is None else int(self._average.n_averaged),
        )

    def resume(self, saved: State) -> None:
        """Go on after the last epoch of `saved`."""
        self.network.load_state_dict(saved.network)
        self._best = {name: value.to(self._device) for name, value in saved.best.items()}
        if self._average is not None:
            self._average.module.load_state_dict(saved.average)
            self._average.n_averaged.fill_(saved.averaged)
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": saved.optimizer, "param_groups": groups})
        fields = dict(saved.schedule)
        self.finished = fields.pop("finished")
        for name, value in fields.items():
            setattr(self._schedule, name, tuple(value) if isinstance(value, list) else value)
        self.history = list(saved.history)

    @property
    def _stage(self) -> Stage:
        return Stage(self._schedule.attack_steps, self._schedule.epsilon, self.rank, self._world)

    def _streams(self, epoch: int) -> torch.Generator:
        """The random streams of this worker in an epoch: of augmentation and attacks, which is
        returned, and of dropout.
        """
        first, second = np.random.SeedSequence((self._seed, epoch, self.rank)).generate_state(2)
        torch.manual_seed(int(first))
        return torch.Generator().manual_seed(int(second))

    def _step(self, batch: data.Batch, images: Tensor, number: int) -> Tensor:
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate * self._recipe.rate(number, self._steps())
        with torch.autocast("cuda", torch.bfloat16, enabled=self._device.type == "cuda"):
            loss = self._defense.loss(self._module, batch, images)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.network)
        return loss.detach()

    def _grown(self, number: int) -> float:
        """The share of the budget that a step defends against; epochs are compared under all of it."""
        if not isinstance(self._spec, AdversarialTraining) or not self._spec.ramp:
            return 1.0
        steps = self._steps()
        assert steps is not None, "only a curriculum's are not known"
        return min((number + 1) / (self._spec.ramp * steps), 1.0)

    def _steps_an_epoch(self) -> int:
        return self._spec.steps_an_epoch(len(self._train_ids))

    def _steps(self) -> int | None:
        """In all; None: a curriculum's are known when it is over."""
        if isinstance(self._spec, CurriculumAdversarialTraining):
            return None
        assert self._spec.epochs is not None
        return self._spec.epochs * self._steps_an_epoch()

    @property
    def _candidate(self) -> FashionNet:
        """What is validated, and kept if it is the best."""
        if self._average is None:
            return self.network
        averaged = self._average.module
        assert isinstance(averaged, FashionNet)
        return averaged

    def _validate(self, stage: Stage) -> tuple[float, float]:
        """Clean accuracy, and accuracy under the study's PGD of as many steps as training now uses;
        fractions 0..1.
        """
        _same_statistics(self._candidate)
        _same_statistics(self.network)  # which the next epoch's first attack is made on
        measured = frozen(self._candidate)
        ids = quality.shard(self._catalog.ids_of(self._selection), self.rank, self._world)
        clean = _sum(quality.count(measured, self._catalog, ids), self._device)
        if not stage.steps:
            return float(clean[1] / clean[0]), float(clean[1] / clean[0])
        attacked = quality.count(
            measured, self._catalog, ids, attack=PGD(steps=stage.steps), epsilon=stage.epsilon
        )
        attacked = _sum(attacked, self._device)
        return float(clean[1] / clean[0]), float(attacked[1] / attacked[0])

    def _move_on(self, score: float) -> None:
        verdict = self._schedule.update(score)
        if verdict.best:
            self._best = copy.deepcopy(self._candidate.state_dict())
        if verdict.restore:
            self.network.load_state_dict(self._best)
            self._average = self._new_average()
        self.finished = verdict.finished

    def _new_average(self) -> AveragedModel | None:
        decay = self._recipe.averaging
        if decay is None:
            return None

        @torch.no_grad()
        def move(averages: Sequence[Tensor], values: Sequence[Tensor], seen: Tensor | int) -> None:
            """Young averages forget faster: they would be what training began with."""
            if averages[0].is_floating_point():
                torch._foreach_lerp_(
                    list(averages),
                    list(values),
                    1.0 - min(decay, (1.0 + int(seen)) / (10.0 + int(seen))),
                )
                return
            for average, value in zip(averages, values, strict=True):  # BatchNorm's counts
                average.copy_(value)

        return AveragedModel(self.network, multi_avg_fn=move, use_buffers=True)

    @property
    def _selection(self) -> Split:
        return "validation" if len(self._catalog.ids_of("validation")) else "test"


class _WithEmbeddings(nn.Module):
    """The network in training, which gives all that a loss may ask for in one forward pass."""

    def __init__(self, network: FashionNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Outputs:
        embeddings = self.network.embed(images)
        return Outputs(self.network.classify(embeddings), embeddings)


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
