"""Encoders of timm against timm itself."""

import time

import pytest
import safetensors.torch
import torch

from advrec.errors import AdvrecError, ConfigError
from advrec.model import adoption, checkpoint, own
from advrec.model.encoder import frozen
from advrec.model.libraries import base, registry
from advrec.spec.models import OwnModel
from tests.model.libraries.images import is_as_the_librarys, pictures, taken

timm = pytest.importorskip("timm")


def adopt(size, **keys):
    return adoption.adopt(OwnModel(**keys), size).network


def trained(name, seed=3, **keys):
    """A classifier of timm whose weights and statistics are not those of a new one."""
    torch.manual_seed(seed)
    network = timm.create_model(name, **keys)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0.0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture
def offline(monkeypatch):
    """No way to the hub, which is said at once."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "test_convnext"])
@pytest.mark.parametrize("size", [64, 256])
def test_an_encoder_prepares_images_and_embeds_them_as_timm_does(tmp_path, name, size):
    theirs = trained(name)
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    ours = taken(size, model=f"timm/{name}", checkpoint=str(tmp_path / "weights.pt"))
    config = timm.data.resolve_model_data_config(theirs)

    def embed(images):
        return theirs.forward_head(theirs.forward_features(images), pre_logits=True)

    transform = timm.data.create_transform(**config)
    is_as_the_librarys(ours, embed, transform, pictures(3, size))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_a_catalog_of_the_encoders_size_is_taken_as_it_is(name):
    ours = adopt(96, model=f"timm/{name}", weights="random", input_size=96)
    images = torch.rand(2, 3, 96, 96)
    assert ours.module.prepared(images) is images
    assert ours.embed(images).shape == (2, ours.dimension)


def test_a_batchnorm_that_bears_an_activation_is_folded_and_its_layers_fused(tmp_path):
    torch.save(trained("test_efficientnet").state_dict(), tmp_path / "w.pt")
    spec = OwnModel(model="timm/test_efficientnet", checkpoint=str(tmp_path / "w.pt"))
    network = adoption.adopt(spec, 64).network
    assert network.architecture.form == "fused"
    folded = {type(layer).__name__ for layer in frozen(network).modules()}
    assert "BatchNormAct2d" not in folded


def test_a_run_keeps_what_an_encoder_is_built_from_and_needs_no_hub(tmp_path, monkeypatch):
    ours = adopt(64, model="timm/test_vit", weights="random", input_size=64)
    checkpoint.save(tmp_path / "model.safetensors", ours)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda *_: pytest.fail("was looked up again"))
    again = checkpoint.load(tmp_path / "model.safetensors")
    assert again.architecture == ours.architecture
    assert again.architecture.named.version == timm.__version__
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(again.embed(images), ours.embed(images))


def test_a_position_embedding_is_scaled_as_timm_scales_it(tmp_path):
    theirs = trained("test_vit", num_classes=5)
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    path = str(tmp_path / "w.safetensors")
    ours = adopt(96, model="timm/test_vit.r160_in1k", checkpoint=path, input_size=96)
    theirs.set_input_size(img_size=96)
    images = torch.rand(2, 3, 96, 96)
    features = theirs.forward_head(theirs.forward_features((images - 0.5) / 0.5), pre_logits=True)
    torch.testing.assert_close(ours.embed(images), features)


def test_weights_of_the_hub_that_cannot_be_had_are_said_in_one_sentence(offline):
    with pytest.raises(
        AdvrecError, match=r"test_resnet.r160_in1k cannot be had .*checkpoint"
    ) as said:
        adopt(64, model="timm/test_resnet.r160_in1k", weights="pretrained")
    assert not isinstance(said.value, ConfigError)
    assert "\n" not in str(said.value)


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch, tmp_path):
    import huggingface_hub

    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it is asked again"))
    spec = OwnModel(model="timm/test_resnet.r160_in1k", weights="pretrained")
    words = r"\(http://127.0.0.1:9 cannot be reached\); name a file .* write weights: random"
    with pytest.raises(AdvrecError, match=words):
        registry.take(spec)
    assert constants.HF_HUB_OFFLINE is False


def test_a_hub_that_answers_is_asked_for_weights(monkeypatch):
    import huggingface_hub

    class Session:
        def head(self, url, timeout):
            assert timeout <= 10

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    spec = OwnModel(model="timm/test_resnet.r160_in1k", weights="pretrained")
    with base.hub(spec):
        assert huggingface_hub.constants.HF_HUB_OFFLINE is False


def test_an_input_that_an_encoder_cannot_have_is_refused_in_one_sentence():
    spec = OwnModel(model="timm/test_vit", weights="random", input_size=8)
    with pytest.raises(ConfigError, match="timm/test_vit cannot be built for an input_size of 8"):
        adoption.adopt(spec, 32)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"model": "timm/test_vit", "input_size": 65}, "patches of 16 pixels.*of 65.*64 or 80"),
        ({"model": "timm/test_convnext", "input_size": 66}, "patches of 4 pixels.*64 or 68"),
        ({"model": "timm/test_resnet", "input_size": 65}, None),  # which sees all of an image
    ],
)
def test_an_input_that_is_not_of_whole_patches_is_refused(keys, words):
    spec = OwnModel(weights="random", **keys)
    if words is None:
        assert registry.take(spec).named.preprocessing.size == 65
        return
    with pytest.raises(ConfigError, match=words):
        registry.take(spec)


def test_the_weights_that_were_loaded_are_named(monkeypatch):
    create = timm.create_model

    def without_the_hub(name, *, pretrained, **keys):
        return create(name, pretrained=False, **keys)

    monkeypatch.setattr(timm, "create_model", without_the_hub)
    monkeypatch.setattr(base, "_unreachable", lambda: "")
    for name in ("test_resnet", "test_resnet.r160_in1k"):  # one by default, one as asked for
        taken = registry.take(OwnModel(model=f"timm/{name}", weights="pretrained"))
        assert taken.named.weights == "test_resnet.r160_in1k"
    assert registry.take(OwnModel(model="timm/test_resnet", weights="random")).named.weights == ""


def test_names_that_timm_does_not_know_are_refused():
    for name, part in (
        ("test_resnot", "is not a model of timm .*did you mean test_resnet"),
        (
            "test_resnet.in1k",
            r"no weights in1k of test_resnet; did you mean r160_in1k\? \(there are r160_in1k\)",
        ),
    ):
        with pytest.raises(ConfigError, match=part):
            own.check(OwnModel(model=f"timm/{name}"))
