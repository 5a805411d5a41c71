"""Signed gradient steps: FGSM and PGD are one loop. Published protocol: from the clean image, last iterate."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from advrec.attacks.budget import Ball, ball
from advrec.attacks.objective import Objective, evaluate
from advrec.attacks.result import Attacked, spent


@dataclasses.dataclass(frozen=True, kw_only=True)
class PGD:
    """Projected gradient descent (Madry et al. 2018) with `steps` steps of `step_scale` * epsilon / steps.

    The study's protocol is step_scale 1: from the clean image, last iterate. FGSM (Goodfellow et al. 2015) is its single step.
    """

    steps: int
    step_scale: float = 1.0

    def __call__(self, objective: Objective, images: Tensor, epsilon: Tensor, start: Tensor | None = None) -> Attacked:
        """Adversarial images that make `objective` small.

        Args:
            objective: one loss an image.
            images: clean images (N, C, H, W), float32, [0, 1].
            epsilon: l-infinity budgets (N,), 0..1: each image has its own.
            start: where to begin, inside the ball; by default the clean images.
        """
        allowed = ball(images, epsilon)
        step = (epsilon * self.step_scale / self.steps).to(images).view(-1, 1, 1, 1)
        current = images if start is None else allowed.project(start)
        for _ in range(self.steps):
            current = signed_step(objective, allowed, current, step)
        return spent(current, gradient_steps=self.steps)


def mixed_pgd(objective: Objective, images: Tensor, epsilon: Tensor, steps: Sequence[int]) -> Tensor:
    """What `PGD(steps=k)` gives for each image's own k, in one batch that shrinks as images finish; k = 0 leaves an image clean.

    Args:
        objective, images, epsilon: as of `PGD`.
        steps: k of each image, falling.

    Returns:
        Adversarial images (N, C, H, W).
    """
    allowed = ball(images, epsilon)
    divisors = torch.tensor([max(k, 1) for k in steps], device=images.device)
    step = (epsilon / divisors).to(images).view(-1, 1, 1, 1)
    current = images.clone()
    for taken in range(max(steps, default=0)):
        active = sum(k > taken for k in steps)
        first = torch.arange(active, device=images.device)
        inside = Ball(allowed.lower[:active], allowed.upper[:active])
        current[:active] = signed_step(objective.select(first), inside, current[:active], step[:active])
    return current


def signed_step(objective: Objective, allowed: Ball, current: Tensor, step: Tensor) -> Tensor:
    """One descent step of length `step` (N, 1, 1, 1) along the sign of the gradient, projected."""
    gradient = evaluate(objective, current).gradient
    return allowed.project(torch.addcmul(current, gradient.sign_(), step, value=-1.0))
