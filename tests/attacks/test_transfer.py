"""Objectives made for transfer: several networks, diverse inputs, smoothed gradients."""

import dataclasses

import numpy as np
import pytest
import torch

from advrec.attacks.objective import evaluate, score
from advrec.attacks.transfer import SHRINK, Diverse, Smooth, Together
from advrec.recommenders.losses import CosineDistance
from tests.attacks.problems import curved, precise, problem_of

COUNT = 4


@pytest.fixture
def several():
    """Three networks' objectives, one of which has gradients a thousand times as large."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for seed in range(3):
        targets = torch.randn(COUNT, 8, generator=generator)
        made.append(CosineDistance(precise(curved(8, seed)), targets))
    return tuple(made)


@dataclasses.dataclass(frozen=True)
class Loud(CosineDistance):
    def losses(self, images):
        return type(super().losses(images))(*(1000.0 * loss for loss in super().losses(images)))


def images_of(size=4, count=COUNT):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def test_gradients_of_several_networks_count_alike_and_losses_are_means(several):
    images = images_of()
    loud = Loud(several[2].embed, several[2].targets)
    together = evaluate(Together((*several[:2], loud)), images)
    apart = [evaluate(objective, images) for objective in (*several[:2], loud)]
    wanted = sum(e.gradient / e.gradient.abs().mean((1, 2, 3), keepdim=True) for e in apart) / 3
    assert together.gradient.allclose(wanted, rtol=1e-4, atol=1e-6)
    assert together.loss.allclose(sum(e.loss for e in apart) / 3)
    assert score(Together(several), images).allclose(sum(o(images) for o in several) / 3)


def test_several_networks_are_selected_together(several):
    images, rows = images_of(), torch.tensor([3, 1])
    whole = evaluate(Together(several), images)
    some = evaluate(Together(several).select(rows), images[rows])
    assert some.gradient.allclose(whole.gradient[rows], rtol=1e-4, atol=1e-7)
    surrogate = evaluate(Together(several).surrogate(), images)
    assert torch.equal(surrogate.score, whole.score)
    assert not surrogate.gradient.allclose(whole.gradient, rtol=0.1)


def diverse(objective, probability, count=COUNT):
    return Diverse(objective, probability, torch.arange(count), torch.zeros(count).long())


def test_no_diversity_and_a_kernel_of_one_pixel_change_nothing(several):
    images = images_of()
    plain = evaluate(several[0], images)
    for same in (diverse(several[0], 0.0), Smooth(several[0], 1)):
        for mine, its in zip(evaluate(same, images), plain, strict=True):
            assert torch.equal(mine, its)


def test_diverse_images_are_shrunk_and_moved_within_the_frame(several):
    white = torch.ones(200, 3, 32, 32)
    changed = diverse(several[0], 1.0, 200)._changed(white)
    area = changed[:, 0].mean((1, 2))
    assert area.max() <= 1.0 + 1e-5
    assert area.min() >= (1.0 - SHRINK) ** 2 - 1e-3
    assert area.std() > 0.02
    # Black lies on any side: above as often as below.
    above, below = (changed[:, 0, row].mean(1) < 0.5 for row in (0, -1))
    assert abs(int(above.sum()) - int(below.sum())) < 40
    assert above.any()
    kept = diverse(several[0], 0.25, 200)._changed(white)
    assert 0.65 < (kept == 1.0).flatten(1).all(1).float().mean() < 0.85


def test_a_diverse_gradient_depends_on_the_image_alone_and_the_score_is_plain(several):
    images, rows = images_of(), torch.tensor([2])
    whole, one = diverse(several[0], 1.0), diverse(several[0], 1.0).select(rows)
    gradients = []
    for _ in range(3):
        all_of, mine = evaluate(whole, images), evaluate(one, images[rows])
        assert mine.gradient[0].allclose(all_of.gradient[2], rtol=1e-4, atol=1e-7)
        assert torch.equal(all_of.score, several[0](images))
        gradients.append(all_of.gradient)
    assert not gradients[0].allclose(gradients[1], rtol=1e-2)
    assert whole.taken.tolist() == [3] * COUNT


def test_smoothed_gradients_are_convolved_channel_by_channel(several):
    side, images = 3, images_of()
    gradient = evaluate(several[0], images).gradient.double().numpy()
    line = np.exp(-0.5 * (np.arange(-1, 2) * 3.0) ** 2)
    kernel = np.outer(line, line) / line.sum() ** 2
    padded = np.pad(gradient, ((0, 0), (0, 0), (1, 1), (1, 1)))
    wanted = np.zeros_like(gradient)
    for row in range(side):
        for column in range(side):
            wanted += kernel[row, column] * padded[:, :, row : row + 4, column : column + 4]
    smoothed = evaluate(Smooth(several[0], side), images)
    assert smoothed.gradient.double().numpy() == pytest.approx(wanted, rel=1e-4, abs=1e-8)
    assert torch.equal(smoothed.loss, several[0](images))


def test_an_attack_on_one_network_together_moves_as_on_it_alone():
    from advrec.attacks import registry

    problem = problem_of(COUNT)
    same = dataclasses.replace(problem, objective=Together((problem.objective,)))
    for name in ("pgd-5", "apgd-9"):
        method = registry.by_name(name)
        assert method(same).images.allclose(method(problem).images, atol=1e-6)
