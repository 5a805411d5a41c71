import numpy as np
import torch

from advrec.model import checkpoint
from advrec.model.encoder import embed_all, frozen, in_few_sizes, refresh, to_images
from tests.conftest import random_network


def test_a_frozen_copy_computes_the_same_function_and_leaves_the_original_alone():
    # in float64, where rounding does not blur what is compared
    network = random_network().double().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    copied, images = frozen(network), torch.rand(4, 3, 32, 32, dtype=torch.float64)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in copied.modules())
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    assert network.training
    expected = network.eval().embed(images)
    torch.testing.assert_close(copied.embed(images), expected, rtol=1e-9, atol=1e-9)
    assert expected.std() > 1e-3  # not a collapsed network, for which anything is equal
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_refresh_brings_a_copy_up_to_date():
    first, second, images = random_network(seed=1), random_network(seed=2), torch.rand(4, 3, 32, 32)
    copied = frozen(first)
    refresh(copied, second)
    fresh = frozen(second)
    for ours, expected in zip(copied(images), fresh(images), strict=True):
        torch.testing.assert_close(ours, expected)
    assert not torch.allclose(copied.embed(images), first.embed(images))


def test_attacks_see_pixels_in_0_1_and_normalisation_lies_inside():
    network, images = random_network(), torch.rand(2, 3, 32, 32)
    by_hand = (images - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    expected = network.backbone(by_hand).mean((2, 3))
    torch.testing.assert_close(network.embed(images), expected)
    pixels = (images.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    assert (to_images(pixels) * 255 - images * 255).abs().max() <= 0.5 + 1e-4


def test_a_catalog_is_embedded_in_the_batches_asked_for_bytes_and_floats_alike():
    network, seen = frozen(random_network()), []
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    pixels.setflags(write=False)

    def embed(images):
        seen.append(len(images))
        return network.embed(images)

    embeddings = embed_all(embed, pixels, batch=3)
    assert seen == [3, 3, 1]
    floats = (pixels / 255.0).astype(np.float32)
    assert np.array_equal(embed_all(embed, floats, batch=3), embeddings)
    with torch.inference_mode():
        parts = [network.embed(to_images(pixels[first : first + 3].copy())) for first in (0, 3, 6)]
    assert np.array_equal(torch.cat(parts).numpy(), embeddings)


def test_a_checkpoint_gives_back_the_network(tmp_path):
    network, images = random_network(), torch.rand(2, 3, 32, 32)
    checkpoint.save(tmp_path / "model.safetensors", network)
    loaded = checkpoint.load(tmp_path / "model.safetensors")
    assert loaded.architecture == network.architecture
    for ours, expected in zip(loaded(images), network(images), strict=True):
        assert torch.equal(ours, expected)


def test_in_few_sizes_is_the_same_function_and_gradient_at_few_sizes_of_batches():
    convolutions = (torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3))
    # in float64, where rounding does not blur what is compared
    embed, seen = torch.nn.Sequential(*convolutions, torch.nn.Flatten()).double(), set()

    def watched(images):
        seen.add(len(images))
        return embed(images)

    padded = in_few_sizes(watched)
    images = torch.rand(67, 3, 8, 8, dtype=torch.float64)
    for count in range(1, 68):
        part, other = (images[:count].clone().requires_grad_() for _ in range(2))
        first, second = padded(part), embed(other)
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-9)
        if count in (1, 9, 67):
            for value in (first, second):
                value.square().sum().backward()
            torch.testing.assert_close(part.grad, other.grad, rtol=1e-7, atol=1e-9)
    assert seen == {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80}
