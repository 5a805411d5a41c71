"""Encoders of transformers against transformers itself: folders as save_pretrained writes them."""

import json

import pytest
import safetensors.torch
import torch

from advrec.errors import AdvrecError, ConfigError
from advrec.model import adoption, checkpoint, own
from advrec.model.libraries import processors
from advrec.run.fingerprint import fingerprint
from advrec.spec.models import OwnModel
from tests.model.libraries.images import is_as_the_librarys, pictures, taken

transformers = pytest.importorskip("transformers")
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
TOWER = {**SMALL, "image_size": 32, "patch_size": 8}


def vit(kind="ViTModel", **keys):
    torch.manual_seed(0)
    return getattr(transformers, kind)(
        transformers.ViTConfig(**TOWER, **keys, initializer_range=0.2)
    )


def clip():
    torch.manual_seed(0)
    texts = {**SMALL, "vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.CLIPConfig(vision_config=TOWER, text_config=texts, projection_dim=12)
    return transformers.CLIPModel(config)


def resnet():
    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 24], depths=[1, 1])
    return transformers.ResNetModel(config)


PROCESSORS = {
    "vit": lambda: transformers.ViTImageProcessor(size={"height": 32, "width": 32}),
    "clip": lambda: transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ),
    "resnet": lambda: transformers.ConvNextImageProcessor(size={"shortest_edge": 56}),
}


def embedded(model):
    """The model's own embedding of prepared images."""
    if isinstance(model, transformers.CLIPModel):
        return lambda images: model.get_image_features(images).pooler_output
    return lambda images: model(pixel_values=images).pooler_output.flatten(1)


@pytest.mark.parametrize("kind", PROCESSORS)
@pytest.mark.parametrize("size", [48, 100])
def test_an_encoder_prepares_images_and_embeds_them_as_transformers_does(tmp_path, kind, size):
    model, processor = (
        {"vit": vit, "clip": clip, "resnet": resnet}[kind]().eval(),
        PROCESSORS[kind](),
    )
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    for entry in (
        {"model": f"hf/{tmp_path}", "weights": "pretrained"},
        {"model": "hf/shop/ours", "checkpoint": str(tmp_path / "model.safetensors")},
    ):
        ours = taken(size, **entry)

        def transform(image):
            return processor(image, return_tensors="pt")["pixel_values"][0]

        is_as_the_librarys(ours, embedded(model), transform, pictures(3, size))


def test_a_classifiers_file_gives_what_its_last_layer_reads(tmp_path):
    model = vit("ViTForImageClassification", num_labels=5).eval()
    model.save_pretrained(tmp_path)
    seen = []
    model.classifier.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    images = torch.rand(2, 3, 32, 32)
    model(pixel_values=(images - 0.5) / 0.5)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "w.pt")
    for entry in ({"model": f"hf/{tmp_path}"}, {"model": "hf/vit", "checkpoint": "w.pt"}):
        spec = OwnModel(**entry).resolved(32, tmp_path)
        adopted, said, _ = adoption.adopt(spec, 32)
        torch.testing.assert_close(adopted.embed(images), seen[0])
        assert spec.checkpoint is None or "classifier.weight" in said
        checkpoint.save(tmp_path / "run.safetensors", adopted)
        again = checkpoint.load(tmp_path / "run.safetensors")
        assert torch.equal(again.embed(images), adopted.embed(images))


def test_a_file_of_an_older_version_of_transformers_loads(tmp_path):
    model = vit().eval()
    model.save_pretrained(tmp_path)
    renamed = (
        ("layers.", "encoder.layer."),
        ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    )
    state = {}
    for name, value in model.state_dict().items():
        for new, old in renamed:
            name = name.replace(new, old)
        state[name] = value
    assert not state.keys() <= model.state_dict().keys()
    safetensors.torch.save_file(state, tmp_path / "older.safetensors")
    ours = taken(32, model="hf/vit", checkpoint=str(tmp_path / "older.safetensors"))
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), embedded(model)((images - ours.mean) / ours.std))
    del state["layernorm.weight"]
    safetensors.torch.save_file(state, tmp_path / "older.safetensors")
    with pytest.raises(ConfigError, match="does not fit the model: it lacks layernorm"):
        adoption.adopt(OwnModel(model="hf/vit", checkpoint=str(tmp_path / "older.safetensors")), 32)


def test_an_input_of_another_size_is_embedded_as_transformers_does(tmp_path):
    model = vit().eval()
    model.save_pretrained(tmp_path)
    ours = taken(48, model=f"hf/{tmp_path}", weights="pretrained", input_size=48)
    images = torch.rand(2, 3, 48, 48)
    expected = model((images - ours.mean) / ours.std, interpolate_pos_encoding=True).pooler_output
    torch.testing.assert_close(ours(images), expected)


def test_a_kind_of_model_is_drawn_at_random_and_no_hub_is_asked(monkeypatch):
    monkeypatch.setattr(
        transformers.CONFIG_MAPPING["vit"], "__init__", lambda self, **_: None, raising=True
    )
    with pytest.raises(ConfigError, match="hf/vit is a kind of model, without weights"):
        own.check(OwnModel(model="hf/vit", weights="pretrained"))


def test_a_change_of_a_folder_is_a_change_of_the_model(tmp_path):
    vit().save_pretrained(tmp_path)
    spec = OwnModel(model=f"hf/{tmp_path}", weights="pretrained")
    before = fingerprint(spec)
    assert before == fingerprint(spec)
    PROCESSORS["vit"]().save_pretrained(tmp_path)
    assert fingerprint(spec) != before


def test_what_transformers_cannot_give_is_said_in_one_sentence(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(AdvrecError, match="configuration of hf/google/vit-base cannot be had") as e:
        adoption.adopt(OwnModel(model="hf/google/vit-base", weights="pretrained"), 32)
    assert "\n" not in str(e.value)
    assert "write hf/FOLDER" in str(e.value)
    assert "hf/vit, with weights: random" in str(e.value)
    with pytest.raises(ConfigError, match="holds no config"):
        own.check(OwnModel(model=f"hf/{tmp_path}", weights="pretrained"))
    with pytest.raises(ConfigError, match="prepares images with do_flip_channel_order"):
        taken(32, model="hf/mobilevit", weights="random")


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"image_mean": None}, "has no image_mean; write its three numbers"),
        ({"image_std": None}, "has no image_std"),
        ({"image_mean": [0.5]}, r"has image_mean: \[0.5\], which is not known here"),
        ({"image_std": [1, 0, 1]}, "has image_std"),
        ({"resample": 4}, "scales images by box, which is none of bilinear"),
        ({"resample": None}, "has no resample; mend it"),
        ({"size": None}, "has no size; mend it"),
        ({"resample": "bicubic"}, "has resample: bicubic"),
        ({"do_rescale": False}, "prepares images with do_rescale: False"),
        ({"rescale_factor": "a"}, "has rescale_factor: a"),
        ({"size": {"longest_edge": 32}}, r"has the size {'longest_edge': 32}, which gives no side"),
        ({"size": {"height": 32, "width": 48}}, r"not square, \[32, 48\]"),
    ],
)
def test_a_processor_that_is_not_known_is_refused_in_one_sentence(keys, part):
    said = PROCESSORS["vit"]().to_dict() | keys
    with pytest.raises(ConfigError, match=part):
        processors.preparation(OwnModel(model="hf/vit", weights="random"), said)


def test_one_number_of_a_processor_is_that_of_all_channels():
    said = PROCESSORS["vit"]().to_dict() | {"image_mean": 0.25}
    made = processors.preparation(OwnModel(model="hf/vit", weights="random"), said)
    assert made.mean == (0.25,) * 3


@pytest.mark.parametrize("file", ["preprocessor_config.json", "config.json"])
@pytest.mark.parametrize("text", ["{not json", "[1]"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_broken_file_of_a_folder_is_named(tmp_path, file, text, encoding):
    vit().save_pretrained(tmp_path)
    (tmp_path / file).write_text(text, encoding=encoding)
    with pytest.raises(ConfigError, match=f"{file} ") as said:
        adoption.adopt(OwnModel(model=f"hf/{tmp_path}", weights="pretrained"), 32)
    assert "\n" not in str(said.value)


def test_a_checkpoint_of_another_width_says_what_does_not_fit(tmp_path):
    file = tmp_path / "m.pt"
    torch.save(vit().state_dict(), file)
    with pytest.raises(ConfigError, match=f"{file} does not fit the model: .*32") as said:
        adoption.adopt(OwnModel(model="hf/vit", checkpoint=str(file)), 32)
    assert "\n" not in str(said.value)
    assert str(said.value).endswith("lay its config.json beside it")
    vit().config.save_pretrained(tmp_path)
    adoption.adopt(OwnModel(model="hf/vit", checkpoint=str(file)), 32)


def test_a_configuration_of_another_width_than_its_weights_is_named(tmp_path):
    vit().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"hidden_size": 64}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r" is \(.*32.*\) where the model has \(.*64.*\)"):
        adoption.adopt(OwnModel(model=f"hf/{tmp_path}", weights="pretrained"), 32)


def test_a_folder_whose_fault_is_its_own_is_named_and_no_hub(tmp_path):
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    for folder in (whole, damaged):
        vit().save_pretrained(folder)
    weights = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    config = json.loads((whole / "config.json").read_text()) | {"hidden_act": "unheard"}
    (whole / "config.json").write_text(json.dumps(config))
    for folder, weights in ((damaged, "pretrained"), (whole, "pretrained"), (whole, "random")):
        with pytest.raises(ConfigError, match=str(folder)) as said:
            adoption.adopt(OwnModel(model=f"hf/{folder}", weights=weights), 32)
        assert "hub" not in str(said.value)
        assert "\n" not in str(said.value)
        assert ("unheard" in str(said.value)) == (folder == whole)


def test_a_folder_that_holds_more_than_the_model_is_named(tmp_path):
    model = vit()
    model.save_pretrained(tmp_path)
    state = model.state_dict() | {"adapter.weight": torch.zeros(2)}
    safetensors.torch.save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=f"weights file of {tmp_path} does not fit .*adapter"):
        adoption.adopt(OwnModel(model=f"hf/{tmp_path}", weights="pretrained"), 32)
