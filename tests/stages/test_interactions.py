"""Interactions of a study as a user names them: prepared, said, set aside, refused."""

import shutil

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from advrec.catalog import interactions
from advrec.catalog.dataset import Catalog
from advrec.run.directory import Run
from advrec.run.files import read_json, write_json
from tests.commands import advrec
from tests.runs import write_study


@pytest.fixture
def shop(tmp_path, ready):
    """A directory with a prepared run, results/shop, and names of its articles."""
    shutil.copytree(ready.directory, tmp_path / "results" / "shop")
    return tmp_path, Catalog(ready).names


def bought(directory, *rows):
    (directory / "bought.csv").write_text("\n".join(["user,article,time", *rows]) + "\n")


def write(directory, ready, **changes):
    section = {"file": "bought.csv"} | changes
    write_study(directory / "shop.yaml", ready, evaluation={}, interactions=section)


def test_a_file_is_prepared_said_and_kept(shop, ready):
    directory, names = shop
    run = Run(directory / "results" / "shop")
    write(directory, ready)
    bought(directory, f"7,{names[3]},2", f"7,{names[4]},1", "8,gone.jpg,1", f"9,{names[4]},1")
    todo = advrec("prepare", "shop.yaml", "--dry-run", cwd=directory)
    assert f"interactions: to do: {directory}/bought.csv would be read" in todo.stdout
    assert not run.interactions.exists()
    done = advrec("prepare", "shop.yaml", cwd=directory)
    assert done.returncode == 3, done.stderr
    counts = (
        "interactions: 3 purchases of 2 users (1 with a single purchase, of which none is held "
        f"out), 1 held out; {len(names) - 1} of {len(names)} articles are cold\n"
    )
    assert done.stdout == (
        "prepare: done before\n"
        f"prepare: interactions: 4 rows of {directory}/bought.csv in order of time; 1 of 1 unknown "
        "article is set aside (gone.jpg); 1 user who bought nothing else is left out\n"
        f"prepare: {counts}"
    )
    found = interactions.read(run, len(names))
    assert [column.tolist() for column in found.held_out_pairs()] == [[0], [3]]
    assert pq.read_table(run.users)["user"].to_pylist() == [7, 9]
    assert read_json(run.directory / "set_aside.json") == {
        "interactions/gone.jpg": "is not in the catalog"
    }
    assert yaml.safe_load(run.study.read_text())["interactions"]["file"] == str(
        directory / "bought.csv"
    )
    for command in (["status", run.directory], ["prepare", "shop.yaml", "--dry-run"]):
        assert f"          {counts}" in advrec(*command, cwd=directory).stdout
    assert f"\n{counts}" in advrec("catalog", "shop.yaml", cwd=directory).stdout
    # A finished part is left as it is, and what was set aside stays known.
    before = run.interactions.stat().st_mtime_ns
    assert advrec("prepare", "shop.yaml", cwd=directory).returncode == 3
    assert run.interactions.stat().st_mtime_ns == before


def test_another_file_is_refused_and_its_path_does_not_matter(shop, ready):
    directory, names = shop
    write(directory, ready)
    bought(directory, f"7,{names[3]},2")
    assert advrec("prepare", "shop.yaml", cwd=directory).returncode == 0
    (directory / "bought.csv").rename(directory / "moved.csv")
    assert advrec("prepare", "shop.yaml", cwd=directory).returncode == 0  # it is read no more
    assert advrec("status", directory / "results" / "shop", cwd=directory).returncode == 0
    write(directory, ready, file="moved.csv")
    assert advrec("prepare", "shop.yaml", cwd=directory).returncode == 0
    with (directory / "moved.csv").open("a") as file:
        file.write(f"7,{names[5]},3\n")
    other = advrec("prepare", "shop.yaml", cwd=directory)
    assert other.returncode == 2
    assert "holds interactions made with file = " in other.stderr


def test_a_catalog_that_is_made_anew_gets_interactions_of_its_own(shop, ready):
    """Articles have other IDs then."""
    directory, names = shop
    run = Run(directory / "results" / "shop")
    write(directory, ready)
    bought(directory, f"7,{names[3]},2")
    assert advrec("prepare", "shop.yaml", cwd=directory).returncode == 0
    known = read_json(run.directory / "identities.json")
    known["interactions"]["catalog"] = "of the earlier catalog"
    write_json(run.directory / "identities.json", known)
    bought_before = run.interactions.stat().st_mtime_ns
    assert "interactions: to do" in advrec("status", run.directory, cwd=directory).stdout
    assert advrec("prepare", "shop.yaml", cwd=directory).returncode == 0
    assert run.interactions.stat().st_mtime_ns > bought_before


def test_a_bad_file_is_refused_before_any_work(tmp_path, ready):
    write(tmp_path, ready)
    bought(tmp_path, "7,a.jpg,soon")
    for more in ([], ["--dry-run"]):
        refused = advrec("prepare", "shop.yaml", *more, cwd=tmp_path)
        assert refused.returncode == 2
        assert "bought.csv line 2: time is soon; write every time as" in refused.stderr
        assert not (tmp_path / "results" / "shop" / "identities.json").exists()


def test_a_study_without_interactions_has_no_such_key(shop, ready):
    directory, _ = shop
    write_study(directory / "shop.yaml", ready, evaluation={})
    assert advrec("prepare", "shop.yaml", cwd=directory).returncode == 0
    run = Run(directory / "results" / "shop")
    assert "interactions" not in yaml.safe_load(run.study.read_text())
    assert not run.interactions.exists()
    assert "interactions" not in advrec("status", run.directory, cwd=directory).stdout


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({}, "interactions: name either file, or source: synthetic"),
        ({"file": "a.csv", "source": "synthetic"}, "name either file, or source: synthetic"),
        ({"file": "a.csv", "users": 3}, "users belongs to source: synthetic; remove it, or file"),
        ({"source": "synthetic", "user": 3}, "user is not a known key; did you mean users?"),
        ({"source": "drawn"}, r"interactions.source is drawn"),
        ({"source": "synthetic", "cold": 1.0}, "interactions.cold is 1.0"),
        ({"file": "none.csv"}, "none.csv: cannot be read (No such file or directory); set"),
    ],
    ids=str,
)
def test_impossible_sections_are_refused_in_a_sentence(section, said, tmp_path, ready):
    write_study(tmp_path / "shop.yaml", ready, evaluation={}, interactions=section)
    refused = advrec("prepare", "shop.yaml", cwd=tmp_path)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_drawn_ones_are_synthetic_in_every_line(shop, ready):
    directory, names = shop
    run = Run(directory / "results" / "shop")
    write(directory, ready, file=None, source="synthetic", users=30, purchases=5)
    todo = "synthetic interactions: to do: 5 purchases of each of 30 users would be drawn\n"
    assert todo in advrec("prepare", "shop.yaml", "--dry-run", cwd=directory).stdout
    done = advrec("prepare", "shop.yaml", cwd=directory)
    assert done.returncode == 0, done.stderr
    assert "prepare: synthetic interactions: 5 purchases of each of 30 users" in done.stdout
    found = interactions.read(run, len(names))
    assert found.summary() in done.stdout
    shown = advrec("catalog", "shop.yaml", cwd=directory).stdout
    assert "\nsynthetic interactions: 150 purchases" in shown
    users = pq.read_table(run.users)
    assert users["user"].to_pylist() == list(range(30))
    assert {*users["group"].to_pylist()} <= set(range(6))
    section = yaml.safe_load(run.study.read_text())["interactions"]
    assert (section["groups"], section["personal"], section["cold"]) == (6, 0.7, 0.3)
    write(directory, ready, file=None, source="synthetic", users=31, purchases=5)
    other = advrec("prepare", "shop.yaml", cwd=directory)
    assert other.returncode == 2
    assert "holds interactions made with users = 30, the study says 31" in other.stderr


def test_without_categories_none_can_be_drawn(tmp_path):
    (tmp_path / "photos").mkdir()
    for shade in range(8):
        Image.new("RGB", (32, 32), (shade, 0, 0)).save(tmp_path / "photos" / f"{shade}.png")
    study = {
        "name": "flat",
        "catalog": {"source": "folder", "root": "photos", "image_size": 32},
        "interactions": {"source": "synthetic"},
        "models": {"one": {"model": "tests.shop.small:network"}},
        "evaluation": {"attacks": ["fgsm"]},
        "resources": {"actors": 0},
    }
    (tmp_path / "flat.yaml").write_text(yaml.safe_dump(study))
    for more in ([], ["--dry-run"]):
        refused = advrec("prepare", "flat.yaml", *more, cwd=tmp_path)
        assert refused.returncode == 2
        assert refused.stderr == (
            "advrec: flat.yaml: interactions.source is synthetic, which draws tastes for "
            "categories, and the catalog has none; name a file of purchases, or give the images "
            "categories\n"
        )
