"""DeepFashion's files where they are malformed or missing: the sentence names file and line."""

import pytest

from advrec.errors import ConfigError
from tests.catalog.deepfashion_tree import files, read, write, write_fine


def without_last(text):
    return text[: text.rindex("\n", 0, -1) + 1]


@pytest.mark.parametrize(
    ("file", "change", "parts"),
    [
        (
            "list_category_img",
            lambda t: t.replace("img_1.jpg   2", "img_1.jpg   9"),
            ["list_category_img.txt line 5", "label 9 is not"],
        ),
        (
            "list_category_img",
            lambda t: t.replace("10\n", "11\n", 1),
            ["line 1 says 11 rows", "holds 10"],
        ),
        ("list_category_img", without_last, ["line 1 says 10 rows", "holds 9"]),
        (
            "list_category_img",
            lambda t: t.replace("Copy/img_1.jpg   2", "Copy/img_1.jpg"),
            ["line 8", "expected a name and a value"],
        ),
        (
            "list_category_img",
            lambda t: t.replace("img_2.jpg   2", "img_2.jpg   two"),
            ["line 6", "label two is not one of 1..2"],
        ),
        (
            "list_category_img",
            lambda t: t[:-2] + "2\n",
            ["line 12", "img_3.jpg was of category Tee"],
        ),
        (
            "list_attr_img",
            lambda t: t.replace("1 1 -1 1", "1 1 -1"),
            ["list_attr_img.txt line 3", "is not one of -1, 0, 1"],
        ),
        (
            "list_attr_img",
            lambda t: t.replace("1 1 -1 1", "1 7 -1 1"),
            ["list_attr_img.txt line 3", "7 is not one of -1, 0, 1"],
        ),
        (
            "list_eval_partition",
            lambda t: t.replace("train", "training", 1),
            ["list_eval_partition.txt line 3", "training is not one of"],
        ),
        (
            "list_eval_partition",
            lambda t: t[:-4] + "test\n",
            ["list_eval_partition.txt line 12", "was in another split"],
        ),
        (
            "list_eval_partition",
            lambda t: t.replace("Gone", "Away"),
            ["list_category_img.txt line 10", "img/Gone/img_1.jpg has no split"],
        ),
        ("list_attr_cloth", lambda t: "many\nh\n", ["list_attr_cloth.txt line 1", "found 'many'"]),
        ("list_attr_cloth", lambda t: "", ["list_attr_cloth.txt line 1", "found 'nothing'"]),
        (
            "list_bbox",
            lambda t: t.replace("img/Gone", "img/Away"),
            ["list_category_img.txt line 10", "has no box"],
        ),
        (
            "list_attr_img",
            lambda t: t.replace("img/Gone", "img/Away"),
            ["list_category_img.txt line 10", "has no attributes"],
        ),
        (
            "list_category_img",
            lambda t: t.replace("img_2.jpg   2", "img_2.jpg   \u00b2"),
            ["line 6", "category label"],
        ),
        (
            "list_bbox",
            lambda t: t.replace("4 6 35 49", "4 6 x 49", 1),
            ["list_bbox.txt line 3", "four whole numbers"],
        ),
        (
            "list_bbox",
            lambda t: t.replace("4 6 35 49", "4 6 3 49", 1),
            ["list_bbox.txt line 3", "is empty"],
        ),
    ],
)
def test_what_is_malformed_is_named_with_its_line(tmp_path, file, change, parts):
    original = next(text for name, text in files().items() if file in name)
    assert change(original) != original
    with pytest.raises(ConfigError) as error:
        read(write(tmp_path, **{file: change(original)}), boxes=True)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_not_there_or_not_unpacked_is_said(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="holds no directory Anno_coarse or Anno or Anno_fine"):
        read(tmp_path)
    write(tmp_path)
    (tmp_path / "Anno_coarse" / "list_attr_img.txt").unlink()
    with pytest.raises(
        ConfigError, match=r"Anno_coarse/list_attr_img\.txt: cannot be read \(No such file"
    ):
        read(tmp_path)
    write(tmp_path)
    (tmp_path / "Img" / "img").rename(tmp_path / "away")
    (tmp_path / "Img" / "img.zip").touch()
    with pytest.raises(ConfigError, match=r"img\.zip is not unpacked"):
        read(tmp_path)
    write_fine(tmp_path)
    (tmp_path / "Anno_fine" / "val_cate.txt").write_text("1\n2\n")
    with pytest.raises(ConfigError, match=r"val_cate\.txt.*holds 2 rows, Anno_fine/val\.txt 1"):
        read(tmp_path, annotations="fine")
