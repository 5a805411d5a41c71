"""Models of the user's own: taken as they are, or refused in one sentence."""

import pytest
import safetensors.torch
import torch
import torchvision

from advrec.errors import ConfigError
from advrec.model import adoption, checkpoint, own
from advrec.model.encoder import frozen
from advrec.spec.models import OwnModel
from tests.shop import resnet


def spec(model, **keys):
    return OwnModel.model_validate({"model": model, **keys})


def test_a_users_module_is_taken_saved_and_built_again(tmp_path):
    network = adoption.adopt(spec("tests.shop.resnet:resnet18"), 64).network
    images = torch.rand(3, 3, 64, 64)
    expected = resnet.resnet18().eval()(images)
    torch.testing.assert_close(network.embed(images), expected)
    assert network.dimension == 128
    checkpoint.save(tmp_path / "model.safetensors", network)
    loaded = checkpoint.load(tmp_path / "model.safetensors")
    assert loaded.architecture == network.architecture
    torch.testing.assert_close(frozen(loaded).embed(images), expected, rtol=1e-4, atol=1e-5)


def test_the_frozen_copy_is_folded_only_where_that_changes_nothing():
    def norms(network):
        return [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]

    images = torch.rand(3, 3, 64, 64)
    for function, folded in (("resnet18", True), ("activated_first", False)):
        network = adoption.adopt(spec(f"tests.shop.resnet:{function}"), 64).network
        copied = frozen(network)
        assert bool(norms(copied)) != folded
        torch.testing.assert_close(
            copied.embed(images), network.embed(images), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("file", ["weights.pt", "weights.safetensors"])
def test_a_network_of_torchvision_gives_what_its_last_layer_reads(tmp_path, file):
    torch.manual_seed(3)
    classifier = torchvision.models.resnet18(num_classes=7).eval()
    if file.endswith("pt"):
        torch.save(
            {
                "state_dict": {
                    f"module.{name}": value for name, value in classifier.state_dict().items()
                }
            },
            tmp_path / file,
        )
    else:
        safetensors.torch.save_file(classifier.state_dict(), tmp_path / file)
    network = adoption.adopt(spec("resnet18", checkpoint=str(tmp_path / file)), 64).network
    images = torch.rand(2, 3, 64, 64)
    seen = []
    classifier.fc.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    classifier((images - mean) / std)
    torch.testing.assert_close(network.embed(images), seen[0])
    assert network.dimension == 512


@pytest.mark.parametrize(
    ("model", "part"),
    [
        ("tests.shop.nowhere:model", "raised ModuleNotFoundError"),
        ("tests.shop.resnet:nobody", "has no function nobody"),
        ("tests.shop.resnet:no_module", r"returns a str; it must return a torch\.nn\.Module"),
        ("tests.shop.resnet:broken", "raised RuntimeError: the weights are on another machine"),
        ("tests.shop.resnet:exits", "raised SystemExit: no licence"),
        ("tests.shop.resnet:maps", r"gives \(2, 4, 62, 62\) for 2 images of 64 pixels"),
        ("tests.shop.resnet:detached", "without a gradient"),
    ],
)
def test_what_is_no_model_is_refused_in_one_sentence(model, part):
    with pytest.raises(ConfigError, match=part) as refused:
        adoption.adopt(spec(model), 64)
    assert "\n" not in str(refused.value)


def test_weights_of_another_model_are_refused(tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "r.pt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no weights")
    for model, file, part in (
        ("resnet50", "r.pt", "does not fit"),
        ("resnet18", "other.pt", "does not fit"),
        ("tests.shop.resnet:resnet18", "r.pt", "does not fit"),
        ("resnet18", "text.pt", "cannot be read as weights"),
    ):
        with pytest.raises(ConfigError, match=part):
            adoption.adopt(spec(model, checkpoint=str(tmp_path / file)), 64)
    with pytest.raises(ConfigError, match="did you mean resnet18"):
        own.check(spec("resnet_18", checkpoint=str(tmp_path / "r.pt")))


def test_every_backbone_of_the_configuration_builds_and_embeds():
    from typing import get_args

    from advrec.model.fashionnet import Architecture, FashionNet
    from advrec.spec.defenses import Backbone

    for name in get_args(Backbone):
        network = FashionNet(
            Architecture(backbone=name, width=1.0, categories=("a", "b"), textures=())
        ).eval()
        assert network.embed(torch.rand(1, 3, 64, 64)).shape == (1, network.dimension)


def test_a_model_that_its_state_dict_does_not_determine_is_noticed():
    adoption.adopt(spec("tests.shop.resnet:resnet18"), 32)
    with pytest.raises(ConfigError, match="given the same state dict embeds differently"):
        adoption.adopt(spec("tests.shop.resnet:unregistered"), 32)


def test_partials_are_functions_and_functions_with_arguments_are_refused():
    assert adoption.adopt(spec("tests.shop.resnet:narrow"), 32).network.dimension == 32
    own.check(spec("tests.shop.resnet:narrow"))
    for refuse in (own.check, lambda needy: adoption.adopt(needy, 32)):
        with pytest.raises(ConfigError, match="is called without arguments"):
            refuse(spec("tests.shop.resnet:Block"))


def test_embeddings_become_float32():
    network = adoption.adopt(spec("tests.shop.resnet:double"), 32).network
    assert network.embed(torch.rand(1, 3, 32, 32)).dtype == torch.float32
