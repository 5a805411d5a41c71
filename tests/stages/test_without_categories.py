"""A catalog whose source knows no categories: how it is listed and split, who attacks whom, and
what leaves categories out.
"""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from advrec.catalog.dataset import Catalog
from advrec.catalog.sources import folder, manifest
from advrec.errors import ConfigError
from advrec.evaluation import tuples
from advrec.recommenders.ranks import similar_articles
from advrec.run import identity
from advrec.run.directory import Run
from advrec.run.tables import read_embeddings
from advrec.search import trial
from advrec.spec.search import TuneSpec
from tests.commands import advrec
from tests.conftest import STUDY
from tests.runs import blocks, rows

SMALL = "tests.shop.small:network"
STUDY_HERE = {
    "name": "flat",
    "catalog": {"source": "folder", "root": "photos", "image_size": 32},
    "models": {
        "one": {"model": SMALL},
        "two": {"defense": "fare", "init": "one", "epochs": 1, "steps": 1},
    },
    "evaluation": STUDY["evaluation"]
    | {"tuples": 8, "attacks": ["pgd-2"], "epsilons": ["8/255"], "examples": 1},
    "resources": STUDY["resources"],
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory, prepared):
    """A directory with a flat folder of photographs, a study of it, and its finished run."""
    directory = tmp_path_factory.mktemp("flat")
    catalog = Catalog(prepared)
    (directory / "photos").mkdir()
    for article, pixels in enumerate(catalog.pixels(range(len(catalog)))):
        Image.fromarray(pixels).save(directory / "photos" / f"{article:03d}.jpg", quality=95)
    write(directory, STUDY_HERE, directory)
    with pytest.MonkeyPatch.context() as quick:  # drawing takes most of the time
        shapes = [f"{w}-{c}" for w in ("wide", "narrow") for c in ("light", "dark")]
        blank = dict.fromkeys(shapes, b"<svg/>")
        quick.setattr("advrec.reports.report._draw", lambda run, name, chart: blank)
        done = advrec("study", "study.yaml", cwd=directory)
    assert done.returncode == 0, done.stderr
    (directory / "told.txt").write_text(done.stdout)
    return directory


def write(directory, study, place):
    """Write a study of the photographs at `place`."""
    root = {"root": str(place / "photos")}
    whole = study | {"catalog": study["catalog"] | root}
    (directory / "study.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))


@pytest.fixture
def again(shop, tmp_path):
    shutil.copytree(shop, tmp_path, dirs_exist_ok=True)
    return tmp_path


def splits(listing):
    return {article.name.rpartition("/")[2]: article.split for article in listing.articles}


def test_folder_and_manifest_split_alike_and_know_no_category(shop, tmp_path):
    listing = folder.walk(str(shop / "photos"), 42)
    assert not listing.labelled
    counts = pd.Series(splits(listing)).value_counts()
    assert counts.to_dict() == {"train": 92, "validation": 20, "test": 20}
    for head in ("path", "path;textures"):
        names = "\n".join(article.name for article in listing.articles)
        text = names if head == "path" else names.replace("\n", ";dots\n") + ";dots"
        (tmp_path / "all.csv").write_text(f"{head}\n{text}\n")
        read = manifest.read(str(tmp_path / "all.csv"), str(shop / "photos"), 42)
        assert splits(read) == splits(listing)
        assert not read.labelled
    (tmp_path / "all.csv").write_text("path,category\na.jpg,\n")
    with pytest.raises(ConfigError, match="line 2: category is empty"):
        manifest.read(str(tmp_path / "all.csv"), "x", 42)
    (tmp_path / "all.csv").write_text("category,split\ndress,train\n")
    with pytest.raises(ConfigError, match="has no column path; it has category, split"):
        manifest.read(str(tmp_path / "all.csv"), "x", 42)


def test_split_directories_may_hold_images_alone(shop, tmp_path):
    for place, path in enumerate(sorted((shop / "photos").iterdir())):
        directory = tmp_path / ("train", "val", "test")[place % 3]
        directory.mkdir(exist_ok=True)
        os.link(path, directory / path.name)
    (tmp_path / "test" / "notes.txt").touch()
    listing = folder.walk(str(tmp_path), 0)
    assert not listing.labelled
    for place, name in enumerate(sorted(splits(listing))):
        assert splits(listing)[name] == ("train", "validation", "test")[place % 3]
    assert listing.ignored == ("test/notes.txt (no image by its name)",)
    # A directory of a category changes what all of them mean.
    (tmp_path / "test" / "hat").mkdir()
    with pytest.raises(ConfigError, match="holds no images"):
        folder.walk(str(tmp_path), 0)


def test_one_directory_of_images_is_one_category_and_the_way_out_is_said(tmp_path):
    (tmp_path / "hats").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "hats" / "a.png")
    with pytest.raises(ConfigError, match="add a second category, or list the images without any"):
        folder.walk(str(tmp_path), 0)


def lists_of(run, model):
    """The ten nearest of every article, by a full sort in float64."""
    items = read_embeddings(run, model, 32).astype(np.float64)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    distances = 1 - items @ items.T
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1, kind="stable")[:, :10]


def test_neither_article_of_a_tuple_stands_in_the_others_list(shop):
    run = Run(shop / "results" / "flat")
    lists, test = lists_of(run, "one"), set(Catalog(run).ids_of("test").tolist())
    pairs = pq.read_table(run.tuples).to_pylist()
    assert len({(pair["target_id"], pair["attack_id"]) for pair in pairs}) == 8
    for pair in pairs:
        target, attack = pair["target_id"], pair["attack_id"]
        assert {target, attack} <= test
        assert target != attack
        assert attack not in lists[target]
        assert target not in lists[attack]
    assert run.identities()["tuples"]["lists_of"] == "one"
    by_model = rows(run.directory).groupby("model", observed=True)["tuple_id"].nunique()
    assert by_model.to_dict() == {"one": 8, "two": 8}


def test_a_draw_is_the_beginning_of_a_larger_one_and_says_how_many_there_are():
    items = np.random.default_rng(3).normal(size=(40, 4)).astype(np.float32)
    index, ids = similar_articles(items), np.arange(0, 40, 3, dtype=np.int32)
    unit = items.astype(np.float64) / np.linalg.norm(items, axis=1, keepdims=True)
    distances = 1 - unit @ unit.T
    np.fill_diagonal(distances, np.inf)
    near = np.argsort(distances, axis=1)[:, :10]
    possible = {
        (a, b)
        for a in ids.tolist()
        for b in ids.tolist()
        if a != b and a not in near[b] and b not in near[a]
    }

    def drawn(count):
        table = tuples.sample_apart(index, ids, "test", count, 7, "shop")
        both = (table[key].to_pylist() for key in ("target_id", "attack_id"))
        return list(zip(*both, strict=True))

    everything = drawn(len(possible))
    assert set(everything) == possible
    assert drawn(5) == everything[:5]
    said = f"holds {len(possible)} pairs .* other's list of ten by shop"
    with pytest.raises(ConfigError, match=said):
        drawn(len(possible) + 1)


def test_a_run_goes_on_with_its_tuples_and_refuses_another_first_model(again, shop):
    run = Run(again / "results" / "flat")
    before, table = rows(run.directory), run.tuples.read_bytes()
    for lost in run.attacks.glob("model=two/*/block-000001.parquet"):
        lost.unlink()
    assert advrec("evaluate", "study.yaml", cwd=again).returncode == 0
    same = [key for key in before if key != "seconds"]
    assert rows(run.directory)[same].equals(before[same])
    assert run.tuples.read_bytes() == table
    made = blocks(run.directory)
    changed = STUDY_HERE | {"models": {"other": {"model": SMALL}} | STUDY_HERE["models"]}
    write(again, changed, shop)
    refused = advrec("evaluate", "study.yaml", cwd=again)
    assert refused.returncode == 2
    assert 'holds tuples made with lists_of = "one", the study says "other"' in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert blocks(run.directory) == made


def test_a_csv_may_name_any_two_articles(again):
    run = Run(again / "results" / "flat")
    names = [Catalog(run).names[article] for article in Catalog(run).ids_of("test")]
    for name, text in {
        "any.csv": f"{names[0]},{names[1]}",
        "same.csv": f"{names[0]},{names[0]}",
    }.items():
        (again / name).write_text(f"target_name,attack_name\n{text}\n")
    pairs = tuples.read_csv(Catalog(run), "test", again / "any.csv")
    assert pairs.num_rows == 1
    with pytest.raises(ConfigError, match="line 2: both are one article"):
        tuples.read_csv(Catalog(run), "test", again / "same.csv")


def test_page_terminal_and_tables_leave_categories_out(shop):
    told = (shop / "told.txt").read_text()
    assert "132 images listed without categories" in told
    assert "20 test; no categories" in told
    report = shop / "results" / "flat" / "report"
    assert "Neither article of a tuple stands in the other" in (report / "index.html").read_text()
    page = (report / "index.html").read_text()
    body = page[page.index("<body") : page.index("<script")]
    body = body.replace("category_attack: null", "")  # a key of the study that is shown at the end
    for text in (told.replace("without categories", "").replace("no categories", ""), body):
        assert "categor" not in text.lower()
    assert "same_category" not in (report / "tables" / "recommendations.csv").read_text()
    assert not any(
        "category" in key for key in pd.read_csv(report / "tables" / "defense_comparison.csv")
    )
    assert pd.read_csv(report / "tables" / "categories.csv").empty


def test_commands_on_single_articles_work(shop):
    run = Run(shop / "results" / "flat")
    pair = pq.read_table(run.tuples).to_pylist()[0]
    shown = advrec("recommend", "study.yaml", "--model", "one", pair["target_id"], cwd=shop)
    assert shown.returncode == 0
    assert "(" not in shown.stdout.splitlines()[2]
    counted = advrec("catalog", "study.yaml", cwd=shop)
    assert "132 articles without categories: 92 train, 20 validation, 20 test" in counted.stdout
    words = ["--model", "one", "--attack", "pgd-2", "--epsilon", "8/255"]
    words += ["--target", pair["target_id"], "--article", pair["attack_id"]]
    assert advrec("attack", "study.yaml", *words, cwd=shop).returncode == 0


@pytest.mark.parametrize("defense", ["none", "at", "cat"])
def test_a_training_that_needs_classes_is_refused_before_any_work(shop, defense):
    model = ["--set", f"models.three={json.dumps({'defense': defense})}"]
    said = f"models.three: defense {defense} trains on categories, and the catalog has none; take"
    for out in ("fresh", "results/flat"):
        for more in ([], ["--dry-run"]):
            refused = advrec("study", "study.yaml", *model, "--out", out, *more, cwd=shop)
            assert refused.returncode == 2, (out, more, refused.stdout)
            assert said in refused.stderr
            assert refused.stderr.count("\n") == 1
    assert not list((shop / "fresh").glob("*ared*")), "nothing is prepared"
    shutil.rmtree(shop / "fresh", ignore_errors=True)


def test_trials_of_a_search_attack_tuples_that_are_apart(shop, tmp_path):
    run = Run(shop / "results" / "flat")
    study = identity.recorded_study(run)
    content = {"name": "t", "study": "s.yaml", "model": "two", "attack": "pgd-2", "tuples": 4}
    content |= {"space": {"models.two.steps": {"choice": [1]}}, "objectives": ["success_rate"]}
    spec = TuneSpec.model_validate_json(json.dumps(content))
    trial.check(spec, study, run)
    made = trial.run_trial(spec, study, run, tmp_path)
    assert 0.0 <= made["success_rate"] <= 1.0
    many = TuneSpec.model_validate_json(json.dumps(content | {"tuples": 400}))
    with pytest.raises(ConfigError, match=r"tuples: .* other's list of ten by one"):
        trial.check(many, study, run)
