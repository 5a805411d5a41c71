"""The defenses, one class each; `of` picks it by the study's entry."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import assert_never

import torch
from torch import Tensor
from torch.nn import functional

from advrec.attacks import budget
from advrec.attacks.gradient import PGD, mixed_pgd, signed_step
from advrec.attacks.objective import Losses, Objective, evaluate
from advrec.model.fashionnet import FashionNet, Logits
from advrec.recommenders.losses import CosineDistance, cosine_distance
from advrec.spec.models import (
    AdversarialTraining,
    AntiCollapse,
    CurriculumAdversarialTraining,
    FreeTraining,
    FriendlyTraining,
    NoDefense,
    NoisyFGSM,
    Trades,
    TrainedModel,
)
from advrec.training.curriculum import Curriculum, Fixed, Schedule
from advrec.training.data import Batch
from advrec.training.defense import (
    Defense,
    Forward,
    Stage,
    budgets,
    misclassification,
    noise,
    problem_of,
)
from advrec.training.recipe import Recipe

VALIDATED = 8
"""Steps of the attack that selects the epoch of a defense with a single step: under its own, an
overfitted one would look best.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Defense:
    """What most have in common."""

    recipe: Recipe
    epochs: int
    epsilon: float = 0.0
    steps: int = 0
    attacks = True
    steps_a_batch = 1

    def schedule(self) -> Schedule:
        return Fixed(epochs=self.epochs, attack_steps=self.steps, epsilon=self.epsilon)

    def loss(self, forward: Forward, batch: Batch, images: Tensor) -> Tensor:
        return self.recipe.loss(forward(images).logits, batch)

    def _start(self, images: Tensor, epsilon: float, generator: torch.Generator) -> Tensor | None:
        return images + epsilon * noise(images, generator) if self.recipe.random_start else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clean(_Defense):
    attacks = False

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        yield batch.images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adversarial(_Defense):
    """Adversarial training (Madry et al. 2018): every image is attacked by PGD-k."""

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        attack = PGD(steps=stage.steps, step_scale=self.recipe.step_scale)
        start = self._start(batch.images, stage.epsilon, generator)
        yield attack(
            problem_of(misclassification(network, batch), batch, stage.epsilon, start)
        ).images


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurriculumTraining(_Defense):
    """Curriculum adversarial training (Cai et al. 2018). With batch mixing, equal shares of the
    batch are attacked by PGD-0, PGD-1, ... PGD-k; what does not divide goes to the largest.
    """

    ks: tuple[int, ...]
    patience: int
    mixing: bool
    ramp: bool

    def schedule(self) -> Schedule:
        stages = len(self.ks)
        epsilons = tuple(
            self.epsilon * (number + 1) / stages if self.ramp else self.epsilon
            for number in range(stages)
        )
        return Curriculum(ks=self.ks, epsilons=epsilons, patience=self.patience, epochs=self.epochs)

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        count = len(batch.images)
        whole = (
            shares(count * stage.world, stage.steps)
            if self.mixing
            else [stage.steps] * (count * stage.world)
        )
        ks = whole[stage.rank :: stage.world][:count]
        start = self._start(batch.images, stage.epsilon, generator)
        problem = problem_of(misclassification(network, batch), batch, stage.epsilon, start)
        if not self.recipe.attacks_in_training_mode:
            yield mixed_pgd(problem, ks, self.recipe.step_scale)
            return
        # There an image's gradient depends on the batch that it is in: the study attacked each
        # share alone.
        parts = []
        for k in sorted(set(ks), reverse=True):
            rows = torch.tensor(
                [place for place, own in enumerate(ks) if own == k], device=batch.images.device
            )
            # BatchNorm refuses a single image where its maps have one place; twice the same has its
            # statistics.
            doubled = rows.repeat(2) if len(rows) == 1 else rows
            attack = PGD(steps=k, step_scale=self.recipe.step_scale)
            parts.append(
                attack(problem.select(doubled)).images[: len(rows)] if k else batch.images[rows]
            )
        yield torch.cat(parts)


def shares(images: int, steps: int) -> list[int]:
    """The k of each image of a batch: equal shares of steps, steps - 1, ..., 0, falling."""
    share = images // (steps + 1)
    smaller = [k for k in range(steps - 1, -1, -1) for _ in range(share)]
    return [steps] * (images - len(smaller)) + smaller


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Divergence(Objective):
    """Minus what clean and attacked predictions differ by; see `_divergence`."""

    classify: Callable[[Tensor], Logits]
    clean: Logits

    def __call__(self, images: Tensor) -> Tensor:
        return -_divergence(self.clean, self.classify(images))

    def losses(self, images: Tensor) -> Losses:
        loss = self(images)
        return Losses(loss, loss)

    def select(self, rows: Tensor) -> "_Divergence":
        texture = None if self.clean.texture is None else self.clean.texture[rows]
        return dataclasses.replace(self, clean=Logits(self.clean.category[rows], texture))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TradeOff(_Defense):
    """TRADES (Zhang et al. 2019, equation 5): the loss of clean images, and beta times the
    divergence of the predictions for images attacked to make it large. The attack begins at normal
    noise of deviation 0.001, as the authors' does. Both halves take one forward pass together, and
    share its batch statistics, where the authors take two.
    """

    beta: float

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        with torch.inference_mode():
            clean = network(batch.images)
        normal = torch.randn(batch.images.shape, generator=generator).to(batch.images)
        attack = PGD(steps=stage.steps, step_scale=self.recipe.step_scale)
        # Cloned, for no gradient passes what was made in inference mode.
        known = Logits(
            clean.category.clone(), None if clean.texture is None else clean.texture.clone()
        )
        objective = _Divergence(classify=network, clean=known)
        yield attack(
            problem_of(objective, batch, stage.epsilon, batch.images + 0.001 * normal)
        ).images

    def loss(self, forward: Forward, batch: Batch, images: Tensor) -> Tensor:
        clean, attacked = _halves(forward(torch.cat([batch.images, images])).logits)
        return (
            self.recipe.loss(clean, batch)
            + self.beta * _divergence(clean, attacked, self.recipe.texture_weight(batch)).mean()
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisyStep(_Defense):
    """N-FGSM (de Jorge et al. 2022, algorithm 1): noise larger than the budget, then one step of
    the budget's size, not projected.
    """

    noise: float

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        noisy = (batch.images + self.noise * stage.epsilon * noise(batch.images, generator)).clamp_(
            0.0, 1.0
        )
        gradient = evaluate(misclassification(network, batch), noisy).gradient
        yield torch.add(noisy, gradient.sign_(), alpha=-stage.epsilon).clamp_(0.0, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Free(_Defense):
    """Free adversarial training (Shafahi et al. 2019, algorithm 1): each batch is trained on
    several times, and one backward pass gives the gradient of the weights and of the images both.
    The perturbation goes on from batch to batch there, here it begins afresh.
    """

    steps_a_batch: int
    attacks = False

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        ball = budget.ball(batch.images, budgets(batch.images, stage.epsilon))
        current = batch.images
        for number in range(self.steps_a_batch):
            current = current.detach().clone().requires_grad_(True)
            yield current
            if number == self.steps_a_batch - 1:
                return
            assert current.grad is not None
            with torch.no_grad():
                # The loss is to grow, and signed_step goes down.
                current = signed_step(
                    ball, current, -current.grad, budgets(batch.images, stage.epsilon)
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Friendly(_Defense):
    """Friendly adversarial training (Zhang et al. 2020, algorithm 1): PGD that leaves an image
    `tau` steps after it is misclassified. The authors let tau grow while they train; here it stays.
    """

    tau: int

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        start = self._start(batch.images, stage.epsilon, generator)
        objective = misclassification(network, batch)
        problem = problem_of(objective, batch, stage.epsilon, start)
        current = batch.images.clone() if start is None else problem.ball.project(start)
        left = torch.full((len(current),), self.tau, device=current.device)
        rows = torch.arange(len(current), device=current.device)
        for _ in range(stage.steps):
            images = current[rows].requires_grad_(True)
            logits = network(images)
            (gradient,) = torch.autograd.grad(objective.select(rows).of(logits).sum(), images)
            wrong = logits.category.argmax(1) != batch.categories[rows]
            going = ~wrong | (left[rows] > 0)
            left[rows[wrong]] -= 1
            rows, gradient = rows[going], gradient[going]
            if not len(rows):
                break
            length = problem.epsilon[rows] * self.recipe.step_scale / stage.steps
            current[rows] = signed_step(problem.ball.select(rows), current[rows], gradient, length)
        yield current


@dataclasses.dataclass(frozen=True, kw_only=True)
class AntiCollapseTriplet(_Defense):
    """Against the attack that advrec measures: each image is moved towards the embedding of another
    article of its batch by PGD-k on the cosine distance, and the network learns to keep it nearer
    to itself than to that article, by a margin, beside the classes of clean and of moved images.
    After the anti-collapse triplet (Zhou et al. 2021; Zhou & Patel 2022), where positive and
    negative are both moved, towards each other, and the anchor is clean: here, as in the attack,
    one image moves, and it is the anchor.
    """

    margin: float
    weight: float

    def craft(
        self, network: FashionNet, batch: Batch, stage: Stage, generator: torch.Generator
    ) -> Iterator[Tensor]:
        with torch.inference_mode():
            targets = network.embed(batch.images).roll(1, 0)
        attack = PGD(steps=stage.steps, step_scale=self.recipe.step_scale)
        start = self._start(batch.images, stage.epsilon, generator)
        yield attack(
            problem_of(CosineDistance(network.embed, targets.clone()), batch, stage.epsilon, start)
        ).images

    def loss(self, forward: Forward, batch: Batch, images: Tensor) -> Tensor:
        outputs = forward(torch.cat([batch.images, images]))
        clean, moved = outputs.embeddings.chunk(2)
        # a tuple's articles are of two categories
        others = batch.categories != batch.categories.roll(1, 0)
        triplets = functional.relu(
            cosine_distance(moved, clean) - cosine_distance(moved, clean.roll(1, 0)) + self.margin
        )
        collapse = (triplets * others).sum() / others.sum().clamp_min(1)
        classes = sum(self.recipe.loss(half, batch) for half in _halves(outputs.logits)) / 2.0
        return classes + self.weight * collapse


def of(spec: TrainedModel, recipe: Recipe) -> Defense:
    """The defense of a resolved entry of the study."""
    assert spec.epochs is not None, "config.load resolves it"
    epochs = spec.epochs
    match spec:
        case NoDefense():
            return Clean(recipe=recipe, epochs=epochs)
        case AdversarialTraining():
            return Adversarial(recipe=recipe, epochs=epochs, epsilon=spec.epsilon, steps=spec.steps)
        case CurriculumAdversarialTraining(ks=ks, patience=patience, mixing=mixing, ramp=ramp):
            assert ks is not None, "config.load resolves it"
            return CurriculumTraining(
                recipe=recipe,
                epochs=epochs,
                epsilon=spec.epsilon,
                ks=ks,
                patience=patience,
                mixing=mixing,
                ramp=ramp,
            )
        case Trades():
            return TradeOff(
                recipe=recipe, epochs=epochs, epsilon=spec.epsilon, steps=spec.steps, beta=spec.beta
            )
        case NoisyFGSM():
            return NoisyStep(
                recipe=recipe,
                epochs=epochs,
                epsilon=spec.epsilon,
                steps=VALIDATED,
                noise=spec.noise,
            )
        case FreeTraining():
            return Free(
                recipe=recipe,
                epochs=epochs,
                epsilon=spec.epsilon,
                steps=VALIDATED,
                steps_a_batch=spec.replays,
            )
        case FriendlyTraining():
            return Friendly(
                recipe=recipe, epochs=epochs, epsilon=spec.epsilon, steps=spec.steps, tau=spec.tau
            )
        case AntiCollapse(margin=margin, weight=weight):
            return AntiCollapseTriplet(
                recipe=recipe,
                epochs=epochs,
                epsilon=spec.epsilon,
                steps=spec.steps,
                margin=margin,
                weight=weight,
            )
        case _:
            assert_never(spec)


def _halves(logits: Logits) -> tuple[Logits, Logits]:
    """Of a batch of clean images and the same again, attacked."""
    categories = logits.category.chunk(2)
    textures = (None, None) if logits.texture is None else logits.texture.chunk(2)
    return Logits(categories[0], textures[0]), Logits(categories[1], textures[1])


def _divergence(clean: Logits, attacked: Logits, texture_weight: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence (N,) of the attacked predictions from the clean ones: of the
    category, and `texture_weight` times the mean over textures.
    """
    clean_log, attacked_log = clean.category.log_softmax(1), attacked.category.log_softmax(1)
    divergence = functional.kl_div(attacked_log, clean_log, reduction="none", log_target=True).sum(
        1
    )
    if clean.texture is not None and attacked.texture is not None:
        probabilities = clean.texture.sigmoid()
        cross = functional.binary_cross_entropy_with_logits(
            attacked.texture, probabilities, reduction="none"
        )
        own = functional.binary_cross_entropy_with_logits(
            clean.texture, probabilities, reduction="none"
        )
        divergence = divergence + texture_weight * (cross - own).mean(1)
    return divergence
