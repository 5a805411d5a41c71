"""Weights to start from: torchvision's own loader with its cache, a network that is not there,
local files, wrong files.
"""

import re

import pytest
import safetensors.torch
import torch
import torchvision

from advrec.errors import AdvrecError, ConfigError
from advrec.model import adoption, backbones, checkpoint, own, state_dict, weight_files
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.model.state_dict import Layout
from advrec.model.weight_files import WeightsFile
from advrec.spec.models import OwnModel

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


@pytest.mark.parametrize(
    ("name", "weights"),
    [("inception_v3", "Inception_V3_Weights"), ("googlenet", "GoogLeNet_Weights")],
)
def test_a_network_whose_flags_depend_on_weights_is_built_as_torchvision_builds_it(
    offline, tmp_path, monkeypatch, name, weights
):
    """Torchvision transforms the input where it makes the network with weights, and only there."""
    enum = getattr(torchvision.models, weights).IMAGENET1K_V1
    bare = torchvision.models.get_model(name, weights=None, init_weights=False)
    torch.save(bare.state_dict(), offline / enum.url.rpartition("/")[2])
    for layer in (torch.nn.Conv2d, torch.nn.Linear):  # all are loaded, and drawing takes seconds
        monkeypatch.setattr(layer, "reset_parameters", lambda self: None)
    theirs = torchvision.models.get_model(name, weights=enum).eval()
    torch.save(theirs.state_dict(), tmp_path / "own.pt")  # of googlenet without its auxiliaries
    theirs.fc = torch.nn.Identity()
    loaded = backbones.headless(name, weights="IMAGENET1K_V1").network
    built = own.build(
        own.OwnArchitecture(model=name, image_size=80, dimension=1, with_weights=True)
    ).module.network
    last = backbones.classifier(name)
    layout = Layout(left_out=(*last, *backbones.AUXILIARY))
    taken = state_dict.load(weight_files.read(tmp_path / "own.pt"), built, (layout,)).taken
    assert last[0] in taken
    images = torch.rand(1, 3, 80, 80)
    with torch.no_grad():
        expected = theirs(images)
        for network in (loaded.eval(), built.eval()):
            assert torch.equal(network(images), expected)


def test_a_network_that_an_older_run_adopted_is_built_as_it_was(monkeypatch):
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda weights, **_: weights)  # 10 s
    older = own.OwnArchitecture(model="inception_v3", image_size=80, dimension=2048)
    network = own.build(older).module.network
    assert not network.transform_input
    assert network.AuxLogits is not None


@pytest.mark.parametrize("name", ["regnet_y_128gf", "vit_h_14"])
def test_imagenet_weights_that_do_not_exist_are_refused_before_anything_is_built(name, monkeypatch):
    monkeypatch.setattr(torchvision.models, "get_model", lambda *_, **__: pytest.fail("built"))
    for refuse in (own.check, lambda spec: adoption.adopt(spec, 64)):
        with pytest.raises(
            ConfigError, match=f"{name} has IMAGENET1K_SWAG_E2E_V1, IMAGENET1K_SWAG_LINEAR_V1 alone"
        ):
            refuse(OwnModel(model=name, weights="imagenet"))


def test_the_older_names_in_torchvisions_files_of_densenets_are_known():
    first, second = (
        torchvision.models.DenseNet(4, (2, 2), 8, num_classes=3, bn_size=2) for _ in range(2)
    )
    older = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): value
        for name, value in first.state_dict().items()
    }
    assert older.keys() != first.state_dict().keys()
    state_dict.load(WeightsFile({"": older}, tuple(older)), second)
    loaded = second.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in first.state_dict().items())
