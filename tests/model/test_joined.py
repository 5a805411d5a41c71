"""Joined networks: test 10 of recommenders, against each part by itself in float64."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from advrec.attacks.objective import evaluate
from advrec.model import checkpoint
from advrec.model.encoder import embed_all, frozen, plain_step
from advrec.model.joined import JoinedArchitecture, JoinedNetwork
from advrec.recommenders.losses import CosineDistance
from advrec.recommenders.ranks import similar_articles
from tests.conftest import random_network


def join(*parts, weights=None):
    architecture = JoinedArchitecture(
        parts=tuple(part.architecture for part in parts), weights=weights or (1.0,) * len(parts)
    )
    return JoinedNetwork(architecture, parts).eval()


@pytest.fixture(scope="module")
def parts():
    """Two networks whose embeddings differ in length by a factor of a hundred."""
    first, second = random_network(seed=1), random_network(categories=2, textures=0, seed=2)
    last = [layer for layer in second.backbone.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        last[-1].weight.mul_(0.01)
        last[-1].bias.mul_(0.01)
    return first, second


IMAGES = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def units(network):
    return functional.normalize(network.embed(IMAGES).double(), dim=1)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (2.0, 0.5)])
def test_10_a_joined_cosine_is_the_mean_of_the_parts_by_their_weights_squared(parts, weights):
    squares = np.square(weights)
    cosines = [(units(part) @ units(part).T).numpy() for part in parts]
    assert np.abs(cosines[0] - cosines[1]).max() > 0.05  # or any mean would do

    found = units(join(*parts, weights=weights))

    expected = sum(w * cosine for w, cosine in zip(squares, cosines, strict=True)) / squares.sum()
    np.testing.assert_allclose((found @ found.T).numpy(), expected, atol=1e-6)


def test_10_squared_distances_add(parts):
    with torch.no_grad():
        found = join(*parts, weights=(1.0, 3.0)).embed(IMAGES).double()

    first, second = (torch.cdist(units(part), units(part)).square() for part in parts)

    distances = torch.cdist(found, found).square()
    torch.testing.assert_close(distances, first + 9.0 * second, atol=1e-5, rtol=0)


def test_10_a_network_joined_with_itself_ranks_as_it_does_alone(parts, catalog):
    pixels = catalog.pixels(range(len(catalog)))
    alone, twice = (
        similar_articles(embed_all(network.embed, pixels))
        for network in (parts[0], join(parts[0], parts[0], weights=(0.3, 2.0)))
    )
    queries = np.arange(len(catalog), dtype=np.int32)

    np.testing.assert_array_equal(twice.top_k(queries, 10).ids, alone.top_k(queries, 10).ids)


def test_10_the_heavier_part_decides_and_common_factors_do_not(parts):
    heavy = units(join(*parts, weights=(1000.0, 0.001)))
    alone = units(parts[0])
    torch.testing.assert_close(heavy @ heavy.T, alone @ alone.T, atol=1e-6, rtol=0)
    one, five = (units(join(*parts, weights=(w, 2.0 * w))) for w in (1.0, 5.0))
    torch.testing.assert_close(one @ one.T, five @ five.T, atol=1e-6, rtol=0)


def test_each_part_keeps_its_fused_step_whose_gradients_are_the_plain_ones(parts):
    network = join(*parts, weights=(1.0, 2.0))
    ready = frozen(copy.deepcopy(network))
    images = IMAGES.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        targets = network.embed(IMAGES).roll(1, 0)

    fused, plain = (
        evaluate(CosineDistance(embed, targets), images) for embed in (ready.embed, ready.plain)
    )

    assert all(part.fused.is_made for part in ready.networks)
    assert plain_step(ready) is None
    torch.testing.assert_close(fused.loss, plain.loss, atol=1e-6, rtol=0)
    far = (fused.gradient - plain.gradient).flatten(1).norm(dim=1)
    # Where a value lies at a kink of an activation, rounding decides: most have to agree.
    assert float((far / plain.gradient.flatten(1).norm(dim=1)).median()) < 1e-5
    unfolded = evaluate(CosineDistance(network.embed, targets), images)
    torch.testing.assert_close(fused.loss, unfolded.loss, atol=1e-5, rtol=0)


def test_gradients_equal_finite_differences(parts):
    network = join(*(copy.deepcopy(part).double() for part in parts), weights=(1.0, 2.0))
    images = IMAGES[:2].double()
    with torch.no_grad():
        objective = CosineDistance(network.embed, network.embed(images.flip(0)))
    found = evaluate(objective, images).gradient
    towards = torch.rand(images.shape, dtype=torch.float64) - 0.5

    with torch.no_grad():
        up, down = (objective(images + step * towards) for step in (1e-6, -1e-6))

    slopes = (found * towards).flatten(1).sum(1)
    torch.testing.assert_close((up - down) / 2e-6, slopes, rtol=1e-4, atol=1e-9)


def test_a_joined_network_of_a_joined_one_is_saved_and_loaded(parts, tmp_path):
    network = join(join(*parts, weights=(1.0, 2.0)), parts[1])
    checkpoint.save(tmp_path / "m.safetensors", network)

    loaded = checkpoint.load(tmp_path / "m.safetensors")

    assert loaded.architecture == network.architecture
    assert loaded.dimension == 3 * parts[0].dimension
    with torch.no_grad():
        torch.testing.assert_close(loaded.embed(IMAGES), network.embed(IMAGES), rtol=0, atol=0)
        again = frozen(loaded).embed(IMAGES)
    torch.testing.assert_close(again, network.embed(IMAGES), rtol=1e-4, atol=1e-5)
