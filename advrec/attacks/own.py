"""Attacks of the user's own: a function that changes images, under a harness that trusts nobody.

It gets copies and an objective that counts every pass. What it returns is checked here, and
projected, embedded and ranked by the evaluation like the images of any attack.

Each image has a random stream of its own, and a generator is one stream. A function that draws is
therefore called with one image at a time; another with all of a batch.
"""

import contextlib
import dataclasses
import inspect
import random
from collections.abc import Callable, Iterator
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


class _DrewError(BaseException):
    """Raised where a function has drawn for several images; no function of a user's catches it."""


class _Draws:
    """Random streams that a function can draw from: its generator, and those of this process.

    Args:
        several: whether it is an error to draw, for several images would share a stream.
    """

    def __init__(self, seed: int, device: torch.device, *, several: bool) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self._seed, self._device, self._several = seed, device, several

    @contextlib.contextmanager
    def seeded(self) -> Iterator[None]:
        """Seed the streams of this process; afterwards they are as before."""
        python, numpy = random.getstate(), np.random.get_state()
        cuda = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(cuda):
            torch.manual_seed(self._seed)
            np.random.seed(self._seed % 2**32)
            random.seed(self._seed)
            self._begun = self._states()
            try:
                yield
            finally:
                random.setstate(python)
                np.random.set_state(numpy)

    def check(self) -> None:
        """Raise _DrewError where something was drawn for several images."""
        if self._several and self._states() != self._begun:
            raise _DrewError

    def _states(self) -> list[Any]:
        states = [self.generator.get_state(), torch.random.get_rng_state()]
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device))
        _, keys, place, *_ = np.random.get_state(legacy=True)
        arrays = [np.asarray(keys), *(state.numpy() for state in states)]
        return [place, random.getstate(), *(array.tobytes() for array in arrays)]


class Counted:
    """The objective that a function gets: losses and gradients of N images; each pass is counted.

    Args:
        costs: (2, N of the whole problem) int32: gradient steps and forward passes so far.
        rows: (N,) int64, places of the images in the whole problem.
    """

    def __init__(
        self, function: str, problem: Problem, draws: _Draws, costs: Tensor, rows: Tensor
    ) -> None:
        self._function, self._problem, self._draws = function, problem, draws
        self._costs, self._rows = costs, rows

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
        self._draws.check()
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
        return type(self)(self._function, problem, self._draws, self._costs, self._rows[chosen])

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
        try:
            return self._called(problem)
        except _DrewError:
            images = torch.empty_like(problem.images)
            costs = torch.zeros(2, len(images), dtype=torch.int32)
        for row in range(len(images)):
            alone = self._called(problem.select(torch.tensor([row], device=images.device)))
            images[row] = alone.images[0]
            costs[:, row] = torch.cat([alone.gradient_steps, alone.forward_passes])
        return Attacked(images, *costs)

    def _called(self, problem: Problem) -> Attacked:
        """The function called once: raises _DrewError where it draws for several images."""
        device, size = problem.images.device, len(problem.images)
        costs = torch.zeros(2, size, dtype=torch.int32)
        draws = _Draws(_seed(problem), device, several=size > 1)
        objective = Counted(self.name, problem, draws, costs, torch.arange(size))
        given = problem.images.clone()
        try:
            with draws.seeded(), torch.enable_grad(), blamed_on(self.name):
                epsilons = problem.epsilon.clone()
                made = self.function(given, epsilons, objective, draws.generator)
                draws.check()
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
    """The seed of the first image: of several, none is to be drawn from."""
    seed = 0 if problem.seeds is None else int(problem.seeds[0])
    return int(np.random.SeedSequence([seed, problem.draw]).generate_state(1, np.uint64)[0] >> 1)


def _words(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of the shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
