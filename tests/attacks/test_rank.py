"""The attack rank-Q, and what a shop shows it: ids of lists, each counted once."""

import dataclasses
import inspect
import math

import numpy as np
import pytest
import torch

from advrec.attacks import registry
from advrec.attacks.blind import UniformNoise
from advrec.attacks.problem import Goal, Problem
from advrec.attacks.rank import FOLLOW, UNKNOWN, WALK, nearness
from advrec.errors import ConfigError
from advrec.recommenders.ranks import similar_articles
from advrec.recommenders.recommender import Recommender
from advrec.recommenders.shown import ShownLists
from tests.conftest import STUDY, study

SIDE, ARTICLES, PAIRS = 8, 150, 12
EPSILON = 0.15


@pytest.fixture(scope="module")
def shop():
    """150 random images, embedded by a linear map."""
    generator = torch.Generator().manual_seed(5)
    matrix = torch.randn(3 * SIDE * SIDE, 6, generator=generator)
    images = torch.rand(ARTICLES, 3, SIDE, SIDE, generator=generator)

    def embed(batch):
        return (batch - 0.5).flatten(1) @ matrix

    made = Recommender(embed=embed, index=similar_articles(embed(images).numpy()))
    return made, images


def problem_of(shop, count=PAIRS, epsilon=EPSILON, stop="never", shown=ShownLists):
    recommender, images = shop
    targets, articles = np.arange(count), np.arange(count, 2 * count)
    return Problem(
        recommender.objective(targets),
        images[articles].clone(),
        torch.full((count,), epsilon, dtype=torch.float64),
        seeds=torch.arange(count),
        goal=Goal(below=torch.full((count,), -torch.inf), stop=stop),
        lists=shown(recommender, targets.astype(np.int32), articles.astype(np.int32)),
    )


def ranks(shop, problem, images):
    lists, index = problem.lists, shop[0].index
    return index.ranks(lists._targets, lists._articles, shop[0].embeddings(images))


class Written(ShownLists):
    """Writes down what is asked, and by whom."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.log = []

    def of_articles(self, rows, article_ids):
        self.log += rows.tolist()
        return super().of_articles(rows, article_ids)

    def of_images(self, rows, images):
        self.log += rows.tolist()
        return super().of_images(rows, images)

    def of_targets(self, rows, images):
        self.log += rows.tolist()
        return super().of_targets(rows, images)


def test_every_list_is_counted_once_and_none_is_asked_beyond_q(shop):
    problem = problem_of(shop, shown=Written)
    result = registry.by_name("rank-90")(problem)
    asked = np.bincount(problem.lists.log, minlength=PAIRS)
    assert result.forward_passes.tolist() == asked.tolist() == [90] * PAIRS
    assert not result.gradient_steps.any()
    assert (result.images - problem.images).abs().max() <= EPSILON + 1e-6
    assert result.images.min() >= 0.0
    assert result.images.max() <= 1.0


def test_on_a_linear_encoder_it_beats_noise(shop):
    problem = problem_of(shop)
    found, noise = (
        ranks(shop, problem, attack(problem).images)
        for attack in (registry.by_name("rank-400"), UniformNoise())
    )
    clean = ranks(shop, problem, problem.images)
    assert (found <= 10).sum() >= (noise <= 10).sum() + PAIRS // 2
    assert np.median(found) < np.median(noise) / 3
    assert np.median(found) < np.median(clean) / 3


def test_what_an_image_ends_as_depends_on_no_other_image(shop):
    problem = problem_of(shop, 4)
    together = registry.by_name("rank-60")(problem)
    for row in (0, 3):
        alone = registry.by_name("rank-60")(problem.select(torch.tensor([row])))
        assert torch.equal(alone.images[0], together.images[row])


def test_it_stops_where_the_image_stands_first(shop):
    stopped = registry.by_name("rank-400")(problem_of(shop, epsilon=0.4, stop="rank-1"))
    early = stopped.forward_passes < 400
    assert early.any()
    problem = problem_of(shop, epsilon=0.4)
    assert (ranks(shop, problem, stopped.images)[early.numpy()] == 1).all()


def test_only_lists_of_ids_reach_the_attack(shop):
    """No loss of the problem is asked, and what the shop shows are numbers of articles."""

    @dataclasses.dataclass(frozen=True)
    class Silent:
        def __call__(self, images):
            pytest.fail("a score was asked for")

        losses = surrogate = __call__

        def select(self, rows):
            return self

    problem = dataclasses.replace(problem_of(shop, 3), objective=Silent())
    registry.by_name("rank-40")(problem)
    rows, images = torch.arange(3), problem.images
    for shown in (
        problem.lists.of_images(rows, images),
        problem.lists.of_targets(rows, images),
        problem.lists.of_articles(rows, rows),
    ):
        assert shown.dtype == torch.int64
        assert shown.shape == (3, 10)
    public = {name for name, _ in inspect.getmembers(problem.lists) if not name.startswith("_")}
    asking = {"of_images", "of_targets", "of_articles"}
    assert public == asking | {"select", "asked", "target_ids", "article_ids"}


def test_lists_are_those_of_the_distances(shop):
    recommender, images = shop
    problem = problem_of(shop, 5)
    rows, changed = torch.arange(5), images[40:45]
    vectors = recommender.embeddings(changed).astype(np.float64)
    items = recommender.bank.items.astype(np.float64)
    units = items / np.linalg.norm(items, axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    own, theirs = (
        shown(rows, changed) for shown in (problem.lists.of_images, problem.lists.of_targets)
    )
    for row in range(5):
        target, article = row, 5 + row
        others = [each for each in range(ARTICLES) if each != article]
        order = sorted(others, key=lambda each: -units[each] @ vectors[row])
        assert own[row].tolist() == order[:10]
        near = {each: units[each] @ units[target] for each in others if each != target}
        near[article] = vectors[row] @ units[target]
        assert theirs[row].tolist() == sorted(near, key=lambda each: -near[each])[:10]


def test_nearness_is_the_expected_number_of_visits():
    lists = {0: [1, 2], 1: [2], 3: [4]}
    near = nearness(lists, 2)
    weights = np.zeros((5, 5))
    for one, ten in lists.items():
        for place, other in enumerate(ten):
            weights[one, other] += 1.0 / math.log2(place + 2)
    both = weights + weights.T
    steps = FOLLOW * both / both.sum(1, keepdims=True)
    visits = np.linalg.solve(np.eye(5) - steps, np.eye(5)[2])
    for article in (0, 1, 2):
        assert near[article] == pytest.approx(math.log(visits[article]), abs=2 * FOLLOW**WALK)
    assert near[3] == near[4] == math.log(UNKNOWN)
    assert near[2] > near[1] > near[0] > near[3]


@pytest.mark.parametrize(
    "keys", [{"from": "unsecured"}, {"nested": True}, {"stop": "converged"}, {"loss": "score"}]
)
def test_keys_that_need_more_than_lists_are_refused(keys):
    entry = {"name": "r", "attack": "rank-9"} | keys
    with pytest.raises(ConfigError, match="rank-9 asks for the lists of the shop itself"):
        study(evaluation=STUDY["evaluation"] | {"attacks": [entry]})
    with pytest.raises(ConfigError, match="restarts is 2, but rank-9"):
        registry.build("rank-9", restarts=2)
