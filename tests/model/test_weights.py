"""Weights to start from: torchvision's own loader with its cache, a network that is not there,
local files, wrong files.
"""

import pytest
import safetensors.torch
import torch
import torchvision

from advrec.errors import AdvrecError, ConfigError
from advrec.model import backbones, checkpoint
from advrec.model.fashionnet import Architecture, FashionNet

FILES = {"mobilenet_v2": "mobilenet_v2-b0353104.pth", "resnet18": "resnet18-f37072fd.pth"}


def untrained(name, seed=3):
    torch.manual_seed(seed)
    return torchvision.models.get_model(name).eval()


def fashionnet(name, width=1.0):
    torch.manual_seed(9)
    return FashionNet(
        Architecture(backbone=name, width=width, categories=("a", "b"), textures=())
    ).eval()


def penultimate(network, images):
    """Features that torchvision's classifier hands to its last linear layer."""
    seen = []
    last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
    handle = last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        network(images)
    handle.remove()
    return seen[0]


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty cache of torch's, and no way to the network."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    directory = tmp_path / "hub" / "checkpoints"
    directory.mkdir(parents=True)
    return directory


@pytest.mark.parametrize("name", FILES)
def test_imagenet_weights_come_through_torchvisions_own_loader(offline, name):
    original = untrained(name)
    torch.save(original.state_dict(), offline / FILES[name])
    network, _ = backbones.build(name, width=1.0, imagenet=True)
    loaded = network.state_dict()
    prefix = "features." if name == "mobilenet_v2" else ""
    assert len(loaded) > 50
    for key, value in loaded.items():
        assert torch.equal(value, original.state_dict()[prefix + key]), key


@pytest.mark.parametrize("content", [None, b"", b"<html>proxy error</html>"])
def test_weights_that_cannot_be_had_are_said_with_the_file_and_the_place(offline, content):
    if content is not None:
        (offline / FILES["mobilenet_v2"]).write_bytes(content)
    with pytest.raises(AdvrecError) as error:
        backbones.build("mobilenet_v2", width=1.0, imagenet=True)
    for part in (
        "ImageNet weights of mobilenet_v2 cannot be loaded",
        FILES["mobilenet_v2"],
        str(offline),
        "set weights: none",
    ):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "mobilenet_v3_large", "resnet18", "efficientnet_b0", "convnext_tiny"]
)
def test_a_local_file_of_torchvisions_gives_its_embedding(tmp_path, name, ending):
    original, path = untrained(name), tmp_path / f"weights.{ending}"
    save = torch.save if ending == "pth" else safetensors.torch.save_file
    save(original.state_dict(), path)
    network = fashionnet(name)
    images = torch.rand(2, 3, 64, 64)
    before = network.embed(images)
    checkpoint.load_backbone(path, network)
    with torch.inference_mode():
        embeddings = network.embed(images)
    expected = penultimate(original, (images - network.mean) / network.std)
    scale = expected.std()  # an untrained network's is tiny
    assert torch.allclose(embeddings / scale, expected / scale, atol=1e-3)
    assert not torch.allclose(embeddings / scale, before / scale, atol=0.1)


def test_a_file_of_ours_gives_its_backbone(tmp_path):
    trained, network = fashionnet("mobilenet_v2", 0.35), fashionnet("mobilenet_v2", 0.35)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.1)
    checkpoint.save(tmp_path / "model.safetensors", trained)
    checkpoint.load_backbone(tmp_path / "model.safetensors", network)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(network.embed(images), trained.embed(images))


@pytest.mark.parametrize(("name", "width"), [("mobilenet_v2", 0.5), ("resnet18", 1.0)])
def test_a_file_of_another_network_is_refused(tmp_path, name, width):
    torch.save(untrained("mobilenet_v2").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match=f"does not fit {name} of width {width}"):
        checkpoint.load_backbone(tmp_path / "weights.pth", fashionnet(name, width))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ConfigError, match="cannot be read as weights"):
        checkpoint.load_backbone(tmp_path / "text.pth", fashionnet(name, width))
