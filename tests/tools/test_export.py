"""An exported encoder is taken by its own module, strictly, and embeds as the run's does."""

import contextlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from advrec.errors import ConfigError
from advrec.model import checkpoint, export, own
from advrec.model.encoder import frozen
from advrec.model.libraries import registry
from advrec.model.own import OwnArchitecture
from advrec.run.directory import Run
from advrec.spec.models import OwnModel
from tests.commands import advrec
from tests.runs import write_study
from tests.shop import encoders


@pytest.fixture
def run(tmp_path, ready):
    """A run with an encoder of a module and a classifier."""
    made = Run(tmp_path / "run")
    shutil.copytree(ready.directory, made.directory)
    models = {
        "unsecured": {"defense": "none", "epochs": 1},
        "encoder": {"model": "tests.shop.encoders:normed"},
        "held": {"defense": "lore", "init": "encoder"},
    }
    write_study(made.study, ready, evaluation={}, models=models)
    text = made.study.read_text()
    made.study.write_text(text.replace("name: study", "name: tried"))
    network = own.build(
        OwnArchitecture(model="tests.shop.encoders:normed", image_size=32, dimension=16)
    )
    with torch.no_grad():
        network.module[0].weight.mul_(1.5)
    checkpoint.save(made.weights("held"), network)
    return made


@pytest.mark.parametrize("ending", export.ENDINGS)
def test_an_encoder_is_taken_strictly_by_the_function_that_made_it(run, tmp_path, ending):
    file = tmp_path / f"held{ending}"
    done = advrec("export", run.directory, "--model", "held", file, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    state = load_file(file) if ending == ".safetensors" else torch.load(file, weights_only=True)
    module = encoders.normed()
    assert module.load_state_dict(state) == ([], [])
    images = torch.rand(3, 3, 32, 32)
    expected = checkpoint.load(run.weights("held")).embed(images)
    assert torch.equal(module.eval()(images), expected)
    card = (tmp_path / f"held{ending}.md").read_text()
    for words in ("defense: lore", "rho: 0.3", "model: tests.shop.encoders:normed", "normed()"):
        assert words in card


def is_embedded(network, folder, images, expected, within=1e-5):
    """Assert that a card's program, alone in a folder, embeds a catalog's images as expected."""
    made = export.exported(network)
    export.save(folder / "m.safetensors", made)
    with contextlib.chdir(folder), torch.no_grad():
        exec(made.program(folder / "m.safetensors"), scope := {})
        moved = (scope["embed"](images) - expected).norm(dim=1) / expected.norm(dim=1)
    assert moved.max() <= within
    return made


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_a_network_of_torchvision_is_taken_as_its_card_says(tmp_path, name):
    architecture = OwnArchitecture(model=name, image_size=64, dimension=512, with_weights=True)
    network = own.build(architecture).eval()
    images = torch.rand(2, 3, 64, 64)
    is_embedded(network, tmp_path, images, network.embed(images).detach())


def test_a_trained_backbone_is_taken_as_its_card_says(run, tmp_path):
    trained = checkpoint.load(run.weights("unsecured"))
    images = torch.rand(2, 3, 32, 32)
    # Its BatchNorm is folded where it is attacked.
    is_embedded(trained, tmp_path, images, frozen(trained).plain(images), within=1e-4)


def named(size, **keys):
    """A run's network of an encoder of a library, for a catalog of this size."""
    taken = registry.take(OwnModel(**keys))
    architecture = OwnArchitecture(
        model=keys["model"], image_size=size, dimension=1, named=taken.named
    )
    network = own.build(architecture).eval()
    network.module.network.load_state_dict(taken.network.state_dict())
    return network


TINY = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
SHAPE = {"hidden_size": 32, "image_size": 32, "patch_size": 8, "initializer_range": 0.2}


def saved(folder, kind):
    """A folder of a small model of transformers, without the processor of its kind."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if kind == "clip":
        config = transformers.CLIPVisionConfig(**TINY, **SHAPE, projection_dim=12)
        model = transformers.CLIPVisionModelWithProjection(config)
    else:
        config = transformers.ViTConfig(**TINY, **SHAPE)
        model = transformers.ViTModel(config, add_pooling_layer=kind == "vit")
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    ("library", "keys", "first"),
    [
        ("timm", {"model": "timm/test_vit", "input_size": 64}, "cls_token"),
        ("timm", {"model": "timm/test_resnet"}, "conv1.0.weight"),
        (
            "open_clip",
            {"model": "open_clip/tiny-export", "input_size": 64},
            "visual.class_embedding",
        ),
        ("torchvision", {"model": "torchvision/resnet18", "input_size": 64}, "conv1.weight"),
        (
            "efficientnet_lite_pytorch",
            {"model": "efficientnet-lite0", "input_size": 64},
            "_conv_stem.weight",
        ),
    ],
)
def test_an_encoder_of_a_library_is_taken_by_it_as_its_card_says(tmp_path, library, keys, first):
    package = pytest.importorskip(library)
    if library == "open_clip":
        tower = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8}
        texts = {"context_length": 8, "vocab_size": 99, "width": 16, "heads": 2, "layers": 1}
        described = {"embed_dim": 24, "vision_cfg": tower, "text_cfg": texts}
        (tmp_path / "tiny-export.json").write_text(json.dumps(described))
        package.add_model_config(tmp_path / "tiny-export.json")
    for size in (72, 100, keys.get("input_size", 160)):
        network = named(size, weights="random", **keys)
        assert first in is_taken(network, tmp_path).state


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("vit", "embeddings.cls_token"),
        ("poolerless", "embeddings.cls_token"),
        ("clip", "vision_model.embeddings.class_embedding"),
    ],
)
def test_an_encoder_of_transformers_is_exported_with_its_configuration(tmp_path, kind, first):
    theirs = saved(tmp_path / "from", kind)
    network = named(96, model=f"hf/{tmp_path / 'from'}", weights="pretrained", input_size=40)
    (tmp_path / "to").mkdir()
    made = is_taken(network, tmp_path / "to")
    assert made.state.keys() == theirs.state_dict().keys()
    assert first in made.state
    spec = OwnModel(model="hf/shop/ours", checkpoint=str(tmp_path / "to" / "m.safetensors"))
    again = registry.take(spec).network
    assert again.state_dict().keys() == network.module.network.state_dict().keys()
    for other in (b"{}", "{}".encode("utf-16")):
        (tmp_path / "to" / "config.json").write_bytes(other)
        with pytest.raises(ConfigError, match="export into a folder of its own"):
            export.save(tmp_path / "to" / "n.safetensors", made)


def is_taken(network, folder):
    """Assert that a card's program embeds as a run's network of a library does."""
    size = network.architecture.image_size
    # Of blocks, black and white: what a filter overshoots, or does not see, tells.
    images = torch.rand(2, 3, size // 4, size // 4).round().repeat_interleave(4, 2)
    images = images.repeat_interleave(4, 3)
    with torch.no_grad():
        return is_embedded(network, folder, images, network.embed(images))


def test_what_cannot_be_exported_is_refused(run, tmp_path):
    for words, said in (
        (["--model", "hold", "x.pt"], "did you mean held"),
        (["--model", "held", "x.onnx"], "ends in .safetensors"),
        (["--model", "encoder", "x.pt"], "encoder is not trained yet"),
    ):
        refused = advrec("export", run.directory, *words, cwd=tmp_path)
        assert refused.returncode in (1, 2)
        assert said in refused.stderr, refused.stderr
