"""An exported encoder is taken by its own module, strictly, and embeds as the run's does."""

import dataclasses
import shutil

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from advrec.model import checkpoint, export, own
from advrec.model.encoder import frozen
from advrec.model.own import OwnArchitecture, OwnNetwork
from advrec.run.directory import Run
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


def test_a_network_of_torchvision_and_a_trained_backbone_are_taken_as_their_cards_say(run):
    architecture = OwnArchitecture(model="resnet18", image_size=32, dimension=512)
    network = own.build(dataclasses.replace(architecture, with_weights=True)).eval()
    images = torch.rand(2, 3, 32, 32)
    made = export.exported(network)
    scope = {}
    exec(made.loader, scope)
    scope["network"].load_state_dict(made.state)
    normalised = (images - network.module.mean) / network.module.std
    assert torch.equal(scope["network"].eval()(normalised), network.embed(images))
    assert isinstance(network, OwnNetwork)
    trained = checkpoint.load(run.weights("unsecured"))
    made = export.exported(trained)
    exec(made.loader, scope := {})
    scope["network"].load_state_dict(made.state)
    maps = scope["network"].eval()((images - trained.mean) / trained.std)
    assert torch.allclose(maps.mean((2, 3)), frozen(trained).plain(images), atol=1e-4)
    assert torchvision.__version__


def test_what_cannot_be_exported_is_refused(run, tmp_path):
    for words, said in (
        (["--model", "hold", "x.pt"], "did you mean held"),
        (["--model", "held", "x.onnx"], "ends in .safetensors"),
        (["--model", "encoder", "x.pt"], "encoder is not trained yet"),
    ):
        refused = advrec("export", run.directory, *words, cwd=tmp_path)
        assert refused.returncode in (1, 2)
        assert said in refused.stderr, refused.stderr
