"""Attacks of the user's own: a function that changes images, under a harness that trusts nobody.

It gets copies and an objective that counts every pass. What it returns is checked here, and
projected, embedded and ranked by the evaluation like the images of any attack.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from advrec.attacks.objective import Losses, Objective, score
from advrec.attacks.problem import Problem
from advrec.attacks.result import Attacked
from advrec.errors import ConfigError
from advrec.run.fingerprint import blamed_on, import_module

Function = Callable[[Tensor, Tensor, "Counted", torch.Generator], Tensor]
SIGNATURE = "(images, epsilons, objective, generator)"


class Counted:
    """The objective that a function gets: losses and gradients of N images; each pass is counted.

    Args:
        costs: (2, N of the whole problem) int32: gradient steps and forward passes so far.
        rows: (N,) int64, places of the images in the whole problem.
    """

    def __init__(self, function: str, problem: Problem, costs: Tensor, rows: Tensor) -> None:
        self._function, self._problem, self._costs, self._rows = function, problem, costs, rows

    @property
    def start(self) -> Tensor:
        """Images (N, 3, H, W) to begin from: the result at a smaller budget, where the entry says
        `nested`, else the clean images.
        """
        problem = self._problem
        start = problem.images if problem.start is None else problem.ball.project(problem.start)
        return start.clone()

    @property
    def below(self) -> Tensor:
        """(N,): an image whose loss lies below stands at rank 1, and may stop; -inf where the entry
        says `stop: never`.
        """
        problem = self._problem
        if problem.goal is None or problem.stop == "never":
            return torch.full((len(problem.images),), -torch.inf, device=problem.images.device)
        return problem.goal.below.clone()

    def __call__(self, images: Tensor) -> Tensor:
        """Losses (N,), to be made small, of images (N, 3, H, W) in [0, 1]: one forward pass.

        They can be differentiated where the images require a gradient; each backward pass counts.
        """
        given = self._fitting(images)
        self._costs[1, self._rows] += 1
        if not (given.requires_grad and torch.is_grad_enabled()):
            return score(self._problem.objective, given)
        seen = given.view_as(given)
        seen.register_hook(self._count_step)  # type: ignore[no-untyped-call]
        return self._problem.objective.losses(seen).descended

    def gradient(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (N,) of images (N, 3, H, W), and the gradient (N, 3, H, W) of each image's own:
        one gradient step, which is a forward pass too.
        """
        with torch.enable_grad():
            given = self._fitting(images).detach().requires_grad_(True)
            losses = self(given)
            (gradient,) = torch.autograd.grad(losses.sum(), given)
        return losses.detach(), gradient

    def select(self, rows: Tensor) -> Self:
        """The objective of some of the images: those at `rows`, (n,) int64 or (N,) bool."""
        chosen = torch.arange(len(self._rows))[rows.cpu()]
        problem = self._problem.select(chosen.to(self._problem.images.device))
        return type(self)(self._function, problem, self._costs, self._rows[chosen])

    def _count_step(self, gradient: Tensor) -> None:
        self._costs[0, self._rows] += 1

    def _fitting(self, images: Tensor) -> Tensor:
        """The images (N, 3, H, W); raises ConfigError where they are none."""
        expected = self._problem.images
        if not isinstance(images, Tensor) or images.shape != expected.shape:
            raise ConfigError(
                f"{self._function} gave its objective {_words(images)}; "
                f"it takes images of the shape {tuple(expected.shape)}"
            )
        return images.to(expected)


@dataclasses.dataclass(frozen=True)
class OwnAttack:
    """The attack of a function, package.module:function."""

    name: str
    function: Function = dataclasses.field(repr=False)

    def __call__(self, problem: Problem) -> Attacked:
        """The images (N, 3, H, W) that the function returns.

        Raises:
            ConfigError: it raises something, returns no images, or changes those it is given.
        """
        device, size = problem.images.device, len(problem.images)
        costs = torch.zeros(2, size, dtype=torch.int32)
        objective = Counted(self.name, problem, costs, torch.arange(size))
        seed, given = _seed(problem), problem.images.clone()
        generator = torch.Generator(device).manual_seed(seed)
        try:
            with (
                torch.random.fork_rng([device] if device.type == "cuda" else []),
                torch.enable_grad(),
                blamed_on(self.name),
            ):
                torch.manual_seed(seed)  # of a function that draws without its generator
                made = self.function(given, problem.epsilon.clone(), objective, generator)
        except ConfigError as error:
            if isinstance(error.__cause__, torch.OutOfMemoryError):
                raise error.__cause__ from None  # a smaller batch may fit
            raise
        return Attacked(self._checked(made, given, problem.images), *costs.clone())

    def _checked(self, made: Any, given: Tensor, clean: Tensor) -> Tensor:
        """The images (N, 3, H, W) that were made, in the layout of those `given`."""
        if not torch.equal(given, clean):
            raise ConfigError(
                f"{self.name} changes its argument images in place; work on images.clone()"
            )
        if not isinstance(made, Tensor) or made.shape != clean.shape:
            raise ConfigError(
                f"{self.name} returned {_words(made)}; "
                f"it must return images of the shape {tuple(clean.shape)}"
            )
        if not made.is_floating_point() or not torch.isfinite(made).all():
            kind = "values that are not finite" if made.is_floating_point() else f"{made.dtype}"
            raise ConfigError(f"{self.name} returned {kind}; it must return floats in [0, 1]")
        return torch.empty_like(clean).copy_(made.detach())


def build(name: str) -> OwnAttack:
    """Import the function of an attack package.module:function.

    Raises:
        ConfigError: it cannot be imported, or not be called with SIGNATURE.
    """
    module, _, word = name.partition(":")
    with blamed_on(name):
        function = getattr(import_module(name), word, None)
    if not callable(function):
        raise ConfigError(f"{name}: {module} has no function {word}")
    try:
        inspect.signature(function).bind(*range(4))
    except TypeError as error:
        raise ConfigError(f"{name} is called with {SIGNATURE}, and cannot be: {error}") from None
    except ValueError:  # built in: it has no signature
        pass
    return OwnAttack(name, function)


def rehearse(name: str, image_size: int) -> int:
    """Call a function once on two grey images and a toy encoder, before any work.

    Returns:
        The most gradient steps that it took of an image.

    Raises:
        ConfigError: as `build` and `OwnAttack`.
    """
    images = torch.full((2, 3, image_size, image_size), 0.5)
    targets = torch.linspace(0.1, 0.9, images[0].numel()).view_as(images[:1]).repeat(2, 1, 1, 1)
    epsilon = torch.tensor([0.01, 0.03], dtype=torch.float64)
    made = build(name)(Problem(objective=_Toy(_features(targets)), images=images, epsilon=epsilon))
    return int(made.gradient_steps.max())


def _features(images: Tensor) -> Tensor:
    """Means (N, 48) of images (N, 3, H, W) over a grid."""
    return functional.adaptive_avg_pool2d(images, 4).flatten(1)


@dataclasses.dataclass(frozen=True)
class _Toy(Objective):
    """Cosine distance of coarse means to those of targets, (N, 48)."""

    targets: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        return 1.0 - functional.cosine_similarity(_features(images), self.targets, dim=1)

    def losses(self, images: Tensor) -> Losses:
        """The loss (N,) of images (N, 3, H, W), which is the score too."""
        return Losses(loss := self(images), loss)

    def select(self, rows: Tensor) -> Self:
        """The distances of some images: those at `rows` (n,), int64."""
        return dataclasses.replace(self, targets=self.targets[rows])


def _seed(problem: Problem) -> int:
    """The seed of a batch, from the random streams of its images."""
    seeds = [0] * len(problem.images) if problem.seeds is None else problem.seeds.tolist()
    return int(np.random.SeedSequence([*seeds, problem.draw]).generate_state(1, np.uint64)[0] >> 1)


def _words(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of the shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
