"""The readers of a plain folder and of a manifest, on small real trees."""

import collections
import dataclasses
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from advrec.catalog import files
from advrec.catalog.sources import folder, manifest, registry
from advrec.errors import ConfigError
from advrec.spec.catalog import CatalogSpec


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(
        np.random.default_rng(len(str(path))).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    ).save(path)


def test_a_folder_is_split_by_name_and_seed_alike_in_every_category(tmp_path):
    for category in ("hat", "shoe"):
        for n in range(20):
            picture(tmp_path / category / f"{n}.jpg")
    (tmp_path / "LICENSE").write_text("not an image")
    (tmp_path / "hat" / "notes.txt").write_text("not an image")
    listing = folder.walk(str(tmp_path), seed=1)
    counts = collections.Counter((a.category, a.split) for a in listing.articles)
    for category in ("hat", "shoe"):
        assert [counts[category, split] for split in ("train", "validation", "test")] == [14, 3, 3]
    assert folder.walk(str(tmp_path), seed=1) == listing
    assert [a.split for a in folder.walk(str(tmp_path), seed=2).articles] != [
        a.split for a in listing.articles
    ]
    assert not listing.has_textures


def test_split_directories_may_say_val_and_stand_alone(tmp_path):
    for split in ("train", "val", "test"):
        for category in ("hat", "shoe"):
            picture(tmp_path / split / category / "1.png")
    assert [article.split for article in folder.walk(str(tmp_path), seed=1).articles] == [
        "train"
    ] * 2 + ["validation"] * 2 + ["test"] * 2
    (tmp_path / "extra").mkdir()
    with pytest.raises(
        ConfigError, match="holds the splits test, train, val and beside them extra"
    ):
        folder.walk(str(tmp_path), seed=1)


@pytest.mark.parametrize("name", ["Train", "TRAIN", "train"])
def test_the_names_of_splits_may_be_written_large(tmp_path, name):
    for split in (name, "Val", "TEST"):
        for category in ("hat", "shoe"):
            picture(tmp_path / split / category / "1.png")
    assert [article.split for article in folder.walk(str(tmp_path), seed=1).articles] == [
        "train"
    ] * 2 + ["validation"] * 2 + ["test"] * 2


def test_a_category_may_be_called_train_but_a_split_among_categories_is_refused(tmp_path):
    for category in ("train", "doll"):
        for n in range(10):
            picture(tmp_path / category / f"{n}.png")
    assert {article.category for article in folder.walk(str(tmp_path), seed=1).articles} == {
        "train",
        "doll",
    }
    picture(tmp_path / "test" / "doll" / "1.png")
    with pytest.raises(ConfigError, match="beside them doll"):
        folder.walk(str(tmp_path), seed=1)


def test_a_source_without_a_split_is_refused_before_any_image_is_opened(tmp_path):
    for split in ("train", "test"):
        for category in ("hat", "shoe"):
            picture(tmp_path / split / category / "1.png")
    with pytest.raises(ConfigError, match="lists no image of the validation split"):
        registry.read(CatalogSpec(source="folder", root=str(tmp_path)), 1)


def test_a_category_of_many_files_is_listed_in_a_moment(tmp_path):
    """All pairs of 40,000 files would be 800 million comparisons."""
    for category in ("hat", "shoe"):
        (tmp_path / category).mkdir()
    for n in range(40_000):
        (tmp_path / "hat" / f"{n}.jpg").touch()
    (tmp_path / "shoe" / "1.jpg").touch()
    compared = 0

    class Name(str):
        __slots__ = ()

        def __eq__(self, other):
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    class Counting:
        def __init__(self, root):
            self.root = root

        def entries(self, directory=""):
            return [entry._replace(name=Name(entry.name)) for entry in self.root.entries(directory)]

    seen = folder._Seen()
    assert len(folder._images(Counting(files.at(str(tmp_path))), "hat", seen)) == 40_000
    assert compared < 1_000_000


def test_a_folder_with_split_directories_keeps_them(tmp_path):
    for split in ("train", "validation", "test"):
        for category in ("hat", "shoe"):
            picture(tmp_path / split / category / "1.png")
    listing = folder.walk(str(tmp_path), seed=1)
    assert sorted((a.split, a.category, a.name) for a in listing.articles)[0] == (
        "test",
        "hat",
        "test/hat/1.png",
    )
    assert len(listing.articles) == 6


def test_one_category_or_none_or_no_directory_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not a directory"):
        folder.walk(str(tmp_path / "missing"), seed=1)
    with pytest.raises(ConfigError, match="holds no images"):
        folder.walk(str(tmp_path), seed=1)
    picture(tmp_path / "hat" / "1.jpg")
    with pytest.raises(ConfigError, match="one category"):
        folder.walk(str(tmp_path), seed=1)


def test_what_is_not_listed_is_said_and_links_are_listed_to_be_refused(tmp_path):
    for category in ("hat", "shoe"):
        picture(tmp_path / category / "1.jpg")
    picture(tmp_path / "hat" / "old" / "2.jpg")
    (tmp_path / "hat" / "notes.txt").write_text("not an image")
    (tmp_path / "hat" / "link.jpg").symlink_to(tmp_path / "shoe" / "1.jpg")
    (tmp_path / "linked").symlink_to(tmp_path / "shoe")
    picture(tmp_path / "stray.jpg")
    listing = folder.walk(str(tmp_path), seed=1)
    assert [article.name for article in listing.articles] == [
        "hat/1.jpg",
        "hat/link.jpg",
        "shoe/1.jpg",
    ]
    assert listing.ignored == (
        "linked (a link)",
        "stray.jpg (in no category)",
        "hat/notes.txt (no image by its name)",
        "hat/old (a directory)",
    )


CSV = """path,category,textures,split
a/1.jpg,Tee,striped|dotted,train
"b, c/2.jpg",Hat,,val
3.jpg,Hat, plain ,test
"""


def test_a_manifest_is_read_as_csv_and_as_parquet(tmp_path):
    expected = [
        ("a/1.jpg", "Tee", ("striped", "dotted"), "train"),
        ("b, c/2.jpg", "Hat", (), "validation"),
        ("3.jpg", "Hat", ("plain",), "test"),
    ]
    (tmp_path / "items.csv").write_text("\ufeff" + CSV, encoding="utf-8")
    listing = manifest.read(str(tmp_path / "items.csv"), str(tmp_path), seed=1)
    assert [tuple(article)[:4] for article in listing.articles] == expected
    assert listing.has_textures
    names, categories, textures, splits = zip(*expected, strict=True)
    table = pa.table(
        {
            "path": names,
            "category": categories,
            "textures": [list(t) for t in textures],
            "split": splits,
            "price": [1, 2, 3],
        }
    )
    pq.write_table(table, tmp_path / "items.parquet")
    assert manifest.read(str(tmp_path / "items.parquet"), str(tmp_path), seed=1) == listing


def test_a_manifest_without_splits_is_split_as_a_folder_is(tmp_path):
    for category in ("hat", "shoe"):
        for n in range(20):
            picture(tmp_path / category / f"{n}.jpg")
    by_folder = folder.walk(str(tmp_path), seed=1)
    (tmp_path / "items.csv").write_text(
        "category,path\n" + "".join(f"{a.category},{a.name}\n" for a in by_folder.articles)
    )
    assert manifest.read(str(tmp_path / "items.csv"), str(tmp_path), seed=1) == dataclasses.replace(
        by_folder, ignored=()
    )


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (
            "kind,category\na,b\n",
            "has no column path; it has kind, category, of path, category, textures, split",
        ),
        *(
            (f"path,{name}\na.jpg,b\n", f"no column category, but one called {name}; rename")
            for name in ("Category", "categories", "catgory")
        ),
        (CSV.replace("Tee", ""), "line 2: category is empty"),
        (CSV.replace("a/1.jpg", ""), "line 2: path is empty"),
        (
            CSV.replace(",val", ",holdout"),
            "line 3: split is holdout (allowed: train, val, valid, validation, dev, test)",
        ),
        (CSV.replace(",test", ","), "line 4: split is empty"),
        (CSV.replace("3.jpg", "a/1.jpg"), "line 4: a/1.jpg stands already in line 2"),
        (CSV.replace("3.jpg", "./a//1.jpg"), "line 4: a/1.jpg stands already in line 2"),
        (
            CSV.replace("plain ,test", "plain ,test,more"),
            "line 4: holds more values than the 4 columns",
        ),
        (CSV.replace("Hat,,val", '"Hat,,val'), "line 3: unexpected end of data"),
        ("", "has no column path"),
        ("path,split,path\na,test,b\n", "items.csv: has the column path twice; rename one"),
        ("path,category\n", "items.csv: holds no images"),
        ("path,category\n1.jpg,Tee\n", "items.csv: all images are of one category (Tee)"),
    ],
)
def test_a_malformed_manifest_is_named_with_its_line(tmp_path, text, part):
    (tmp_path / "items.csv").write_text(text)
    with pytest.raises(ConfigError) as error:
        manifest.read(str(tmp_path / "items.csv"), str(tmp_path), seed=1)
    assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_manifest_of_numbers_and_gaps_is_text(tmp_path):
    textures = pa.array([float("nan"), None], pa.float64())
    table = pa.table(
        {"path": ["1.jpg", "2.jpg"], "category": [7, 8], "textures": textures, "img": [b"", b""]}
    )
    pq.write_table(table, tmp_path / "items.parquet")
    articles = manifest.read(str(tmp_path / "items.parquet"), str(tmp_path), seed=1).articles
    assert [(a.name, a.category, a.textures) for a in articles] == [
        ("1.jpg", "7", ()),
        ("2.jpg", "8", ()),
    ]


def test_a_manifest_lies_where_a_url_says(tmp_path):
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as archive:
        archive.writestr("lists/items.csv", CSV)
    listing = manifest.read(f"zip://lists/items.csv::{tmp_path}/shop.zip", "s3://shop", seed=1)
    assert (len(listing.articles), listing.root) == (3, "s3://shop")


def test_a_manifest_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "items.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "items.parquet").write_text("PAR1 path,category")
    for name, part in (
        ("items.csv", "neither a CSV"),
        ("items.parquet", "nor a Parquet file"),
        ("gone.csv", "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=part):
            manifest.read(str(tmp_path / name), str(tmp_path), seed=1)
