"""APGD, MI-FGSM, decaying PGD and Square against their papers, written out naively, and against
what they promise.
"""

import dataclasses
import fractions
import math

import pytest
import torch
from torch.nn import functional

from advrec.attacks import registry
from advrec.attacks.apgd import APGD
from advrec.attacks.gradient import DecayingPGD
from advrec.attacks.objective import Losses, score
from advrec.attacks.problem import Problem
from advrec.recommenders.losses import CosineDistance
from tests.attacks.problems import LinearEncoder, alone, curved, families, problem_of, watch

SEEDS = range(8)


def one(seed, epsilon):
    """One image, its embeddings and losses in float64: the order of two losses is never a matter of
    rounding.
    """
    generator = torch.Generator().manual_seed(seed)
    image, target = (
        torch.rand(1, 3, 4, 4, generator=generator),
        torch.randn(1, 8, generator=generator).double(),
    )
    network = curved(8, seed=seed).double()
    objective = CosineDistance(lambda images: network(images.double()), target)
    return Problem(
        objective, image, torch.tensor([epsilon], dtype=torch.float64), seeds=torch.tensor([seed])
    )


def cosine_loss(embedding, target):
    return 1 - (embedding * target).sum() / embedding.norm() / target.norm()


def squared_loss(embedding, target):
    return (embedding - target).pow(2).sum()


def by_hand(problem, loss=cosine_loss):
    """Loss and gradient of the problem's one image, and the projection, as the papers use them."""
    clean, epsilon = problem.images, float(problem.epsilon)

    def value(x):
        x = x.detach().requires_grad_(True)
        height = loss(problem.objective.embed(x), problem.objective.targets)
        height.backward()
        return float(height.detach()), x.grad

    def project(x):
        return torch.min(torch.max(x, clean - epsilon), clean + epsilon).clamp(0, 1)

    return value, project


def evaluated(attack, problem):
    """All images that the attack evaluates, in order, and its result."""
    watched = watch(problem)
    result = attack(watched)
    return [entry.images for entry in watched.objective.asked(0)], result


# APGD


def naive_apgd(problem, steps, checkpoints, loss):
    """Croce & Hein (2020), algorithm 1, with the minus of a minimum, for one image. Where ours
    differs from the paper's letter:

    - at a checkpoint that halves the step, the paper has already taken step k, and puts the best
      iterate in place of what it gave (x_{k+1} = x_max). Ours puts it in place of x_k, whose loss
      it has just seen, and steps from there: no step is thrown away; - the paper's next momentum is
      x_{k+1} - x_k, from the abandoned iterate to the best one (AutoAttack's code does so too).
      Ours is 0: the best iterate is its own predecessor; - so the first step after a halving counts
      as a fall where its loss is below the abandoned iterate's, not the best one's (as in
      AutoAttack's code); - condition 2 compares with the checkpoint before; at the first there is
      none (as in AutoAttack's code).

    Returns:
        All iterates, x_0 to x_steps, and what each checkpoint said: (condition 1, condition 2).
    """
    value, project = by_hand(problem, loss)
    x = previous = problem.random_start()
    eta, alpha, rho = 2 * float(problem.epsilon), 0.75, 0.75
    losses, iterates, said = [], [x], []
    best, best_loss, best_gradient = x, math.inf, None
    checked = None  # eta and best loss at the last checkpoint
    last = 0
    for k in range(steps):
        height, gradient = value(x)
        losses.append(height)
        if height < best_loss:
            best, best_loss, best_gradient = x, height, gradient
        if k in checkpoints:
            falls = sum(losses[i + 1] < losses[i] for i in range(last, k))
            first = falls < rho * (k - last)
            second = checked == (eta, best_loss)
            checked, last = (eta, best_loss), k
            said.append((first, second))
            if first or second:
                eta /= 2
                x = previous = best
                gradient = best_gradient
        z = project(x - eta * gradient.sign())
        following = z if k == 0 else project(x + alpha * (z - x) + (1 - alpha) * (x - previous))
        previous, x = x, following
        iterates.append(x)
    return iterates, said


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 1.0])
@pytest.mark.parametrize(("squared", "loss"), [(False, cosine_loss), (True, squared_loss)])
def test_apgd_is_the_papers_algorithm_written_out(squared, loss, epsilon):
    halvings = 0
    for seed in SEEDS:
        problem = one(seed, epsilon)
        attack = APGD(40, squared=squared)
        expected, said = naive_apgd(problem, 40, list(attack.checkpoints), loss)
        ours, result = evaluated(attack, problem)
        assert torch.cat(ours).numpy() == pytest.approx(torch.cat(expected).numpy(), abs=1e-5)
        cosines = [by_hand(problem)[0](x)[0] for x in expected]
        assert float(problem.objective(result.images)) == pytest.approx(min(cosines), abs=1e-5)
        halvings += sum(first or second for first, second in said)
    assert halvings > len(SEEDS)


def test_apgds_second_condition_looks_back_to_the_last_checkpoint_alone():
    """An image whose step was halved once, then not, and which then gained nothing though its loss
    kept falling.
    """
    problem, attack = one(26, 0.7), APGD(40, squared=True)
    expected, said = naive_apgd(problem, 40, list(attack.checkpoints), squared_loss)
    assert said[:3] == [(True, False), (False, False), (False, True)]
    assert torch.cat(evaluated(attack, problem)[0]).numpy() == pytest.approx(
        torch.cat(expected).numpy(), abs=1e-5
    )


def test_the_images_above_meet_each_of_the_two_conditions_alone():
    said = [
        pair
        for seed in SEEDS
        for pair in naive_apgd(one(seed, 0.3), 40, list(APGD(40).checkpoints), cosine_loss)[1]
    ]
    assert {(False, False), (True, False), (False, True)} <= set(said)


@pytest.mark.parametrize("steps", [40, 50, 100, 128, 1000])
def test_apgds_checkpoints_are_the_papers(steps):
    """Section 3.2 with fractions: in floats 0.22 + 0.19 + ... can come out above the exact product,
    and the ceiling one step later.
    """
    shares = [fractions.Fraction(0), fractions.Fraction(22, 100)]
    while (
        shares[-1]
        + max(shares[-1] - shares[-2] - fractions.Fraction(3, 100), fractions.Fraction(6, 100))
        < 1
    ):
        shares.append(
            shares[-1]
            + max(shares[-1] - shares[-2] - fractions.Fraction(3, 100), fractions.Fraction(6, 100))
        )
    places = [math.ceil(share * steps) for share in shares[1:]]
    ours = list(APGD(steps).checkpoints)
    if steps == 100:
        assert places == [22, 41, 57, 70, 80, 87, 93, 99]
    assert ours == places
    assert list(APGD(steps).checkpoints.values()) == [
        after - before for before, after in zip([0, *ours], ours, strict=False)
    ]


@pytest.mark.parametrize(
    "name", [name for name in families(steps=15, queries=40) if name not in ("pgd-15", "cw-15")]
)
def test_what_is_returned_is_the_best_image_that_was_evaluated(name):
    problem = watch(problem_of(4, epsilon=0.5))
    result = registry.by_name(name)(problem)
    for row in range(4):
        seen = torch.cat([entry.images[[row]] for entry in problem.objective.asked(row)])
        scores = score(problem.objective.select(torch.full((len(seen),), row)), seen)
        assert torch.equal(result.images[row], seen[scores.argmin()])
        assert scores.min() <= scores[0]


def test_the_first_step_of_apgd_crosses_the_ball():
    """Its length is 2 epsilon: from anywhere in the ball, each pixel ends at the edge."""
    problem = dataclasses.replace(one(0, 0.1), images=torch.full((1, 3, 4, 4), 0.5))
    images, _ = evaluated(APGD(1), problem)
    assert (images[0] != images[1]).all()
    assert ((images[1] - 0.5).abs() - 0.1).abs().max() < 1e-6


# MI-FGSM


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_mifgsm_is_the_papers_algorithm_written_out(epsilon):
    """Dong et al. (2018), algorithm 1; the paper returns the last iterate, ours the best."""
    for seed in SEEDS:
        problem, steps = one(seed, epsilon), 12
        value, project = by_hand(problem)
        x, g, expected = problem.images, torch.zeros_like(problem.images), [problem.images]
        for _ in range(steps):
            _, gradient = value(x)
            g = 1.0 * g + gradient / gradient.abs().sum()
            x = project(x - epsilon / steps * g.sign())
            expected.append(x)
        ours, _ = evaluated(registry.by_name(f"mifgsm-{steps}"), problem)
        assert torch.cat(ours).numpy() == pytest.approx(torch.cat(expected).numpy(), abs=1e-6)


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_momentum_pgd_is_its_rule_written_out(epsilon):
    """Steps fall from half the budget along half a cosine; the sum of gradients decays by 0.9."""
    for seed in SEEDS:
        problem, steps = (
            dataclasses.replace(one(seed, epsilon), start=one(seed, epsilon).images),
            12,
        )
        value, project = by_hand(problem)
        x, g, expected = problem.images, torch.zeros_like(problem.images), [problem.images]
        for number in range(steps):
            _, gradient = value(x)
            g = 0.9 * g + gradient / gradient.abs().sum()
            x = project(x - epsilon / 4 * (1 + math.cos(math.pi * number / steps)) * g.sign())
            expected.append(x)
        ours, _ = evaluated(registry.by_name(f"pgd-momentum-{steps}"), problem)
        assert torch.cat(ours).numpy() == pytest.approx(torch.cat(expected).numpy(), abs=1e-5)


def test_a_restart_of_mifgsm_begins_at_a_random_image():
    problem = one(0, 0.1)
    first, again = (
        evaluated(registry.by_name("mifgsm-2"), dataclasses.replace(problem, draw=draw))[0][0]
        for draw in (0, 1)
    )
    assert torch.equal(first, problem.images)
    assert torch.equal(again, dataclasses.replace(problem, draw=1).random_start())
    assert not torch.equal(again, first)


# Carlini & Wagner inside the ball


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_exact_cw_is_adam_on_tanh_written_out(epsilon):
    for seed in SEEDS:
        problem = one(seed, epsilon)
        value, _ = by_hand(problem)
        lower, upper = (
            (problem.images - epsilon).clamp_min(0),
            (problem.images + epsilon).clamp_max(1),
        )
        w = torch.atanh(0.9 * problem.uniform()).double().requires_grad_(True)
        adam, expected = torch.optim.Adam([w], lr=0.1, betas=(0.9, 0.9), eps=1e-30), []
        for _ in range(13):
            x = (lower + upper) / 2 + (upper - lower) / 2 * torch.tanh(w)
            expected.append(x.detach())
            adam.zero_grad()
            x.backward(value(x)[1])
            adam.step()
        ours, _ = evaluated(registry.by_name("cw-exact-12"), problem)
        assert torch.cat(ours).numpy() == pytest.approx(torch.cat(expected).numpy(), abs=1e-5)


# Decaying PGD


@dataclasses.dataclass(frozen=True)
class Valley:
    """The distance to the clean image, pixel by pixel: each step from inside the ball leads towards
    its middle, so none is cut off.
    """

    images: torch.Tensor
    seen: list

    def __call__(self, images):
        self.seen.append(images.detach().clone())
        return (images - self.images).abs().sum((1, 2, 3))

    def losses(self, images):
        loss = self(images)
        return Losses(loss, loss)

    def select(self, rows):
        return Valley(self.images[rows], self.seen)


@pytest.mark.parametrize("steps", [1, 2, 7, 64])
def test_the_steps_of_decaying_pgd_fall_from_half_the_budget_along_half_a_cosine(steps):
    clean, epsilon = torch.full((2, 3, 8, 8), 0.5), torch.tensor([0.4, 0.01], dtype=torch.float64)
    valley = Valley(clean, [])
    DecayingPGD(steps=steps)(Problem(valley, clean, epsilon))
    images = torch.stack(valley.seen).double()
    assert len(images) == steps + 1
    moved = (images[1:] - images[:-1]).abs().amax((2, 3, 4)) / epsilon
    assert moved[0].tolist() == pytest.approx([0.5, 0.5], rel=1e-4)
    expected = [0.25 * (1 + math.cos(math.pi * number / steps)) for number in range(steps)]
    for row in range(2):
        assert moved[:, row].tolist() == pytest.approx(expected, abs=1e-4)
        assert float(moved[:, row].sum()) == pytest.approx((steps + 1) / 4, rel=1e-3)


# Square


def box(changed):
    """Height and width of the smallest window that holds all changed pixels of (C, H, W)."""
    rows, columns = changed.any(0).any(1).nonzero(), changed.any(0).any(0).nonzero()
    return (
        (int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1)
        if len(rows)
        else (0, 0)
    )


def stated_side(query, queries, pixels):
    """AutoAttack's version of Andriushchenko et al. (2020): p = 0.8 is halved at these iterations
    of 10,000.
    """
    p = 0.8
    for at in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000):
        if query / queries * 10_000 > at:
            p /= 2
    return max(1, round(math.sqrt(p * pixels)))


def test_squares_windows_have_the_stated_sides_and_reach_all_edges():
    """On a flat objective nothing is kept: each candidate is the first image with one window
    replaced.
    """
    clean, queries = torch.full((2, 3, 32, 32), 0.5), 1000
    objective = CosineDistance(
        lambda images: images.flatten(1)[:, :2] * 0.0 + 1.0, torch.ones(2, 2)
    )
    problem = watch(
        Problem(objective, clean, torch.full((2,), 0.1, dtype=torch.float64), seeds=torch.arange(2))
    )
    registry.by_name(f"square-{queries}")(problem)
    first, *candidates = (entry.images for entry in problem.objective.log)
    widest, touched = {}, set()
    for query, candidate in enumerate(candidates, 1):
        side = stated_side(query, queries, 32 * 32)
        for changed in candidate != first:  # a column whose signs are the stripe's does not change
            height, width = box(changed)
            assert height in (0, side)
            assert width <= side
            widest[side] = max(width, widest.get(side, 0))
            touched |= {
                (axis, end)
                for axis in (0, 1)
                for end in (0, -1)
                if changed.any(0).any(1 - axis)[end]
            }
    assert list(widest) == [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]
    assert all(width == side for side, width in widest.items())
    assert len(touched) == 4


def test_square_keeps_a_candidate_where_the_score_falls_and_only_there():
    problem = watch(problem_of(4, epsilon=0.2))
    result = registry.by_name("square-60")(problem)
    for row in range(4):
        seen = torch.cat([entry.images[[row]] for entry in problem.objective.asked(row)])
        scores = score(problem.objective.select(torch.full((len(seen),), row)), seen)
        current, kept = 0, 0
        for query in range(1, 60):
            side = stated_side(query, 60, 16)
            # made from the best so far
            assert all(length <= side for length in box(seen[query] != seen[current]))
            if scores[query] < scores[current]:
                current, kept = query, kept + 1
        assert kept > 3
        assert torch.equal(result.images[row], seen[current])
        assert scores[current] < scores[0]


@pytest.mark.parametrize("queries", [1, 2, 37])
def test_square_asks_for_as_many_scores_as_it_has_queries_and_for_no_gradient(queries):
    problem = watch(problem_of(3))
    result = registry.by_name(f"square-{queries}")(problem)
    assert [(entry.rows, entry.gradient) for entry in problem.objective.log] == [
        ([0, 1, 2], False)
    ] * queries
    assert result.forward_passes.tolist() == [queries] * 3
    assert result.gradient_steps.tolist() == [0] * 3


def test_square_begins_with_vertical_stripes_at_the_edge_of_the_ball():
    problem = watch(dataclasses.replace(problem_of(3), images=torch.full((3, 3, 4, 4), 0.5)))
    registry.by_name("square-1")(problem)
    change = problem.objective.log[0].images - 0.5
    assert change.abs().numpy() == pytest.approx(0.1, abs=1e-6)
    assert torch.equal(change, change[:, :, :1].expand_as(change))
    assert not torch.equal(change, change[..., :1].expand_as(change))


# Noise


def test_noise_is_uniform_over_the_ball():
    images = torch.full((4, 3, 32, 32), 0.5)
    objective = CosineDistance(LinearEncoder((3, 32, 32)), torch.ones(4, 2))
    problem = Problem(
        objective,
        images,
        torch.tensor([0.01, 0.1, 0.3, 0.5], dtype=torch.float64),
        seeds=torch.arange(4),
    )
    noise = (registry.by_name("noise")(problem).images - images) / problem.epsilon.float().view(
        -1, 1, 1, 1
    )
    for row in range(4):
        quarters = torch.histc(noise[row], 4, -1, 1) / noise[row].numel()
        # 5 standard deviations of 3072 draws
        assert quarters.tolist() == pytest.approx([0.25] * 4, abs=0.04)


def test_what_an_image_draws_depends_on_its_own_seed_and_draw_alone():
    problem = problem_of(3)
    for row in range(3):
        assert torch.equal(alone(problem, row).random_start()[0], problem.random_start()[row])
    noise = dataclasses.replace(problem, seeds=torch.tensor([5, 5, 6])).uniform()
    assert torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[1], noise[2])
    others = [
        dataclasses.replace(problem, seeds=torch.tensor([seed] * 3), draw=draw)
        for seed in range(4)
        for draw in range(4)
    ]
    streams = [changed.uniform()[0] for changed in others]
    rows = functional.normalize(torch.stack(streams).flatten(1))
    # neighbouring seeds and draws: 48 numbers that hardly correlate
    assert (rows @ rows.T - torch.eye(16)).abs().max() < 0.7
