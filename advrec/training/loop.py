"""The training loop: plain PyTorch, on one worker or on several joined by torch.distributed.

It knows no Ray.
"""

import copy
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from advrec.catalog.dataset import Catalog
from advrec.model.checkpoint import Network
from advrec.model.fashionnet import FashionNet
from advrec.spec.models import AnyTraining
from advrec.training import data, state
from advrec.training.averaging import MovingAverage
from advrec.training.copies import Copy
from advrec.training.defenses.base import Outputs, build
from advrec.training.judges import Validated
from advrec.training.recipe import Recipe, recipe_of
from advrec.training.schedule import Stage
from advrec.training.state import Epoch, State
from advrec.training.workers import Workers


def fit(
    network: Network,
    spec: AnyTraining,
    catalog: Catalog,
    *,
    seed: int,
    source: data.Source | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> "Training":
    """Train `network` in place as `spec` says. Called by every worker of a process group, or alone.

    The defense's judge selects the epoch; see `judges`.

    Args:
        spec: resolved.
        catalog: is measured on.
        source: of batches; by default the catalog's training split.
        checkpoint: the first worker's file, written after each epoch, which an interrupted training
            goes on from. On CPUs, with as many workers, one or two, it ends with the weights of an
            undisturbed one.
    """
    training = Training(network, spec, catalog, seed, source=source)
    file = checkpoint if training.workers.rank == 0 else None
    saved = state.load(file) if file is not None and file.exists() else None
    saved = training.workers.agree(saved)
    if saved is not None:
        training.resume(saved)
    while not training.finished:
        epoch = training.epoch()
        if file is not None:
            state.save(file, training.state())
        on_epoch(epoch)
    network.eval()
    return training


class Training:
    """A training between two epochs.

    Args:
        network: trained in place; its weights are the best ones once it is finished.
        recipe: by default that of `spec`.
        source: of batches; by default the catalog's training split.
    """

    def __init__(
        self,
        network: Network,
        spec: AnyTraining,
        catalog: Catalog,
        seed: int,
        recipe: Recipe | None = None,
        source: data.Source | None = None,
    ) -> None:
        assert spec.learning_rate is not None, "study.load resolves it"
        self.network = network
        self.workers = Workers.of(next(network.parameters()).device)
        self.history: list[Epoch] = []
        self.finished = False
        self.spec, self._seed = spec, seed
        self._recipe = recipe or recipe_of(spec)
        self._defense = build(spec, self._recipe)
        self._schedule = self._defense.schedule()
        self._source = source or data.Source(catalog, catalog.ids_of("train"))
        self._copy = Copy(network)
        self._original = Copy(network).network if self._defense.keeps_original else None
        self._judge = self._defense.judge(catalog, self.workers, self._original)
        self._beside = self._defense.beside(network.dimension).to(self.workers.device)
        outputs = _Trained(network, self._beside)
        alone = self.workers.world == 1
        self._module: nn.Module = outputs if alone else DistributedDataParallel(outputs)
        weights = [each for each in network.parameters() if each.requires_grad]
        groups = [
            Group(weights, spec.learning_rate, self._recipe.weight_decay),
            Group(list(self._beside.parameters()), self._defense.rate_beside, 0.0),
        ]
        self._groups = [group for group in groups if group.parameters]
        # Without decay of weights this is Adam. Fused it takes a quarter of the time.
        self._optimizer = torch.optim.AdamW(
            [
                {"params": group.parameters, "lr": group.rate, "weight_decay": group.decay}
                for group in self._groups
            ],
            fused=True,
        )
        self._average = self._new_average()
        self._attacked = network if self._recipe.attacks_in_training_mode else self._copy.network
        self._best = copy.deepcopy(network.state_dict())

    def epoch(self) -> Epoch:
        """Train for one epoch, validate, and move the schedule on."""
        start = time.monotonic()
        number, stage = len(self.history) + 1, self._stage
        generator = self._streams(number)
        steps_before = (number - 1) * self._steps_an_epoch()
        losses: list[Tensor] = []
        self._defense.set_mode(self.network)
        shuffled = data.shuffled(
            self._source.ids,
            self.spec.batch,
            seed=self._seed,
            epoch=number,
            rank=self.workers.rank,
            world=self.workers.world,
        )
        for ids in shuffled:
            batch = data.load(self._source.catalog, ids, self.workers.device)
            batch = batch._replace(images=self._recipe.augment(batch.images, generator))
            losses += self.train_on(batch, generator, steps_before + len(losses))
        verdict = self._validate(stage)
        mean_loss = self.workers.total(torch.stack(losses).double().mean()) / self.workers.world
        self.history.append(
            Epoch(
                epoch=number,
                attack_steps=stage.steps,
                train_loss=float(mean_loss),
                learning_rate=self._optimizer.param_groups[0]["lr"],
                seconds=time.monotonic() - start,
                **verdict.measured,
            )
        )
        self._move_on(verdict.score)
        return self.history[-1]

    def train_on(
        self, batch: data.Batch, generator: torch.Generator, number: int = 0
    ) -> list[Tensor]:
        """Attack a batch (N, 3, H, W) as the defense does, take its steps, and return the loss ()
        of each.

        Args:
            number: of the first step in the whole training, counted from 0.
        """
        if self._original is not None:
            with torch.no_grad():
                batch = batch._replace(originals=self._original.embed(batch.images))
        if self._defense.attacks and self._attacked is not self.network:
            self._copy.follow(self.network)
        share = self._defense.share_of_budget(number, self._steps())
        stage = self._stage._replace(epsilon=self._stage.epsilon * share)
        crafted = self._defense.craft(self._attacked, batch, stage, generator)
        return [self._step(batch, images, number + place) for place, images in enumerate(crafted)]

    def measure(self) -> dict[str, Any]:
        """Return metrics.json of the network as it is, on the test split."""
        self.workers.share_statistics(self.network)
        return self._judge.metrics(self._frozen(self.network), self._stage)

    def state(self) -> State:
        """Return all that a training needs to go on after this epoch."""
        fields = dataclasses.asdict(self._schedule)  # type: ignore[call-overload]
        return State(
            network=self.network.state_dict(),
            average={} if self._average is None else self._average.network.state_dict(),
            best=self._best,
            optimizer=state.optimizer_tensors(self._optimizer),
            schedule=fields | {"finished": self.finished},
            history=self.history,
            averaged=0 if self._average is None else self._average.seen,
            beside=self._beside.state_dict(),
        )

    def resume(self, saved: State) -> None:
        """Go on after the last epoch of `saved`."""
        self.network.load_state_dict(saved.network)
        self._best = {name: value.to(self.workers.device) for name, value in saved.best.items()}
        self._beside.load_state_dict(saved.beside)
        if self._average is not None:
            self._average.resume(saved.average, saved.averaged)
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": saved.optimizer, "param_groups": groups})
        fields = dict(saved.schedule)
        self.finished = fields.pop("finished")
        for name, value in fields.items():
            setattr(self._schedule, name, tuple(value) if isinstance(value, list) else value)
        self.history = list(saved.history)

    @property
    def _stage(self) -> Stage:
        schedule, workers = self._schedule, self.workers
        return Stage(schedule.attack_steps, schedule.epsilon, workers.rank, workers.world)

    def _streams(self, epoch: int) -> torch.Generator:
        """Begin the random streams of this worker in an epoch: of dropout, and of augmentation and
        attacks, which is returned.
        """
        seeds = np.random.SeedSequence((self._seed, epoch, self.workers.rank))
        first, second = seeds.generate_state(2)
        torch.manual_seed(int(first))
        return torch.Generator().manual_seed(int(second))

    def _step(self, batch: data.Batch, images: Tensor, number: int) -> Tensor:
        share = self._recipe.rate(number, self._steps())
        for group, own in zip(self._optimizer.param_groups, self._groups, strict=True):
            group["lr"] = own.rate * share
        on_gpu = self.workers.device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):
            loss = self._defense.loss(self._module, batch, images)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        if self._average is not None:
            self._average.update(self.network)
        return loss.detach()

    def _steps_an_epoch(self) -> int:
        return self.spec.steps_an_epoch(len(self._source.ids))

    def _steps(self) -> int | None:
        """Count the steps of the whole training; None: known only when it is over."""
        epochs = self.spec.total_epochs
        return None if epochs is None else epochs * self._steps_an_epoch()

    @property
    def _candidate(self) -> Network:
        """The network that is validated, and kept if it is the best."""
        return self.network if self._average is None else self._average.network

    def _validate(self, stage: Stage) -> Validated:
        self.workers.share_statistics(self._candidate)
        # The next epoch's first attack is made on it.
        self.workers.share_statistics(self.network)
        return self._judge.validate(self._frozen(self._candidate), stage, len(self.history))

    def _frozen(self, network: Network) -> Network:
        """A frozen copy of a network as it now is, which the next call changes."""
        self._copy.follow(network)
        return self._copy.network

    def _move_on(self, score: float) -> None:
        verdict = self._schedule.update(score)
        if verdict.best:
            self._best = copy.deepcopy(self._candidate.state_dict())
        if verdict.restore:
            self.network.load_state_dict(self._best)
            self._average = self._new_average()
        self.finished = verdict.finished

    def _new_average(self) -> MovingAverage | None:
        decay = self._recipe.averaging
        return None if decay is None else MovingAverage(self.network, decay)


class Group(NamedTuple):
    """Parameters with a learning rate of their own."""

    parameters: list[nn.Parameter]
    rate: float
    decay: float
    """Decay of weights."""


class _Trained(nn.Module):
    """The trained parts: all that a loss may ask for, from one forward pass.

    Args:
        beside: see `Defense.beside`.
    """

    def __init__(self, network: Network, beside: nn.Module) -> None:
        super().__init__()
        self.network, self.beside = network, beside

    def forward(self, images: Tensor, originals: Tensor | None = None) -> Outputs:
        """Return the outputs for images (N, 3, H, W).

        Args:
            originals: embeddings (M, D), for what is trained beside the network.
        """
        embeddings = self.network.embed(images)
        logits = self.network.classify(embeddings) if isinstance(self.network, FashionNet) else None
        return Outputs(logits, embeddings, None if originals is None else self.beside(originals))
