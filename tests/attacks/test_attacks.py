"""The published attacks against truth: the study's protocol step by step, and what their losses and
gradients are.
"""

import math

import pytest
import torch

from advrec.attacks import budget, registry
from advrec.attacks.gradient import PGD, mixed_pgd
from advrec.attacks.objective import Misclassification, classification_loss, evaluate
from advrec.attacks.problem import Problem
from advrec.recommenders.losses import CosineDistance
from tests.attacks.problems import LinearEncoder, alone, centred, curved
from tests.conftest import random_network


def linear_problem(images, epsilon, encoder=None, targets=None):
    """Towards the target (1, 0)."""
    epsilons = torch.as_tensor(epsilon, dtype=torch.float64).expand(len(images))
    targets = torch.tensor([[1.0, 0.0]]).expand(len(images), 2) if targets is None else targets
    return Problem(CosineDistance(encoder or LinearEncoder(), targets), images, epsilons)


def test_cw_comes_near_the_closed_form_optimum_once_projected():
    encoder, problem = LinearEncoder(), linear_problem(centred(4), 0.03)
    final = problem.ball.project(registry.by_name("cw-100")(problem).images)
    clean, best = encoder.distance(problem.images), encoder.optimum(problem.images, problem.epsilon)
    gained = (clean - encoder.distance(final)) / (clean - best)
    assert (gained > 0.8).all()
    assert (gained < 1.0 + 1e-6).all()


def test_each_image_has_its_own_budget():
    """An image's result does not depend on the budgets or images beside it."""
    problem = Problem(
        CosineDistance(curved(8), torch.randn(4, 8)),
        torch.rand(4, 3, 4, 4),
        torch.tensor([0.01, 0.05, 0.3, 0.9], dtype=torch.float64),
    )
    together = PGD(steps=4)(problem).images
    for row in range(4):
        assert PGD(steps=4)(alone(problem, row)).images[0].numpy() == pytest.approx(
            together[row].numpy(), abs=1e-6
        )


def test_pgd_is_the_published_protocol_written_out():
    encoder, images, targets = LinearEncoder(), torch.rand(2, 3, 4, 4), torch.randn(2, 2)
    epsilon, steps = 0.05, 7
    x = images.clone()
    for _ in range(steps):  # a straightforward loop: autograd through a cosine written by hand
        x = x.detach().requires_grad_(True)
        f = encoder(x)
        loss = (1 - (f * targets).sum(1) / f.norm(dim=1) / targets.norm(dim=1)).sum()
        loss.backward()
        x = x.detach() - epsilon / steps * x.grad.sign()
        x = torch.min(torch.max(x, images - epsilon), images + epsilon).clamp(0, 1)
    ours = PGD(steps=steps)(linear_problem(images, epsilon, encoder, targets))
    assert ours.images == pytest.approx(x, abs=1e-6)
    assert ours.gradient_steps.tolist() == [steps, steps]
    assert ours.forward_passes.tolist() == [steps, steps]


def test_cw_is_the_published_protocol_written_out():
    encoder, images, targets = (
        LinearEncoder(),
        0.1 + 0.8 * torch.rand(2, 3, 4, 4),
        torch.randn(2, 2),
    )
    epsilon, steps = 0.01, 9
    w = torch.atanh((images * 2 - 1) * (1 - 1e-6))
    for _ in range(steps):  # Adam made anew each step, the last computed iterate returned
        w = w.detach().requires_grad_(True)
        adam = torch.optim.Adam([w], lr=0.005)
        x = (torch.tanh(w) + 1) / 2
        f = encoder(x)
        distance = (1 - (f * targets).sum(1) / f.norm(dim=1) / targets.norm(dim=1)).sum()
        loss = 20 * distance + torch.relu((x - images).abs() - epsilon).sum()
        loss.backward()
        adam.step()
    ours = registry.by_name(f"cw-{steps}")(linear_problem(images, epsilon, encoder, targets))
    assert ours.images == pytest.approx(x.detach(), abs=2e-6)
    assert ours.gradient_steps.tolist() == [steps, steps]
    assert ours.forward_passes.tolist() == [steps, steps]


@pytest.mark.parametrize(
    ("scale", "most"),
    [
        # the hinge is stronger than c times the gradient: out by about one step
        (200.0, 0.03 + 0.005),
        (2.0, 1.0),  # the gradient is stronger: nothing holds the image back
    ],
)
def test_cw_overshoots_its_soft_budget(scale, most):
    encoder = LinearEncoder()
    encoder.c = scale
    problem = linear_problem(centred(2), 0.03, encoder)
    overshot = budget.linf(problem.images, registry.by_name("cw-40")(problem).images)
    assert (overshot > 0.03).all()
    assert (overshot < most).all()
    if scale == 2.0:
        assert (overshot > 0.06).all()


def test_cw_hardly_moves_saturated_pixels_and_exact_cw_does():
    problem = linear_problem(torch.ones(1, 3, 4, 4), 0.3, targets=torch.tensor([[-1.0, 0.0]]))
    assert budget.linf(problem.images, registry.by_name("cw-1000")(problem).images) <= 0.0115
    assert budget.linf(problem.images, registry.by_name("pgd-8")(problem).images) == pytest.approx(
        0.3, abs=1e-6
    )
    assert budget.linf(
        problem.images, registry.by_name("cw-exact-100")(problem).images
    ) == pytest.approx(0.3, abs=1e-3)


def test_mixed_pgd_gives_each_image_its_own_pgd():
    network = curved(8)

    def classify(images):
        return network(images).split([5, 3], dim=1)

    textures = torch.eye(3)[torch.tensor([0, 1, 2, 0, 1, 2])]
    objective = Misclassification(classify, torch.tensor([0, 1, 2, 3, 4, 0]), textures)
    problem = Problem(objective, torch.rand(6, 3, 4, 4), torch.full((6,), 0.3, dtype=torch.float64))
    steps = [3, 3, 2, 1, 0, 0]
    mixed = mixed_pgd(problem, steps)
    assert torch.equal(mixed[4:], problem.images[4:])
    for row, k in enumerate(steps[:4]):
        assert PGD(steps=k)(alone(problem, row)).images[0].numpy() == pytest.approx(
            mixed[row].numpy(), abs=1e-6
        )


def test_evaluate_gives_each_image_the_gradient_of_its_own_loss_and_no_weight_gradients():
    network = random_network()
    images, targets = torch.rand(3, 3, 32, 32), torch.randn(3, network.dimension)
    gradient = evaluate(CosineDistance(network.embed, targets), images).gradient
    assert all(parameter.grad is None for parameter in network.parameters())
    for row in range(3):
        image = images[row : row + 1].clone().requires_grad_(True)
        CosineDistance(network.embed, targets[row : row + 1])(image).sum().backward()
        assert gradient[row] == pytest.approx(image.grad[0], rel=1e-3, abs=1e-5)


def test_classification_loss_against_a_plain_loop():
    category, texture = torch.randn(3, 4), torch.randn(3, 2)
    labels, textures = torch.tensor([1, 0, 3]), torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    for row, value in enumerate(classification_loss(category, texture, labels, textures).tolist()):
        exponentials = [math.exp(v) for v in category[row].tolist()]
        expected = -math.log(exponentials[labels[row]] / sum(exponentials))
        if textures[row].sum():
            p = [1 / (1 + math.exp(-v)) for v in texture[row].tolist()]
            y = textures[row].tolist()
            expected += (
                sum(-y[t] * math.log(p[t]) - (1 - y[t]) * math.log(1 - p[t]) for t in range(2)) / 2
            )
        assert value == pytest.approx(expected, rel=1e-5)


def both_losses(network, targets):
    cosine = CosineDistance(network, targets)
    return cosine, cosine.surrogate()


def test_the_two_losses_disagree_about_the_sign_of_many_pixels_gradients():
    network = random_network()
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        targets = network.embed(torch.rand(4, 3, 32, 32))
    cosine, squared = (
        evaluate(objective, images) for objective in both_losses(network.embed, targets)
    )
    same = (cosine.gradient.sign() == squared.gradient.sign()).flatten(1).double().mean(1)
    assert (same < 0.9).all()
    assert torch.equal(cosine.score, squared.score)  # both are judged by the cosine


def test_the_cosine_loss_is_blind_to_the_embeddings_length_and_the_squared_one_is_not():
    network = random_network()
    with torch.no_grad():
        embeddings, targets = (
            network.embed(torch.rand(4, 3, 32, 32)),
            network.embed(torch.rand(4, 3, 32, 32)),
        )
    slopes = []
    for objective in both_losses(lambda rows: rows, targets):
        rows = embeddings.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(objective.losses(rows).descended.sum(), rows)
        along = (gradient * rows).sum(1) / gradient.norm(dim=1) / rows.norm(dim=1)
        slopes.append(along.abs().detach())
    assert (slopes[0] < 1e-5).all()
    assert (slopes[1] > 0.1).all()


def test_scaling_the_embeddings_leaves_the_cosine_gradient_alone_and_not_the_squared_one():
    network = random_network()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        targets = network.embed(torch.rand(2, 3, 32, 32))
    plain = [
        evaluate(objective, images).gradient for objective in both_losses(network.embed, targets)
    ]
    scaled = [
        evaluate(objective, images).gradient
        for objective in both_losses(lambda x: 3.0 * network.embed(x), targets)
    ]
    assert scaled[0].numpy() == pytest.approx(
        plain[0].numpy(), rel=1e-3, abs=1e-6 * float(plain[0].abs().max())
    )
    turned = torch.nn.functional.cosine_similarity(scaled[1].flatten(1), plain[1].flatten(1))
    assert (turned < 0.99).all()
