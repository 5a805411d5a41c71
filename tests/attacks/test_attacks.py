"""Attacks against truth: a closed-form optimum, the budget to the last bit, the study's protocol step by step."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advrec.attacks import budget, registry
from advrec.attacks.gradient import PGD, mixed_pgd
from advrec.attacks.objective import CosineDistance, Misclassification, classification_loss, evaluate
from advrec.errors import ConfigError
from tests.conftest import random_network

ATTACKS = ["fgsm", "pgd-1", "pgd-8", "cw-5"]


class LinearEncoder:
    """F(x) = (w.x, c): the cosine distance to the target (1, 0) falls as w.x grows, so the best perturbation within
    epsilon inside the box is epsilon * sign(w), in closed form."""

    def __init__(self, shape=(3, 4, 4), seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.w = torch.randn(shape, generator=generator)
        self.c = 2.0

    def __call__(self, images):
        product = (images * self.w).flatten(1).sum(1)
        return torch.stack([product, torch.full_like(product, self.c)], dim=1)

    def optimum(self, images, epsilon):
        best = images + epsilon.view(-1, 1, 1, 1) * self.w.sign()
        product = (best.double() * self.w.double()).flatten(1).sum(1)
        return 1.0 - product / torch.sqrt(product**2 + self.c**2)


def centred(count, seed=0):
    """Images well inside the box, so that only the ball binds."""
    return 0.3 + 0.4 * torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["fgsm", "pgd-8", "pgd-128"])
def test_signed_gradient_attacks_reach_the_closed_form_optimum(name):
    encoder, images = LinearEncoder(), centred(6)
    epsilon = torch.tensor([0.0, 0.001, 0.01, 0.03, 0.1, 0.2], dtype=torch.float64)
    objective = CosineDistance(encoder, torch.tensor([[1.0, 0.0]]).expand(6, 2))
    result = registry.by_name(name)(objective, images, epsilon)
    expected = encoder.optimum(images, epsilon)
    assert objective(result.images).double() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_cw_comes_near_the_closed_form_optimum_once_projected():
    encoder, images = LinearEncoder(), centred(4)
    epsilon = torch.full((4,), 0.03, dtype=torch.float64)
    objective = CosineDistance(encoder, torch.tensor([[1.0, 0.0]]).expand(4, 2))
    raw = registry.by_name("cw-100")(objective, images, epsilon).images
    final = budget.ball(images, epsilon).project(raw)
    clean, best = objective(images).double(), encoder.optimum(images, epsilon)
    gained = (clean - objective(final).double()) / (clean - best)
    assert (gained > 0.8).all()
    assert (gained < 1.0 + 1e-4).all()


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(ATTACKS),
    batch=st.sampled_from([1, 3, 8]),
    fill=st.sampled_from(["zeros", "ones", "random"]),
    epsilon=st.one_of(st.sampled_from([0.0, 1e-3, 0.03, 1.0]), st.floats(0, 1)),
    seed=st.integers(0, 1000),
)
def test_the_projected_image_keeps_budget_and_box_to_the_last_bit(name, batch, fill, epsilon, seed):
    generator = torch.Generator().manual_seed(seed)
    images = {"zeros": torch.zeros, "ones": torch.ones}.get(fill, lambda *s: torch.rand(*s, generator=generator))(batch, 3, 4, 4)
    encoder = LinearEncoder(seed=seed)
    targets = torch.randn(batch, 2, generator=generator)
    budgets = torch.full((batch,), epsilon, dtype=torch.float64)
    attack = registry.by_name(name)
    result = attack(CosineDistance(encoder, targets), images, budgets)
    final = budget.ball(images, budgets).project(result.images)
    assert torch.isfinite(result.images).all()
    assert (budget.linf(images, final) <= budgets).all()  # in float64, without a tolerance
    assert final.min() >= 0
    assert final.max() <= 1
    again = attack(CosineDistance(encoder, targets), images, budgets)
    assert torch.equal(again.images, result.images)
    if epsilon == 0:
        assert torch.equal(final, images)


@pytest.mark.parametrize("name", ["fgsm", "pgd-8"])
def test_signed_gradient_attacks_need_no_projection(name):
    images = torch.rand(5, 3, 4, 4)
    epsilon = torch.tensor([0.0, 0.01, 0.03, 0.05, 1.0], dtype=torch.float64)
    result = registry.by_name(name)(CosineDistance(LinearEncoder(), torch.randn(5, 2)), images, epsilon)
    assert torch.equal(budget.ball(images, epsilon).project(result.images), result.images)


def curved(outputs, seed=0):
    """A small smooth network on (N, 3, 4, 4), whose gradient's sign changes along an attack's way."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 16), torch.nn.Tanh(), torch.nn.Linear(16, outputs))


def test_each_image_has_its_own_budget():
    """An image's result does not depend on the budgets or images beside it."""
    encoder = curved(8)
    images, targets = torch.rand(4, 3, 4, 4), torch.randn(4, 8)
    epsilon = torch.tensor([0.01, 0.05, 0.3, 0.9], dtype=torch.float64)
    together = PGD(steps=4)(CosineDistance(encoder, targets), images, epsilon).images
    for row in range(4):
        one = slice(row, row + 1)
        alone = PGD(steps=4)(CosineDistance(encoder, targets[one]), images[one], epsilon[one]).images
        assert alone == pytest.approx(together[one], abs=1e-6)


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
    ours = PGD(steps=steps)(CosineDistance(encoder, targets), images, torch.full((2,), epsilon, dtype=torch.float64))
    assert ours.images == pytest.approx(x, abs=1e-6)
    assert ours.gradient_steps.tolist() == [steps, steps]
    assert ours.forward_passes.tolist() == [steps, steps]


def test_cw_is_the_published_protocol_written_out():
    encoder, images, targets = LinearEncoder(), 0.1 + 0.8 * torch.rand(2, 3, 4, 4), torch.randn(2, 2)
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
    ours = registry.by_name(f"cw-{steps}")(CosineDistance(encoder, targets), images, torch.full((2,), epsilon, dtype=torch.float64))
    assert ours.images == pytest.approx(x.detach(), abs=2e-6)


@pytest.mark.parametrize(
    ("scale", "most"),
    [
        (200.0, 0.03 + 0.005),  # the hinge is stronger than c times the gradient: out by about one step
        (2.0, 1.0),  # the gradient is stronger: nothing holds the image back
    ],
)
def test_cw_overshoots_its_soft_budget(scale, most):
    images, encoder = centred(2), LinearEncoder()
    encoder.c = scale
    epsilon = torch.full((2,), 0.03, dtype=torch.float64)
    raw = registry.by_name("cw-40")(CosineDistance(encoder, torch.tensor([[1.0, 0.0]] * 2)), images, epsilon).images
    overshot = budget.linf(images, raw)
    assert (overshot > 0.03).all()
    assert (overshot < most).all()
    if scale == 2.0:
        assert (overshot > 0.06).all()


def test_cw_hardly_moves_saturated_pixels():
    images = torch.ones(1, 3, 4, 4)
    epsilon = torch.tensor([0.3], dtype=torch.float64)
    objective = CosineDistance(LinearEncoder(), torch.tensor([[-1.0, 0.0]]))
    assert budget.linf(images, registry.by_name("cw-1000")(objective, images, epsilon).images) <= 0.0115
    assert budget.linf(images, registry.by_name("pgd-8")(objective, images, epsilon).images) == pytest.approx(0.3, abs=1e-6)


def test_mixed_pgd_gives_each_image_its_own_pgd():
    network = curved(8)

    def classify(images):
        return network(images).split([5, 3], dim=1)

    images, categories = torch.rand(6, 3, 4, 4), torch.tensor([0, 1, 2, 3, 4, 0])
    textures = torch.eye(3)[torch.tensor([0, 1, 2, 0, 1, 2])]
    epsilon = torch.full((6,), 0.3, dtype=torch.float64)
    objective = Misclassification(classify, categories, textures)
    steps = [3, 3, 2, 1, 0, 0]
    mixed = mixed_pgd(objective, images, epsilon, steps)
    assert torch.equal(mixed[4:], images[4:])
    for row, k in enumerate(steps[:4]):
        one = torch.tensor([row])
        alone = PGD(steps=k)(objective.select(one), images[one], epsilon[one]).images
        assert alone == pytest.approx(mixed[one], abs=1e-6)


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
            expected += sum(-y[t] * math.log(p[t]) - (1 - y[t]) * math.log(1 - p[t]) for t in range(2)) / 2
        assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["fgms", "pgd8", "pgd-0", "pgd", "cw--5", "pgd-1.5", "", "PGD-8"])
def test_a_name_that_is_no_attack_is_refused(name):
    with pytest.raises(ConfigError, match="is not an attack"):
        registry.by_name(name)


def test_a_misspelt_attack_gets_the_nearest_right_word():
    with pytest.raises(ConfigError, match="did you mean pgd-32"):
        registry.by_name("pdg-32")
