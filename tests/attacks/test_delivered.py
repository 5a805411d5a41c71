"""Through a delivery: the loss is that of what arrives, and the gradient passes as if nothing had
happened to the image.
"""

import pytest
import torch

from advrec.attacks import registry
from advrec.attacks.objective import Delivered, evaluate, score
from advrec.attacks.problem import Problem
from advrec.delivery.chain import chain
from advrec.recommenders.losses import CosineDistance
from tests.attacks.problems import families


def coarse(images):
    return (images * 7).round() / 7


class Encoder:
    """Curved, so that its gradient at an image and at what arrives of it differ."""

    def __init__(self):
        generator = torch.Generator().manual_seed(3)
        self.first = torch.randn(3 * 16 * 16, 12, generator=generator) / 8
        self.seen = []

    def __call__(self, images):
        self.seen.append(images.detach().clone())
        return torch.tanh(images.flatten(1) @ self.first)


def problem_through(deliver, epsilon=0.1, size=4):
    generator = torch.Generator().manual_seed(1)
    encoder, images = Encoder(), torch.rand(size, 3, 16, 16, generator=generator)
    targets = encoder(torch.rand(size, 3, 16, 16, generator=generator))
    objective = CosineDistance(encoder, targets)
    budgets = torch.full((size,), epsilon, dtype=torch.float64)
    return Problem(Delivered(objective, deliver), images, budgets), encoder


@pytest.mark.parametrize("deliver", [coarse, chain("png"), chain("jpeg-60")])
def test_the_loss_is_that_of_what_arrives_and_so_is_the_gradient_to_the_last_bit(deliver):
    problem, _ = problem_through(deliver)
    arrived, through = deliver(problem.images), problem.objective
    assert not torch.equal(arrived, problem.images)
    for objective in (through, through.surrogate(), through.select(torch.tensor([2, 0]))):
        rows = [2, 0] if len(objective.objective.targets) == 2 else [0, 1, 2, 3]
        made = evaluate(objective, problem.images[rows])
        plain = evaluate(objective.objective, arrived[rows])
        for ours, theirs in zip(made, plain, strict=True):
            assert torch.equal(ours, theirs)
        assert torch.equal(
            score(objective, problem.images[rows]), score(objective.objective, arrived[rows])
        )
    blind = evaluate(through.objective, problem.images).gradient
    assert not torch.equal(evaluate(through, problem.images).gradient, blind)


def test_pgd_through_a_codec_is_what_a_plain_loop_finds():
    jpeg = chain("jpeg-60")
    problem, encoder = problem_through(jpeg)
    made = registry.by_name("pgd-5")(problem).images
    images = problem.images.clone()
    for _ in range(5):
        arrived = jpeg(images).requires_grad_()
        cosine = torch.nn.functional.cosine_similarity(
            encoder(arrived), problem.objective.objective.targets
        )
        (gradient,) = torch.autograd.grad((1 - cosine).sum(), arrived)
        images = images - 0.02 * gradient.sign()
        images = torch.clamp(images, problem.images - 0.1, problem.images + 0.1).clamp(0, 1)
    assert made.numpy() == pytest.approx(images.numpy(), abs=1e-6)


@pytest.mark.parametrize("name", ["auto", *families(steps=6, queries=12)])
def test_whatever_an_attack_asks_has_been_delivered(name):
    problem, encoder = problem_through(coarse)
    encoder.seen.clear()
    registry.build(name, nested=True)(problem)
    assert encoder.seen
    for images in encoder.seen:
        assert torch.equal(images, coarse(images))
