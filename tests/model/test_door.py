"""A door stands before the network, wherever this is copied, joined, saved or trained."""

import json

import pytest
import safetensors
import torch

from advrec.delivery.chain import chain
from advrec.delivery.door import ATTACK, VERDICT, Door
from advrec.model import checkpoint
from advrec.model.encoder import frozen
from tests.conftest import random_network
from tests.model.test_joined import join

IMAGES = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def guarded(ingest, seed=0, **keys):
    network = random_network(**keys).eval()
    network.behind(Door(ingest=ingest, seed=seed))
    return network


def played(embed, images):
    """Embeddings (N, D), and the gradient (N, 3, H, W) of their sum."""
    images = images.clone().requires_grad_()
    made = embed(images)
    return made.detach(), torch.autograd.grad(made.sum(), images)[0]


@pytest.mark.parametrize("ingest", ["jpeg-75", "blur-1+bits-3"])
def test_images_pass_the_real_chain_and_gradients_its_slope(ingest):
    network = frozen(guarded(ingest))
    made, slope = played(network.embed, IMAGES)
    arrived = chain(ingest)(IMAGES)
    expected, inner = played(network.bare, arrived)
    assert torch.equal(made, expected)
    seen = IMAGES.clone().requires_grad_()
    (outer,) = torch.autograd.grad(chain(ingest).slope(seen), seen, inner)
    assert (slope - outer).norm() < 1e-5 * outer.norm()
    bare = frozen(random_network()).embed(IMAGES)
    assert torch.equal(network.bare(IMAGES), bare)
    assert not torch.allclose(made, bare, atol=1e-3)


def test_the_file_says_the_door_and_one_without_it_is_as_it_was(tmp_path):
    network = guarded("jpeg-75+smooth-0.1-3", seed=9)
    checkpoint.save(tmp_path / "a", network)
    again = checkpoint.load(tmp_path / "a")
    assert again.architecture == network.architecture
    with torch.no_grad():
        assert torch.equal(again.embed(IMAGES), network.embed(IMAGES))
    network.behind(None)
    checkpoint.save(tmp_path / "b", network)
    with safetensors.safe_open(tmp_path / "b", framework="pt") as handle:
        said = json.loads(handle.metadata()["architecture"])
    assert set(said) == {"backbone", "width", "categories", "textures"}


def test_a_joined_door_acts_before_all_parts_and_theirs_after_it(tmp_path):
    first, second = guarded("bits-2", seed=1), random_network(seed=2).eval()
    whole = join(first, second)
    whole.behind(Door(ingest="blur-2"))
    checkpoint.save(tmp_path / "j", whole)
    arrived = chain("blur-2")(IMAGES)
    for network in (whole, frozen(checkpoint.load(tmp_path / "j"))):
        made = network.embed(IMAGES)
        assert torch.allclose(made[:, : first.dimension], unit(first.embed(arrived)), atol=1e-4)
        assert torch.allclose(made[:, first.dimension :], unit(second.embed(arrived)), atol=1e-4)
        bare = network.bare(IMAGES)
        assert torch.allclose(bare[:, : first.dimension], unit(first.bare(IMAGES)), atol=1e-4)
    whole.behind(None)
    assert whole.is_guarded  # by a part's
    assert not join(second, second).is_guarded


def unit(embeddings):
    return torch.nn.functional.normalize(embeddings, dim=1)


def test_smoothing_is_the_mean_over_noisy_images_and_its_gradient_the_mean_of_theirs():
    network = frozen(guarded("bits-4+smooth-0.2-7"))
    made, slope = played(network.embed, IMAGES)
    arrived = chain("bits-4")(IMAGES)
    parts, slopes = [], []
    streams = [network.door._stream(image, VERDICT) for image in arrived]
    for _ in range(7):
        noise = torch.stack([torch.randn(3, 32, 32, generator=stream) for stream in streams])
        one, gradient = played(network.bare, arrived + 0.2 * noise)
        parts.append(one)
        slopes.append(gradient)
    assert torch.allclose(made, torch.stack(parts).mean(0), atol=1e-5)
    mean = torch.stack(slopes).mean(0)
    assert (slope - mean).norm() < 1e-5 * mean.norm()
    assert torch.stack(parts).std(0).max() > 0.01  # or any number of samples would do


def test_the_noise_of_an_image_is_its_own_and_the_verdicts_another_than_an_attacks():
    network = frozen(guarded("smooth-0.2-2"))
    whole = network.embed(IMAGES)
    assert torch.equal(whole, network.embed(IMAGES.contiguous(memory_format=torch.channels_last)))
    alone = torch.cat([network.embed(image[None]) for image in IMAGES])
    assert torch.allclose(whole, alone, atol=1e-5)
    seen = network.seen(IMAGES)
    moved = network.embed(IMAGES + 1e-6)
    other = frozen(guarded("smooth-0.2-2", seed=3)).bare(IMAGES)
    size = (whole - other).norm()
    for another in (seen, moved):
        assert (whole - another).norm() > 0.02 * size
    draws = {network.door._stream(IMAGES[0], of).initial_seed() for of in (VERDICT, ATTACK)}
    assert len(draws) == 2
    assert (
        Door(ingest="smooth-0.2-2", seed=1)._stream(IMAGES[0], VERDICT).initial_seed() not in draws
    )


def test_training_takes_one_noisy_image_as_dropout_is_drawn():
    network = guarded("smooth-0.5-50").train()
    torch.manual_seed(4)
    noise = torch.randn_like(IMAGES)
    expected = network.bare(IMAGES + 0.5 * noise)
    torch.manual_seed(4)
    assert torch.equal(network.embed(IMAGES), expected)
    assert not torch.equal(network.embed(IMAGES), expected)
    # A defense that keeps BatchNorm's statistics trains in evaluation mode.
    torch.manual_seed(4)
    assert torch.equal(network.eval().embed(IMAGES), network.bare(IMAGES + 0.5 * noise))
