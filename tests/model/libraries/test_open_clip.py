"""Encoders of open_clip against open_clip itself."""

import json

import pytest
import torch

from advrec.errors import AdvrecError, ConfigError
from advrec.model import adoption, checkpoint, own
from advrec.spec.models import OwnModel
from tests.model.libraries.images import is_as_the_librarys, pictures, taken

open_clip = pytest.importorskip("open_clip")
TEXTS = {"context_length": 8, "vocab_size": 99, "width": 16, "heads": 2, "layers": 1}
TOWERS = {
    "tiny-vit": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "tiny-resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
    "tiny-timm": {
        "image_size": 64,
        "timm_model_name": "test_resnet",
        "timm_pool": "",
        "timm_proj": "linear",
    },
}


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory):
    """Make open_clip know small models."""
    for name, tower in TOWERS.items():
        path = tmp_path_factory.mktemp("configs") / f"{name}.json"
        path.write_text(json.dumps({"embed_dim": 24, "vision_cfg": tower, "text_cfg": TEXTS}))
        open_clip.add_model_config(path)


def clip(name, **keys):
    torch.manual_seed(0)
    return open_clip.create_model(name, pretrained_text=False, **keys).eval()


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-resnet"])
@pytest.mark.parametrize("size", [48, 100])
def test_an_encoder_prepares_images_and_embeds_them_as_open_clip_does(tmp_path, name, size):
    theirs = clip(name)
    torch.save({"state_dict": theirs.state_dict(), "epoch": 1}, tmp_path / "w.pt")
    ours = taken(size, model=f"open_clip/{name}", checkpoint=str(tmp_path / "w.pt"))
    config = open_clip.transform.PreprocessCfg(**open_clip.get_model_preprocess_cfg(theirs))
    transform = open_clip.transform.image_transform_v2(config, is_train=False)
    is_as_the_librarys(ours, theirs.encode_image, transform, pictures(3, size))


def test_a_towers_position_embedding_is_scaled_as_open_clip_scales_it(tmp_path):
    torch.save(clip("tiny-vit").visual.state_dict(), tmp_path / "tower.pt")  # the tower alone
    torch.save(clip("tiny-vit").state_dict(), tmp_path / "w.pt")
    theirs = clip("tiny-vit", pretrained=str(tmp_path / "w.pt"), force_image_size=48)
    ours = taken(
        48, model="open_clip/tiny-vit", checkpoint=str(tmp_path / "tower.pt"), input_size=48
    )
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        expected = theirs.encode_image((images - ours.mean) / ours.std)
        torch.testing.assert_close(ours(images), expected)


def test_a_tower_is_adopted_and_built_again_without_its_name(tmp_path, monkeypatch):
    spec = OwnModel(model="open_clip/tiny-timm", weights="random")
    network = adoption.adopt(spec, 64).network
    checkpoint.save(tmp_path / "model.safetensors", network)
    monkeypatch.setattr(open_clip, "get_model_config", lambda *_: pytest.fail("looked up again"))
    again = checkpoint.load(tmp_path / "model.safetensors")
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(again.embed(images), network.embed(images))
    assert again.architecture == network.architecture


def test_names_and_tags_are_checked_before_any_work():
    for name, part in (
        ("ViT-B-23", "ViT-B-23 is not a model of open_clip .*did you mean ViT-B-32"),
        (
            "RN50/openia",
            r"no weights openia of RN50; did you mean openai\? \(there are openai, yfcc15m, ",
        ),
        ("RN50", "write open_clip/RN50/TAG, with one of openai, yfcc15m, cc12m"),
        ("RN50/openai", r"with QuickGELU, .* write open_clip/RN50-quickgelu/openai"),
    ):
        with pytest.raises(ConfigError, match=part):
            own.check(OwnModel(model=f"open_clip/{name}", weights="pretrained"))
    own.check(OwnModel(model="open_clip/RN50-quickgelu/openai", weights="pretrained"))


def test_the_tag_of_its_weights_is_kept(monkeypatch, tmp_path):
    whole = clip("tiny-vit")
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: whole)
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda _: ["shop"])
    spec = OwnModel(model="open_clip/tiny-vit/shop", weights="pretrained", input_size=48)
    network = adoption.adopt(spec, 64).network
    checkpoint.save(tmp_path / "model.safetensors", network)
    again = checkpoint.load(tmp_path / "model.safetensors")
    assert again.architecture.named.weights == "tiny-vit/shop"


def test_weights_of_a_tag_that_cannot_be_had_are_said_in_one_sentence(monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("Failed to download\nmore")

    import huggingface_hub

    monkeypatch.setattr(open_clip, "create_model", fails)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    spec = OwnModel(model="open_clip/RN50-quickgelu/openai", weights="pretrained")
    with pytest.raises(AdvrecError, match=r"cannot be had .*in checkpoint") as said:
        adoption.adopt(spec, 64)
    assert "\n" not in str(said.value)
