"""Studies of encoders by name, as a user runs them."""

import shutil
import sys

import pytest
import yaml

from advrec.model import checkpoint
from tests.commands import advrec
from tests.runs import rows, write_study


@pytest.fixture
def study(tmp_path, ready):
    """A study of the `ready` run's catalog, and the directory of a run that has the catalog."""
    shutil.copytree(ready.directory, tmp_path / "results" / "named")

    def write(**models):
        return write_study(
            tmp_path / "named.yaml", ready, evaluation={"attacks": ["pgd-2"]}, models=models
        )

    return write


def test_an_encoder_of_a_library_is_attacked_on_the_catalogs_images(tmp_path, study):
    pytest.importorskip("timm")
    study(shop={"model": "timm/test_resnet", "weights": "random", "input_size": 40})
    done = advrec("evaluate", "named.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "results" / "named"
    assert yaml.safe_load((run / "study.yaml").read_text())["models"]["shop"]["input_size"] == 40
    network = checkpoint.load(run / "models" / "shop" / "model.safetensors")
    assert network.architecture.named.preprocessing.size == 40
    table = rows(run)
    assert len(table) == 24
    assert (table["linf"] <= table["epsilon"] + 1e-6).all()
    assert (table["adversarial_distance"] < table["clean_distance"]).mean() > 0.9


def test_a_library_that_is_not_installed_is_said_with_its_extra(tmp_path, study, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    study(shop={"model": "timm/test_resnet"})
    done = advrec("evaluate", "named.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "models.shop: timm is not installed; install it by pip install 'advrec[timm]'" in (
        done.stderr
    )


def test_weights_that_cannot_be_had_end_with_1(tmp_path, study, monkeypatch):
    pytest.importorskip("timm")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    study(shop={"model": "timm/test_resnet.r160_in1k"})
    done = advrec("evaluate", "named.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "models.shop: the pretrained weights of timm/test_resnet.r160_in1k" in done.stderr


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"model": "efficientnet_lite0"}, "write efficientnet-lite0 or efficientnet-lite1"),
        ({"model": "tim/resnet50"}, "tim is no library of encoders; write timm/NAME"),
        ({"model": "timm/resnet50", "weights": "none"}, "weights: none leaves timm/resnet50"),
        ({"model": "timm/resnet50", "weights": "imagenet"}, "write weights: pretrained"),
        (
            {"model": "timm/resnet50", "weights": "random", "checkpoint": "a.pt"},
            "weights: random and a checkpoint exclude each other",
        ),
        (
            {"model": "resnet50", "weights": "imagenet", "input_size": 64},
            "write torchvision/resnet50",
        ),
        ({"model": "a.b:c", "weights": "random"}, "a function prepares images"),
    ],
)
def test_keys_that_contradict_each_other_are_refused_before_any_work(tmp_path, study, keys, part):
    study(shop=keys)
    done = advrec("evaluate", "named.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert part in done.stderr
