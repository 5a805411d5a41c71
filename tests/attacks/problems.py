"""Small problems that the attack tests share, and an objective that writes down what is asked of
it.
"""

import dataclasses
import functools

import torch
from torch import Tensor

from advrec.attacks import registry
from advrec.attacks.objective import Losses
from advrec.attacks.problem import Problem
from advrec.recommenders.losses import CosineDistance, cosine_distance

PIXELS = (3, 4, 4)
UNSEEDED = ("fgsm", "pgd", "cw", "mifgsm", "minimal")
"""Families that draw nothing at random, so long as they are not restarted."""


def names(steps: int, queries: int) -> list[str]:
    """One attack of each family of the registry, and those without a number but auto; rank-Q has
    problems of its own.
    """
    ours = [family for family in registry.FAMILIES if family != "rank"]
    numbers = {family: queries if family == "square" else steps for family in ours}
    return [*registry.FIXED, *(f"{family}-{number}" for family, number in numbers.items())]


def families(steps: int, queries: int) -> list[str]:
    """Only those that iterate."""
    return [name for name in names(steps, queries) if name not in registry.FIXED]


def stopping(steps: int, queries: int) -> list[str]:
    """Only those of them that may stop; minimal-K takes every step."""
    return [name for name in families(steps, queries) if not name.startswith("minimal-")]


def same_as_alone(name: str, problem: Problem) -> None:
    """Each image ends, at the same cost, as it does in a problem of its own."""
    together = build(name)(problem)
    for row in range(len(problem.images)):
        result = build(name)(alone(problem, row))
        assert (result.images[0] - together.images[row]).abs().max() <= 1e-5
        assert result.gradient_steps[0] == together.gradient_steps[row]
        assert result.forward_passes[0] == together.forward_passes[row]
        assert result.winners == together.winners[row : row + 1]


@functools.cache
def build(name: str):
    """As the evaluation builds it; auto nests there."""
    return registry.build(name, nested=name.startswith("auto"))


class LinearEncoder:
    """F(x) = (w.x, c): the cosine distance to the target (1, 0), or to any (large, c), falls as w.x
    grows, so the best perturbation within epsilon inside the box is epsilon * sign(w), in closed
    form.
    """

    def __init__(self, shape=PIXELS, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.w = torch.randn(shape, generator=generator)
        self.c = 2.0

    def __call__(self, images):
        product = (images * self.w).flatten(1).sum(1)
        return torch.stack([product, torch.full_like(product, self.c)], dim=1)

    def distance(self, images, target=(1.0, 0.0)):
        """In float64, (N,)."""
        product = (images.double() * self.w.double()).flatten(1).sum(1)
        embeddings = torch.stack([product, torch.full_like(product, self.c)], dim=1)
        return cosine_distance(
            embeddings, torch.tensor([target], dtype=torch.float64).expand_as(embeddings)
        )

    def optimum(self, images, epsilon, target=(1.0, 0.0)):
        return self.distance(images.double() + epsilon.view(-1, 1, 1, 1) * self.w.sign(), target)


def centred(count, seed=0, shape=PIXELS):
    """Images well inside the box, so that only the ball binds."""
    return 0.3 + 0.4 * torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def curved(outputs, seed=0):
    """A small smooth network, whose gradient's sign changes along an attack's way."""
    torch.manual_seed(seed)
    sizes = torch.nn.Linear(48, 16), torch.nn.Tanh(), torch.nn.Linear(16, outputs)
    return torch.nn.Sequential(torch.nn.Flatten(), *sizes).requires_grad_(False)


def precise(network):
    """Computes in float64, so that a batch's size does not change the sign of a gradient; the
    embeddings are float32.
    """
    network = network.double()
    return lambda images: network(images.double()).float()


def problem_of(count, epsilon=0.1, seed=0, **more) -> Problem:
    """Random images and targets; the network is the same for all seeds."""
    generator = torch.Generator().manual_seed(seed)
    images, targets = (
        torch.rand(count, *PIXELS, generator=generator),
        torch.randn(count, 8, generator=generator),
    )
    epsilons = torch.as_tensor(epsilon, dtype=torch.float64).expand(count).clone()
    return Problem(
        CosineDistance(precise(curved(8)), targets),
        images,
        epsilons,
        seeds=torch.arange(count) + seed,
        **more,
    )


def alone(problem: Problem, row: int) -> Problem:
    return problem.select(torch.tensor([row]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """One forward pass."""

    rows: list[int]
    images: Tensor
    gradient: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watched(CosineDistance):
    """A cosine distance that writes down which image was evaluated when, and whether with a
    gradient.
    """

    rows: Tensor
    log: list[Asked]

    def __call__(self, images: Tensor) -> Tensor:
        self.log.append(
            Asked(rows=self.rows.tolist(), images=images.detach().clone(), gradient=False)
        )
        return super().__call__(images)

    def losses(self, images: Tensor) -> Losses:
        self.log.append(
            Asked(rows=self.rows.tolist(), images=images.detach().clone(), gradient=True)
        )
        return super().losses(images)

    def select(self, rows: Tensor):
        return dataclasses.replace(super().select(rows), rows=self.rows[rows])

    def asked(self, row: int) -> list[Asked]:
        """What was asked about one image."""
        return [entry for entry in self.log for other in entry.rows if other == row]


def watch(problem: Problem) -> Problem:
    """The same problem with an empty log."""
    objective = problem.objective
    rows = torch.arange(len(problem.images))
    watched = Watched(
        embed=objective.embed,
        targets=objective.targets,
        descended=objective.descended,
        rows=rows,
        log=[],
    )
    return dataclasses.replace(problem, objective=watched)
