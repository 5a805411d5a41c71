"""The readers of DeepFashion's files and of a plain folder, on small real trees."""

import collections

import numpy as np
import pytest
from PIL import Image

from advrec.catalog import deepfashion, folder
from advrec.errors import ConfigError

FILES = {
    "anno/list_category_cloth.txt": "2\ncategory_name  category_type\nTee  1\nMaxi Dress  3\n",
    "anno/list_attr_cloth.txt": "4\nattribute_name  attribute_type\nabstract print   1\ncotton   2\nstriped   1\nv neck   4\n",
    "anno/list_category_img.txt": "3\nimage_name  category_label\nimg/A/img_1.jpg   1\nimg/B/img_1.jpg   2\nimg/A/img_2.jpg   1\n",
    "anno/list_attr_img.txt": (
        "3\nimage_name  attribute_labels\nimg/A/img_1.jpg  1 1 -1 1\nimg/B/img_1.jpg  1 -1  1 0\nimg/A/img_2.jpg  0 1 -1 -1\n"
    ),
    "eval/list_eval_partition.txt": (
        "3\nimage_name  evaluation_status\nimg/A/img_1.jpg  train\nimg/B/img_1.jpg  val\nimg/A/img_2.jpg  test\n"
    ),
}


def write(root, **changed):
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(changed.get(path.stem, text))
    return root


def test_deepfashion_is_read_with_names_that_hold_spaces(tmp_path):
    listing = deepfashion.read(write(tmp_path))
    assert [(a.name, a.category, a.textures, a.split) for a in listing.articles] == [
        ("img/A/img_1.jpg", "Tee", ("abstract print",), "train"),
        ("img/B/img_1.jpg", "Maxi Dress", ("abstract print", "striped"), "validation"),
        ("img/A/img_2.jpg", "Tee", (), "test"),  # 0 is unknown, not positive; cotton is no texture
    ]


@pytest.mark.parametrize(
    ("file", "text", "parts"),
    [
        ("list_category_img", "3\nh\nimg/A/img_1.jpg   1\nimg/B/img_1.jpg   9\nimg/A/img_2.jpg 1\n", ["_img.txt line 4", "label 9"]),
        ("list_category_img", "4\nh\nimg/A/img_1.jpg   1\nimg/B/img_1.jpg   2\nimg/A/img_2.jpg 1\n", ["line 1 says 4 rows", "holds 3"]),
        ("list_category_img", "3\nh\nimg/A/img_1.jpg\nimg/B/img_1.jpg   2\nimg/A/img_2.jpg 1\n", ["line 3", "expected a name and a value"]),
        ("list_attr_img", "1\nh\nimg/A/img_1.jpg  1 1 -1\n", ["list_attr_img.txt line 3", "3 values for 4 attributes"]),
        ("list_eval_partition", "1\nh\nimg/A/img_1.jpg  training\n", ["list_eval_partition.txt line 3", "training"]),
        ("list_eval_partition", "1\nh\nimg/A/img_1.jpg  train\n", ["img/B/img_1.jpg has no split"]),
        ("list_attr_cloth", "many\nh\n", ["list_attr_cloth.txt line 1", "many"]),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path, file, text, parts):
    with pytest.raises(ConfigError) as error:
        deepfashion.read(write(tmp_path, **{file: text}))
    for part in parts:
        assert part in str(error.value)


def test_a_missing_annotation_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"list_category_cloth\.txt: cannot be read"):
        deepfashion.read(tmp_path)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(len(str(path))).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)


def test_a_folder_is_split_by_name_and_seed_alike_in_every_category(tmp_path):
    for category in ("hat", "shoe"):
        for n in range(20):
            picture(tmp_path / category / f"{n}.jpg")
    (tmp_path / "LICENSE").write_text("not an image")
    (tmp_path / "hat" / "notes.txt").write_text("not an image")
    listing = folder.read(tmp_path, seed=1)
    counts = collections.Counter((a.category, a.split) for a in listing.articles)
    for category in ("hat", "shoe"):
        assert [counts[category, split] for split in ("train", "validation", "test")] == [14, 3, 3]
    assert folder.read(tmp_path, seed=1) == listing
    assert [a.split for a in folder.read(tmp_path, seed=2).articles] != [a.split for a in listing.articles]
    assert not listing.has_textures


def test_a_folder_with_split_directories_keeps_them(tmp_path):
    for split in ("train", "validation", "test"):
        for category in ("hat", "shoe"):
            picture(tmp_path / split / category / "1.png")
    listing = folder.read(tmp_path, seed=1)
    assert sorted((a.split, a.category, a.name) for a in listing.articles)[0] == ("test", "hat", "test/hat/1.png")
    assert len(listing.articles) == 6


def test_one_category_or_none_or_no_directory_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not a directory"):
        folder.read(tmp_path / "missing", seed=1)
    with pytest.raises(ConfigError, match="holds no images"):
        folder.read(tmp_path, seed=1)
    picture(tmp_path / "hat" / "1.jpg")
    with pytest.raises(ConfigError, match="one category"):
        folder.read(tmp_path, seed=1)
