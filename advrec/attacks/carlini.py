"""Carlini & Wagner's attack as the study ran it: tanh space, sign-like steps, a soft budget that is not kept."""

import dataclasses

import torch
from torch import Tensor

from advrec.attacks.objective import Objective, evaluate
from advrec.attacks.result import Attacked, spent

SQUEEZE = 1.0 - 1e-6  # tanh reaches 0 and 1 only at infinity; a saturated pixel starts at w = +-7.25
ADAM_EPSILON = 1e-8


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedCW:
    """`steps` steps on confidence * loss + sum(max(|x - clean| - epsilon, 0)) over w with x = (tanh(w) + 1) / 2.

    After Carlini & Wagner (2017, l-infinity attack), as the study's code ran it: Adam is made anew for each step, so a step is
    learning_rate * g / (|g| + 1e-8), the sign of the gradient but for its tiniest values; the weight is fixed; and the last computed
    iterate is returned, the one before the final update. The images can leave the ball by about one step: the caller projects.
    Saturated pixels (0 or 1) hardly move, since the derivative of tanh vanishes there.
    """

    steps: int
    learning_rate: float = 0.005
    confidence: float = 20.0

    def __call__(self, objective: Objective, images: Tensor, epsilon: Tensor, start: Tensor | None = None) -> Attacked:
        """Arguments as of `PGD`. The result lies in [0, 1], not in the ball."""
        radius = epsilon.to(images).view(-1, 1, 1, 1)
        variables = torch.atanh((2.0 * (images if start is None else start) - 1.0) * SQUEEZE)
        current = images

        def penalised(candidates: Tensor) -> Tensor:
            excess = torch.relu((candidates - images).abs() - radius).sum(dim=(1, 2, 3))
            return self.confidence * objective(candidates) + excess

        for _ in range(self.steps):
            squashed = torch.tanh(variables)
            current = (squashed + 1.0) / 2.0
            gradient = evaluate(penalised, current).gradient * (1.0 - squashed.square()) / 2.0
            variables = variables - self.learning_rate * gradient / (gradient.abs() + ADAM_EPSILON)
        # At epsilon 0 the answer is the clean image itself, not its image in tanh space.
        unchanged = epsilon.to(images.device).view(-1, 1, 1, 1) == 0
        return spent(torch.where(unchanged, images, current), gradient_steps=self.steps)
