"""Models of a shop's own, on its own photographs: evaluated without training, or refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml
from PIL import Image

from advrec.attacks import names
from advrec.catalog.dataset import Catalog
from advrec.run.directory import Run
from tests.commands import advrec
from tests.conftest import STUDY
from tests.runs import EVALUATION, rows, write_study


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
            "checks": 1,
        },
        "resources": STUDY["resources"],
    }
    (directory / "study.yaml").write_text(yaml.safe_dump(study))
    return directory


@pytest.fixture(scope="module")
def evaluated(shop):
    """The shop with its finished evaluation; takes long."""
    assert advrec("prepare", "study.yaml", cwd=shop).returncode == 0
    done = advrec("evaluate", "study.yaml", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert "shop.resnet:resnet18 is taken as it is, 128 values" in done.stdout
    return shop


@pytest.mark.long
def test_a_shops_own_model_is_evaluated_on_its_own_photographs(evaluated):
    table = rows(evaluated / "results" / "shop")
    assert len(table) == 2 * 2 * 2 * 2
    assert (table.linf <= table.epsilon.astype("float32")).all()
    automatic = table[table.attack == "auto"]
    assert set(automatic.winner) <= set(names.AUTO_MEMBERS)
    larger, smaller = (
        automatic[automatic.epsilon == e].set_index(["model", "tuple_id"]).adversarial_rank
        for e in (0.05, 0.02)
    )
    assert (larger <= smaller).all()
    assert "adversarial_rank_png" in table
    reported = advrec("report", "study.yaml", cwd=evaluated)
    assert reported.returncode == 0, reported.stderr
    page = (evaluated / "results" / "shop" / "report" / "index.html").read_text()
    assert "gradients beat no gradients" in page


@pytest.mark.long
def test_a_run_does_not_mix_rows_of_a_model_that_has_changed(evaluated):
    """The weights' file and the source file of the function are part of what a model is."""
    source = evaluated / "shop" / "resnet.py"
    before = source.read_text()
    source.write_text(before.replace("width=16", "width=8"))
    refused = advrec("evaluate", "study.yaml", cwd=evaluated)
    source.write_text(before)
    assert refused.returncode == 2
    assert "models/own made with code_sha256" in refused.stderr
    assert (
        advrec("evaluate", "study.yaml", cwd=evaluated)
        .stdout.strip()
        .endswith("evaluate: done before")
    )
    changed = advrec(
        "evaluate", "study.yaml", "--set", "evaluation.delivery=jpeg-90", cwd=evaluated
    )
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


@pytest.fixture
def kinds_of(ready, tmp_path):
    """A prepared run in `tmp_path`/run, and what writes a study of modules of tests.shop.kinds."""
    shutil.copytree(ready.directory, tmp_path / "run")

    def write(*kinds, **evaluation):
        models = {kind: {"model": f"tests.shop.kinds:{kind}"} for kind in kinds}
        return write_study(tmp_path / "s.yaml", ready, evaluation=evaluation, models=models)

    return write


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_modules_that_a_faster_form_breaks_are_evaluated_whole_and_attacked(kinds_of, tmp_path):
    kinds = ("flat_view", "table", "hooked", "weight_norm", "brain_floats")
    kinds_of(*kinds, tuples=4, attacks=["noise", "pgd-2"])
    done = advrec("evaluate", "s.yaml", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "model flat_view: attacked contiguous" in done.stdout
    assert len(rows(tmp_path / "run")) == len(kinds) * 2 * 4 * 2
    names = Catalog(Run(tmp_path / "run")).names
    pair = ("--target", names[0], "--article", names[1])
    for model in ("flat_view", "hooked"):
        call = ("--model", model, "--attack", "pgd-2", "--epsilon", "0.05")
        shown = advrec("attack", "s.yaml", "--out", "run", *call, *pair, cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr


@pytest.mark.parametrize("kind", ["batch_norm_1d", "no_backward", "colour"])
def test_modules_that_cannot_be_attacked_are_refused_before_any_attack(kinds_of, tmp_path, kind):
    kinds_of(kind)
    refused = advrec("evaluate", "s.yaml", "--out", "run", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"advrec: models.{kind}: tests.shop.kinds:{kind} ")
    assert "layer" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not list((tmp_path / "run").glob("attacks/*"))


def test_an_image_without_a_distance_is_named(tmp_path):
    """A white placeholder, of which a network that sees 1 - x embeds nothing."""
    noise = np.random.default_rng(0)
    for category in ("dress", "shoe"):
        for number in range(20):
            path = tmp_path / "photos" / category / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 200, (32, 32, 3), dtype=np.uint8)).save(path)
    Image.new("RGB", (32, 32), "white").save(tmp_path / "photos" / "dress" / "placeholder.png")
    study = {
        "name": "shop",
        "catalog": {"source": "folder", "root": "photos", "image_size": 32, "duplicates": "keep"},
        "models": {"m": {"model": "tests.shop.kinds:zero_on_white"}},
        "evaluation": EVALUATION | {"tuples": 4},
        "resources": STUDY["resources"],
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(study))
    assert advrec("prepare", "s.yaml", cwd=tmp_path).returncode == 0
    assert advrec("train", "s.yaml", cwd=tmp_path).returncode == 0
    call = ("--model", "m", "--attack", "pgd-2", "--epsilon", "0.05")
    pair = ("--target", "dress/00.png", "--article", "shoe/01.png")
    for words in (("attack", "s.yaml", *call, *pair), ("recommend", "s.yaml", *call[:2], pair[1])):
        refused = advrec(*words, cwd=tmp_path)
        assert refused.returncode == 1
        assert "m cannot recommend: " in refused.stderr
        assert "leave dress/placeholder.png out of the catalog" in refused.stderr
        assert refused.stderr.count("\n") == 1
    ended = advrec("evaluate", "s.yaml", cwd=tmp_path)
    assert ended.returncode == 3
    assert "leave dress/placeholder.png out of the catalog" in ended.stdout
