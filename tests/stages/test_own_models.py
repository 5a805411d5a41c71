"""Models of a shop's own, on its own photographs: evaluated without training, or refused."""

import shutil
from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from PIL import Image

from advrec.catalog.dataset import Catalog
from tests.commands import advrec
from tests.conftest import STUDY
from tests.runs import rows


@pytest.fixture(scope="module")
def shop(tmp_path_factory, prepared):
    """A shop's directory: JPEG photographs in a folder a category, its own model, and a study of
    both.
    """
    directory = tmp_path_factory.mktemp("shop")
    catalog = Catalog(prepared)
    for article, pixels in enumerate(catalog.pixels(range(len(catalog)))):
        path = directory / "photos" / catalog.category_names[article] / f"{article}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=95)
    shutil.copytree(Path(__file__).parents[1] / "shop", directory / "shop")
    torch.manual_seed(1)
    torch.save(torchvision.models.resnet18().state_dict(), directory / "resnet18.pt")
    study = {
        "name": "shop",
        "catalog": {"source": "folder", "root": "photos", "image_size": 32},
        "models": {
            "own": {"model": "shop.resnet:resnet18"},
            "vision": {"model": "resnet18", "checkpoint": "resnet18.pt"},
        },
        "evaluation": STUDY["evaluation"]
        | {
            "tuples": 2,
            "attacks": ["auto", {"name": "moved", "attack": "pgd-4", "from": "vision"}],
            "epsilons": [0.02, 0.05],
            "delivery": ["float", "png"],
            "checks": 2,
        },
        "resources": STUDY["resources"],
    }
    (directory / "study.yaml").write_text(yaml.safe_dump(study))
    return directory


@pytest.mark.long
def test_a_shops_own_model_is_evaluated_on_its_own_photographs(shop):
    assert advrec("prepare", "study.yaml", cwd=shop).returncode == 0
    done = advrec("evaluate", "study.yaml", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert "shop.resnet:resnet18 is taken as it is, 128 values" in done.stdout
    table = rows(shop / "results" / "shop")
    assert len(table) == 2 * 2 * 2 * 2
    assert (table.linf <= table.epsilon.astype("float32")).all()
    automatic = table[table.attack == "auto"]
    assert set(automatic.winner) <= {"apgd-50", "apgd-l2-100", "apgd-100"}
    larger, smaller = (
        automatic[automatic.epsilon == e].set_index(["model", "tuple_id"]).adversarial_rank
        for e in (0.05, 0.02)
    )
    assert (larger <= smaller).all()
    assert "adversarial_rank_png" in table
    reported = advrec("report", "study.yaml", cwd=shop)
    assert reported.returncode == 0, reported.stderr
    page = (shop / "results" / "shop" / "report" / "index.html").read_text()
    assert "gradients beat no gradients" in page


def test_a_run_does_not_mix_rows_of_a_model_that_has_changed(shop):
    """The weights' file and the source file of the function are part of what a model is."""
    source = shop / "shop" / "resnet.py"
    before = source.read_text()
    source.write_text(before.replace("width=16", "width=8"))
    refused = advrec("evaluate", "study.yaml", cwd=shop)
    source.write_text(before)
    assert refused.returncode == 2
    assert "models/own made with code_sha256" in refused.stderr
    assert (
        advrec("evaluate", "study.yaml", cwd=shop).stdout.strip().endswith("evaluate: done before")
    )
    changed = advrec("evaluate", "study.yaml", "--set", "evaluation.delivery=jpeg-90", cwd=shop)
    assert changed.returncode == 2
    assert "delivery" in changed.stderr


@pytest.mark.parametrize(
    ("models", "part"),
    [
        (
            "{a: {model: nowhere.at_all:model}}",
            "models.a: nowhere.at_all:model raised ModuleNotFoundError",
        ),
        ("{a: {model: resnet18, checkpoint: gone.pt}}", "gone.pt cannot be read"),
        (
            "{a: {model: resnet81, checkpoint: resnet18.pt}}",
            "is not a classifier of torchvision; did you mean",
        ),
        ("{a: {model: resnet18}}", "needs either a checkpoint"),
    ],
)
def test_a_model_that_is_not_there_is_refused_before_any_work(shop, tmp_path, models, part):
    changes = ("--set", f"models={models}", "--set", "evaluation.attacks=[auto]")
    refused = advrec("study", "study.yaml", *changes, "--out", tmp_path / "run", cwd=shop)
    assert refused.returncode == 2, refused.stderr
    assert part in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
