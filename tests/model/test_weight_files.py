"""Files of weights as people have them: what is taken of each, and what is refused."""

import argparse
import collections
import datetime
import pathlib

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from advrec.errors import ConfigError
from advrec.model import adoption, checkpoint, state_dict, weight_files
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.model.state_dict import Layout, Normaliser
from advrec.spec.models import OwnModel
from tests.shop import kinds

SMALL = "shufflenet_v2_x0_5"  # 5 MB; its last layer is fc


def adopt(model, path):
    return adoption.adopt(OwnModel(model=model, checkpoint=str(path)), 32)


def drawn(function, seed):
    """A network of tests.shop.kinds with weights that its function does not give."""
    network = getattr(kinds, function)()
    torch.manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


OTHER = {"optimizer_state_dict": {"state": {0: {"step": torch.zeros(1)}}, "param_groups": []}}
WHOLE = {
    "alone": (lambda a, b: a, ""),
    "parallel": (lambda a, b: prefixed("module.", a), "module"),
    "compiled": (lambda a, b: prefixed("_orig_mod.", a), ""),
    "compiled, then parallel": (lambda a, b: prefixed("module._orig_mod.", a), "module"),
    "compiled in part": (
        lambda a, b: {f"0._orig_mod.{name.removeprefix('0.')}": v for name, v in a.items()},
        "",
    ),
    "of Lightning": (
        lambda a, b: {"state_dict": prefixed("model.", a), "epoch": 3, "hyper_parameters": {}},
        "state_dict.model",
    ),
    "any prefix": (lambda a, b: prefixed("trunk.visual.", a), "trunk.visual"),
    "in a checkpoint": (lambda a, b: {"model_state_dict": a, "epoch": 3} | OTHER, "model_state"),
    "deep": (lambda a, b: {"net": {"weights": a}, "torch_rng": torch.zeros(9)}, "net.weights"),
    "averaged alone": (lambda a, b: {"model_ema": a}, "model_ema, averaged weights"),
    "averaged beside": (
        lambda a, b: {"state_dict_ema": b, "state_dict": a},
        "state_dict_ema would fit too and is not taken",
    ),
    "averaged within": (
        lambda a, b: prefixed("ema_model.module.", b) | prefixed("model.", a),
        "ema_model.module would fit too and is not taken",
    ),
    "equal ones": (lambda a, b: {"net": a, "best": dict(a)}, "net"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_network_is_found_in_its_file_whatever_leads_to_it_and_what_is_taken_is_said(
    tmp_path, kind
):
    wrap, said = WHOLE[kind]
    network, other = drawn("plain", 3), drawn("plain", 4)
    torch.save(wrap(network.state_dict(), other.state_dict()), tmp_path / "f.pt")
    adopted, taken, _ = adopt("tests.shop.kinds:plain", tmp_path / "f.pt")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(adopted.embed(images), network(images))
    assert said in taken
    assert bool(said) == bool(taken)


def test_an_averaged_model_of_torch_is_said_to_be_averaged(tmp_path):
    network = drawn("plain", 3)
    torch.save(torch.optim.swa_utils.AveragedModel(network).state_dict(), tmp_path / "f.pt")
    adopted, taken, _ = adopt("tests.shop.kinds:plain", tmp_path / "f.pt")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(adopted.embed(images), network(images))
    assert "averaged (n_averaged)" in taken


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_networks_own_attribute_named_module_is_no_prefix(tmp_path, wrapped):
    network = drawn("holder", 3)
    state = network.state_dict()
    torch.save(prefixed("module.", state) if wrapped else state, tmp_path / "f.pt")
    images = torch.rand(2, 3, 32, 32)
    adopted = adopt("tests.shop.kinds:holder", tmp_path / "f.pt").network
    assert torch.equal(adopted.embed(images), network(images))


def test_tied_weights_of_safetensors_are_loaded(tmp_path):
    network = drawn("tied", 3)
    safetensors.torch.save_model(network, str(tmp_path / "f.safetensors"))
    assert len(safetensors.torch.load_file(tmp_path / "f.safetensors")) < len(network.state_dict())
    images = torch.rand(2, 3, 32, 32)
    adopted = adopt("tests.shop.kinds:tied", tmp_path / "f.safetensors").network
    torch.testing.assert_close(adopted.embed(images), network(images))


HARMLESS = {
    "Namespace": argparse.Namespace(lr=0.1, layers=[1, 2]),
    "numpy scalars": [np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(True), np.str_("a")],
    "numpy array": np.arange(3.0),
    "paths": [pathlib.Path("a/b"), pathlib.PurePosixPath("c")],
    "times": [datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), datetime.timedelta(1)],
    "collections": [
        collections.OrderedDict(a=1),
        collections.defaultdict(list, a=[1]),
        collections.deque([1]),
        collections.Counter("aab"),
        frozenset("a"),
    ],
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_training_checkpoints_with_harmless_types_beside_the_weights_load(tmp_path, kind):
    network = drawn("plain", 3)
    torch.save({"state_dict": network.state_dict(), "args": HARMLESS[kind]}, tmp_path / "f.pt")
    adopted = adopt("tests.shop.kinds:plain", tmp_path / "f.pt").network
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(adopted.embed(images), network(images))


class Config:
    """A class of a training script."""


def small(last=None, seed=0):
    torch.manual_seed(seed)
    network = torchvision.models.get_model(SMALL, num_classes=5)
    if last is not None:
        network.fc = last
    return network.eval()


def plain_state(seed=3):
    return drawn("plain", seed).state_dict()


REFUSED = {
    "an embedding layer with others": (
        SMALL,
        lambda: small(nn.Sequential(nn.Dropout(), nn.Linear(1024, 64))).state_dict(),
        r"fc\.1\.weight \(64, 1024\)",
    ),
    "two keys too many": (
        SMALL,
        lambda: (
            small().state_dict()
            | {"embedding.weight": torch.zeros(64, 1024), "embedding.bias": torch.zeros(64)}
        ),
        r"embedding\.weight \(64, 1024\), embedding\.bias",
    ),
    "one key too many": (
        "tests.shop.kinds:plain",
        lambda: plain_state() | {"head": torch.zeros(3)},
        r"holds head \(3,\) besides",
    ),
    "two networks": (
        "tests.shop.kinds:plain",
        lambda: {"generator": plain_state(3), "encoder": plain_state(4)},
        "holds generator and encoder, which both fit",
    ),
    "two networks by prefix": (
        "tests.shop.kinds:plain",
        lambda: prefixed("encoder_q.", plain_state(3)) | prefixed("encoder_k.", plain_state(4)),
        "holds encoder_. and encoder_., which both fit",
    ),
    "another network": (
        "tests.shop.kinds:plain",
        lambda: {"weights": {"a.weight": torch.zeros(1)}, "epoch": 3},
        r"lacks 0\.0\.weight, .* its keys are weights, epoch",
    ),
    "another size": (
        "tests.shop.kinds:plain",
        lambda: {name: value[:8] for name, value in plain_state().items()},
        r"size mismatch for 0\.0\.weight",
    ),
    "no weights": (
        "tests.shop.kinds:plain",
        lambda: {"epoch": 3, "args": {}},
        "holds no state dict; its keys are epoch, args",
    ),
    "a normaliser beside a module": (
        "tests.shop.kinds:plain",
        lambda: (
            prefixed("module.model.", plain_state())
            | {f"module.normalizer.new_{part}": torch.ones(3, 1, 1) for part in ("mean", "std")}
        ),
        "holds a normaliser",
    ),
    "a whole network": (SMALL, small, r"torchvision\.models\.shufflenetv2\.ShuffleNetV2"),
    "a class of the script's": (
        "tests.shop.kinds:plain",
        lambda: {"state_dict": plain_state(), "config": Config()},
        r"objects of tests\.model\.test_weight_files\.Config",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_taken_whole_is_refused_in_a_sentence_that_names_it(tmp_path, kind):
    model, make, part = REFUSED[kind]
    torch.save(make(), tmp_path / "f.pt")
    with pytest.raises(ConfigError, match=part) as refused:
        adopt(model, tmp_path / "f.pt")
    assert "\n" not in str(refused.value)


def test_only_a_classifiers_last_layer_is_left_out_and_that_is_said(tmp_path):
    network = small(nn.Linear(1024, 64))
    torch.save(network.state_dict(), tmp_path / "f.pt")
    adopted, taken, _ = adopt(SMALL, tmp_path / "f.pt")
    assert taken == (
        "left out: fc.weight (64, 1024), fc.bias (64,) "
        "(if it makes your embedding, write a module:function)"
    )
    assert adopted.dimension == 1024


def test_the_normaliser_of_an_adversarially_trained_network_is_applied(tmp_path):
    """MadryLab's robustness: the network twice, and its own mean and deviation."""
    network = small()
    state = network.state_dict()
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    kept = prefixed("module.model.", state) | prefixed("module.attacker.model.", state)
    for place in ("module.normalizer", "module.attacker.normalize"):
        kept |= {f"{place}.new_mean": mean.view(3, 1, 1), f"{place}.new_std": std.view(3, 1, 1)}
    torch.save({"model": kept, "epoch": 3}, tmp_path / "f.pt")
    adopted, taken, _ = adopt(SMALL, tmp_path / "f.pt")
    assert "weights of model.module.model" in taken
    network.fc = nn.Identity()
    images = torch.rand(2, 3, 32, 32)
    expected = network((images - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
    torch.testing.assert_close(adopted.embed(images), expected)
    checkpoint.save(tmp_path / "m.safetensors", adopted)
    again = checkpoint.load(tmp_path / "m.safetensors")
    assert torch.equal(again.embed(images), adopted.embed(images))


@pytest.mark.parametrize(
    ("wrap", "part"),
    [
        (lambda state: {"state_dict": prefixed("module.", state)}, "state_dict.module"),
        (lambda state: {"model": state, "model_ema": prefixed("x.", state)}, "classifier.1.weight"),
    ],
)
def test_weights_to_start_from_are_found_by_the_same_rules(tmp_path, wrap, part):
    torch.manual_seed(3)
    original = torchvision.models.mobilenet_v2(width_mult=0.35, num_classes=3)
    torch.save(wrap(original.state_dict()), tmp_path / "f.pt")
    network = FashionNet(
        Architecture(backbone="mobilenet_v2", width=0.35, categories=("a", "b"), textures=())
    )
    assert part in checkpoint.load_backbone(tmp_path / "f.pt", network)
    for name, value in network.backbone.state_dict().items():
        assert torch.equal(value, original.features.state_dict()[name])


def test_a_layer_on_top_of_weights_to_start_from_is_refused(tmp_path):
    state = torchvision.models.mobilenet_v2(width_mult=0.35).state_dict()
    torch.save(state | {"extra.weight": torch.zeros(2, 3)}, tmp_path / "f.pt")
    network = FashionNet(
        Architecture(backbone="mobilenet_v2", width=0.35, categories=("a", "b"), textures=())
    )
    with pytest.raises(ConfigError, match=r"extra\.weight \(2, 3\)"):
        checkpoint.load_backbone(tmp_path / "f.pt", network)


def test_half_a_normaliser_is_refused(tmp_path):
    state = prefixed("model.", small().state_dict()) | {"normalizer.mean": torch.zeros(3, 1, 1)}
    torch.save(state, tmp_path / "f.pt")
    with pytest.raises(ConfigError, match="holds the mean of a normaliser alone"):
        adopt(SMALL, tmp_path / "f.pt")


def test_a_network_of_ours_hands_its_normaliser_on(tmp_path):
    architecture = Architecture(
        backbone="mobilenet_v2", width=0.35, categories=("a", "b"), textures=()
    )
    given, network = FashionNet(architecture), FashionNet(architecture)
    Normaliser((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)).put_into(given)
    checkpoint.save(tmp_path / "f.safetensors", given)
    checkpoint.load_backbone(tmp_path / "f.safetensors", network)
    assert network.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert network.std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])


def transformer(heads):
    torch.manual_seed(4)
    network = torchvision.models.VisionTransformer(
        image_size=32, patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8
    )
    if not heads:
        network.heads = nn.Identity()
    return network


HEADS = Layout(left_out=("heads.head.weight", "heads.head.bias"))


def older(state):
    """The names of torchvision's transformers before 0.13."""
    for new, old in (("mlp.0.", "mlp.linear_1."), ("mlp.3.", "mlp.linear_2.")):
        state = {name.replace(new, old): value for name, value in state.items()}
    return state


def test_names_that_torchvision_knows_as_older_ones_are_taken_as_whole_networks(tmp_path):
    given, network = transformer(heads=True), transformer(heads=False)
    nn.init.normal_(given.class_token)
    torch.save(prefixed("module.", older(given.state_dict())), tmp_path / "f.pt")
    loaded = state_dict.load(weight_files.read(tmp_path / "f.pt"), network, (HEADS,))
    assert loaded.taken.endswith(
        "left out: module.heads.head.weight (1000, 8), module.heads.head.bias (1000,)"
    )
    kept = given.state_dict()
    assert all(value.equal(kept[name]) for name, value in network.state_dict().items())


def test_what_stands_beside_older_names_is_refused_as_beside_any(tmp_path):
    state = prefixed("module.", older(transformer(heads=True).state_dict()))
    torch.save(state | {"projection.weight": torch.zeros(4, 8)}, tmp_path / "f.pt")
    with pytest.raises(state_dict.MisfitError, match=r"projection\.weight \(4, 8\) besides"):
        state_dict.load(weight_files.read(tmp_path / "f.pt"), transformer(heads=False), (HEADS,))
