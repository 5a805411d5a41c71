"""Images that a defense without labels trains on: the catalog's, or those of a folder."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from advrec.catalog import files, images
from advrec.catalog.dataset import Catalog
from advrec.catalog.sources import folder
from advrec.run import identity, lineage
from advrec.run.directory import Run
from advrec.spec import study as study_file
from advrec.training import data
from tests.commands import advrec
from tests.shop import encoders

FARE = {"defense": "fare", "init": "shop", "epsilon": 0.03, "steps": 1, "epochs": 2, "batch": 32}


@pytest.fixture
def home(tmp_path, prepared):
    """A directory with a run, results/study, that has a catalog."""
    run = Run(tmp_path / "results" / "study")
    with run.lock():
        shutil.copytree(prepared.directory, run.directory, dirs_exist_ok=True)
    return tmp_path


def written(home, prepared, **models):
    """Write a study of these models."""
    content = {
        "name": "study",
        "catalog": {
            "source": "deepfashion",
            "root": str(prepared.directory / "synthetic"),
            "image_size": 32,
        },
        "models": {"shop": {"model": "tests.shop.encoders:normed"}} | models,
        "evaluation": {"attacks": ["fgsm"]},
        "resources": {"actors": 0},
    }
    path = home / "study.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def train(home, *more):
    return advrec("train", home / "study.yaml", "--out", home / "results" / "study", *more, cwd="/")


def draw(path, seed, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_a_folder_of_the_training_splits_images_makes_the_weights_that_the_split_makes(
    home, prepared, catalog, monkeypatch
):
    """Also where training dies after an epoch."""
    for article in catalog.ids_of("train"):
        where = home / "photos" / str(article // 40) / f"{article:04d}.png"
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(catalog.pngs([article])[0])
    models = {"split": FARE, "photos": FARE | {"images": "photos"}}
    written(home, prepared, **models)
    from advrec.training import state

    save = state.save

    def dies(path, kept):
        save(path, kept)
        if "/photos/" in str(path) and len(kept.history) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("advrec.training.loop.state.save", dies)
    assert train(home).returncode == 130
    monkeypatch.undo()
    ended = train(home)
    assert ended.returncode == 0, ended.stderr
    assert "train photos: goes on after epoch 1/2" in ended.stdout
    run = Run(home / "results" / "study")
    assert run.weights("photos").read_bytes() == run.weights("split").read_bytes()
    known = run.identities()
    assert len(known["models/photos"]["images_sha256"]) == 64
    assert "images_sha256" not in known["models/split"]


@pytest.fixture
def photographs(home):
    """A folder of 12 images, flat and nested; one of them twice, one broken, one a link."""
    for number in range(12):
        draw(home / "photos" / ("", "a", "a/b")[number % 3] / f"{number:02d}.png", number)
    shutil.copy(home / "photos" / "00.png", home / "photos" / "a" / "twice.png")
    (home / "photos" / "a" / "broken.jpg").write_bytes(b"no image")
    (home / "photos" / "link.png").symlink_to(home / "photos" / "00.png")
    (home / "photos" / "notes.txt").write_text("no image")
    (home / "photos" / ".hidden.png").write_bytes(b"")
    return home / "photos"


def test_images_of_a_folder_are_prepared_as_the_catalogs_and_what_is_left_out_is_said(
    home, prepared, photographs
):
    written(home, prepared, m=FARE | {"images": "photos"})
    done = train(home)
    assert done.returncode == 0, done.stderr
    assert (
        f"12 images of {photographs} (15 listed; left out: 1 as duplicates, 2 that cannot be read)"
        in done.stdout
    )
    assert "train m: set aside a/broken.jpg: is not an image of a known format" in done.stdout
    assert "train m: set aside link.png: is a link" in done.stdout
    assert "train m: WARNING: 12 images are few" in done.stdout
    found = Catalog(Run(home / "results" / "study").training_images(str(photographs)))
    names = ["00.png", "03.png", "06.png", "09.png"]
    names += [f"a/{number:02d}.png" for number in (1, 4, 7, 10)]
    names += [f"a/b/{number:02d}.png" for number in (2, 5, 8, 11)]
    assert found.names == names
    for article, name in enumerate(names):
        own = images.squared(Image.open(photographs / name), 32, "pad")
        assert np.array_equal(found.pixels([article])[0], np.asarray(own))


def test_a_trained_models_images_may_go_and_may_not_change(home, prepared, photographs):
    written(home, prepared, m=FARE | {"images": "photos", "epochs": 1})
    assert train(home).returncode == 0
    same = (photographs / "00.png").read_bytes()
    draw(photographs / "00.png", 99)
    changed = train(home)
    assert changed.returncode == 2
    assert "models.m.images" in changed.stderr
    assert "holds other images than m was trained on" in changed.stderr
    (photographs / "00.png").write_bytes(same)
    assert "train m: done before" in train(home).stdout
    shutil.rmtree(photographs)
    assert "train m: done before" in train(home).stdout
    draw(home / "one" / "00.png", 0)
    (home / "none").mkdir()
    for images_key, words in (
        ("train", "holds models/m made with images"),
        ("catalog", "holds models/m made with images"),
        ("one", "holds other images than m was trained on"),
        ("none", "holds no images"),
    ):
        written(home, prepared, m=FARE | {"images": images_key, "epochs": 1})
        refused = train(home)
        assert refused.returncode == 2
        assert words in refused.stderr


def test_files_that_determine_a_model_may_be_moved_and_not_changed(home, prepared, photographs):
    """Folders of images and checkpoints, also where an earlier version recorded their paths."""
    torch.save(encoders.normed().state_dict(), home / "shop.pt")
    entry = FARE | {"epochs": 1}

    def write(checkpoint, images):
        shop = {"model": "tests.shop.encoders:normed", "checkpoint": checkpoint}
        m, n = entry | {"images": images}, entry | {"init": "m"}
        return written(home, prepared, shop=shop, m=m, n=n)

    path = write("shop.pt", "photos")
    assert train(home).returncode == 0
    file = home / "results" / "study" / "identities.json"
    assert str(photographs) not in file.read_text()
    assert "shop.pt" not in file.read_text()
    known = json.loads(file.read_text())
    shop, m, n = (known[f"models/{model}"] for model in ("shop", "m", "n"))
    shop["checkpoint"], m["images"] = str(home / "shop.pt"), str(photographs)
    m["init_sha256"] = lineage.weights_hash(shop)
    n["init_sha256"] = lineage.weights_hash({k: m[k] for k in m if k != "images_sha256"})
    del n["init_images_sha256"]
    before, earlier = file.read_text(), json.dumps(known)
    shutil.move(photographs, home / "moved")
    shutil.move(home / "shop.pt", home / "moved.pt")
    write("moved.pt", "moved")
    for recorded in (before, earlier):
        file.write_text(recorded)
        again = train(home)
        assert again.returncode == 0, again.stderr
        for model in ("shop", "m", "n"):
            assert f"train {model}: done before" in again.stdout
    draw(home / "moved" / "00.png", 99)
    refused = train(home)
    assert "moved holds other images than m was trained on" in refused.stderr
    torch.save(encoders.normed().half().state_dict(), home / "moved.pt")
    refused = train(home)
    assert "holds models/shop made with checkpoint_sha256" in refused.stderr
    assert path.exists()


def test_a_model_remembers_the_images_of_the_model_that_it_began_with(home, prepared, photographs):
    entry = FARE | {"epochs": 1}
    written(home, prepared, m=entry | {"images": "photos"}, n=entry | {"init": "m"})
    assert train(home).returncode == 0
    run = Run(home / "results" / "study")
    known = run.identities()
    assert known["models/n"]["init_images_sha256"] == [known["models/m"]["images_sha256"]]
    run.weights("m").unlink()
    draw(photographs / "00.png", 99)
    train(home)  # m anew, of other images
    refused = train(home)
    assert refused.returncode == 2
    assert "holds models/n made with init_images_sha256" in refused.stderr


def test_images_are_not_read_again_where_sizes_and_times_are_the_same(
    home, prepared, photographs, monkeypatch
):
    def age(seconds):
        for path in photographs.rglob("*"):
            os.utime(path, (seconds, seconds), follow_symlinks=False)

    read, names = files.LocalRoot.read, []

    def noted(self, name):
        names.append(name)
        return read(self, name)

    age(1e9)
    written(home, prepared, m=FARE | {"images": "photos", "epochs": 1})
    assert train(home).returncode == 0
    monkeypatch.setattr(files.LocalRoot, "read", noted)
    assert "train m: done before" in train(home).stdout
    assert not names
    age(1.1e9)  # what is in them is the same
    assert "train m: done before" in train(home).stdout
    assert names
    names.clear()
    assert "train m: done before" in train(home).stdout
    assert not names
    pixels = bytearray((photographs / "00.png").read_bytes())
    pixels[-30] ^= 1
    (photographs / "00.png").write_bytes(pixels)
    assert train(home).returncode == 2


def test_a_folder_that_changes_before_its_model_is_trained_is_prepared_anew(
    home, prepared, photographs
):
    """Names and sizes stay."""
    run = Run(home / "results" / "study")
    written(home, prepared, m=FARE | {"images": "photos", "epochs": 1})
    hashes = []
    for seed in (0, 99):
        Image.fromarray(np.full((40, 30, 3), seed, dtype=np.uint8)).save(photographs / "p.bmp")
        assert train(home).returncode == 0
        hashes.append(run.identities()["models/m"]["images_sha256"])
        run.weights("m").unlink()
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda photos: None, ["is not a directory", "or write train or catalog"]),
        (lambda photos: photos.mkdir(), ["holds no images", "name a folder of images"]),
        (
            lambda photos: (photos.mkdir(), (photos / "a.jpg").write_bytes(b"")),
            ["holds no usable image (1 were set aside; a.jpg: is empty)"],
        ),
    ],
    ids=["missing", "empty", "broken"],
)
def test_a_folder_that_nothing_can_be_trained_on_is_refused(home, prepared, make, said):
    make(home / "photos")
    written(home, prepared, m=FARE | {"images": "photos"})
    refused = train(home)
    assert refused.returncode == 2
    for words in ["models.m.images", str(home / "photos"), *said]:
        assert words in refused.stderr
    assert "Traceback" not in refused.stderr


def test_all_splits_are_trained_on_where_the_entry_says_catalog(home, prepared, catalog):
    path = written(home, prepared, m=FARE | {"images": "catalog", "epochs": 1}, n=FARE)
    models, run = study_file.load(path).models, Run(home / "results" / "study")
    assert data.source(run, models["m"], catalog).ids.tolist() == list(range(len(catalog)))
    split = data.source(run, models["n"], catalog)
    assert split.ids.tolist() == catalog.ids_of("train").tolist()
    first = train(home, "--dry-run")
    assert f"m: WARNING: {len(catalog)} images are few" in first.stdout
    assert f"n: WARNING: {len(split.ids)} images are few" in first.stdout
    assert "more epochs" not in first.stdout
    assert "more images" not in first.stdout
    done = train(home)
    assert "train m: trains on all splits" in done.stdout
    assert not np.array_equal(run.weights("m").read_bytes(), run.weights("n").read_bytes())


def test_images_that_the_catalog_measures_on_are_counted_where_they_are_trained_on(
    home, prepared, catalog
):
    """By their pixels: whatever their names and formats."""
    test, validation = catalog.ids_of("test"), catalog.ids_of("validation")
    (home / "photos").mkdir()
    chosen = [*catalog.ids_of("train")[:5], *test[:3], *validation[:2]]
    for number, article in enumerate(chosen):
        Image.fromarray(catalog.pixels([article])[0]).save(home / "photos" / f"{number}.bmp")
    entry = FARE | {"epochs": 1}
    written(
        home,
        prepared,
        split=entry,
        whole=entry | {"images": "catalog"},
        photos=entry | {"images": "photos"},
    )
    done = train(home)
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stdout.splitlines() if "that the training saw" in line]
    assert len(warned) == 1
    for words in (
        f"train photos: WARNING: {home / 'photos'} holds",
        f"3 of the {len(test)} images of the test split",
        f"2 of the {len(validation)} images of the validation split",
    ):
        assert words in warned[0]
    run = Run(home / "results" / "study")
    expected = {"split": (0, 0), "whole": (len(test), len(validation)), "photos": (3, 2)}
    for model, counts in expected.items():
        metrics = json.loads((run.model(model) / "metrics.json").read_text())
        assert (metrics["test_images_seen"], metrics["validation_images_seen"]) == counts
    assert advrec("export", run.directory, "--model", "photos", "m.pt", cwd=home).returncode == 0
    assert "| test_images_seen | 3 |" in (home / "m.pt.md").read_text()


def test_lore_says_where_its_constraint_does_not_hold(home, prepared):
    lore = FARE | {"defense": "lore", "epochs": 1, "learning_rate": 0.01}
    written(home, prepared, tight=lore | {"rho": 0.0001}, wide=lore | {"rho": 3.0})
    done = train(home)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if "the constraint does not hold" in line]
    assert len(said) == 1
    assert said[0].endswith("a smaller rho keeps more of the lists, a larger one is safer")
    run = Run(home / "results" / "study")
    metrics = json.loads((run.model("tight") / "metrics.json").read_text())
    assert metrics["above_rho"] == 1.0
    shown = f"median {100 * metrics['drift_median']:.3g} %"
    for words in ("train tight: WARNING: rho is 0.0001, and 100 % of 20 test images", shown):
        assert words in said[0]
    assert json.loads((run.model("wide") / "metrics.json").read_text())["above_rho"] == 0.0


def test_runs_that_know_no_images_go_on(home, prepared):
    path = written(home, prepared, m=FARE | {"epochs": 1}, n=FARE | {"init": "m", "epochs": 1})
    assert train(home).returncode == 0
    file = home / "results" / "study" / "identities.json"
    known = json.loads(file.read_text())
    for model in ("m", "n"):
        del known[f"models/{model}"]["images"]
    parts = identity.identities(study_file.load(path)).models
    hashed = study_file.canonical_hash(known["models/m"])
    assert parts["n"]["init_sha256"] == known["models/n"]["init_sha256"] == hashed
    file.write_text(json.dumps(known))
    again = train(home)
    assert again.returncode == 0, again.stderr
    assert "train n: done before" in again.stdout


def test_a_folder_is_listed_however_deep_and_what_is_no_image_is_told(photographs):
    (photographs / "__MACOSX").mkdir()
    (photographs / "elsewhere").symlink_to(photographs / "a")
    listing = folder.below(str(photographs))
    every = sorted(
        path.relative_to(photographs).as_posix()
        for path in photographs.rglob("*")
        if path.suffix in (".png", ".jpg") and not path.name.startswith(".")
    )
    assert sorted(article.name for article in listing.articles) == every
    assert {article.split for article in listing.articles} == {"train"}
    assert listing.links == 1
    assert listing.ignored == (
        "__MACOSX (made by an operating system)",
        "elsewhere (a link)",
        "notes.txt (no image by its name)",
    )
