"""A small but complete DeepFashion tree, laid out as it is downloaded: every count, and what is
malformed by file and line.
"""

import collections
import shutil

import numpy as np
import pytest
from PIL import Image

from advrec.catalog import decide
from advrec.catalog.listing import Box
from advrec.catalog.sources import deepfashion
from advrec.errors import ConfigError
from advrec.run.directory import Run
from advrec.spec.catalog import CatalogSpec
from tests.conftest import prepare_alone

# name, category, values of the four attributes, split, which picture it is (None: the file is
# missing)
IMAGES = [
    ("img/Sheer Blouse/img_1.jpg", 1, "1 1 -1 1", "train", 1),
    ("img/Sheer Blouse/img_2.jpg", 1, "-1 1 -1 1", "train", 2),  # no texture
    ("img/Maxi_Dress/img_1.jpg", 2, "1 -1  1 0", "val", 3),  # two textures
    # unknown: no texture, unless that counts
    ("img/Maxi_Dress/img_2.jpg", 2, "0 1 -1 -1", "test", 4),
    ("img/Maxi_Dress/img_3.jpg", 2, "-1 1 1 -1", "test", 5),
    # of the image without a texture, which comes first
    ("img/Copy/img_1.jpg", 2, "-1 -1 1 -1", "test", 2),
    ("img/Copy/img_2.jpg", 1, "-1 -1 1 -1", "train", 1),
    ("img/Gone/img_1.jpg", 1, "1 -1 -1 -1", "train", None),
    ("img/Sheer Blouse/img_3.jpg", 1, "-1 -1 1 -1", "val", 6),
    ("img/Sheer Blouse/img_3.jpg", 1, "-1 -1 1 -1", "val", 6),  # listed twice
]
CATEGORIES = "2\ncategory_name  category_type\nTee  1\nMaxi Dress  3\n"
ATTRIBUTES = (
    "4\nattribute_name  attribute_type\nabstract print   1\ncotton   2\nstriped   1\nv neck   4\n"
)


def rows(column, header):
    return f"{len(IMAGES)}\n{header}\n" + "".join(
        f"{image[0]}   {image[column]}\n" for image in IMAGES
    )


def files():
    return {
        "Anno_coarse/list_category_cloth.txt": CATEGORIES,
        "Anno_coarse/list_attr_cloth.txt": ATTRIBUTES,
        "Anno_coarse/list_category_img.txt": rows(1, "image_name  category_label"),
        "Anno_coarse/list_attr_img.txt": rows(2, "image_name  attribute_labels"),
        "Anno_coarse/list_bbox.txt": f"{len(IMAGES)}\nimage_name  x_1  y_1  x_2  y_2\n"
        + "".join(f"{i[0]}  4 6 35 49\n" for i in IMAGES),
        "Eval/list_eval_partition.txt": rows(3, "image_name  evaluation_status"),
    }


def picture(number):
    random = np.random.default_rng(number).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(random).resize((40, 60), Image.Resampling.BICUBIC)


def write(root, **changed):
    for name, text in files().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(changed.get(path.stem, text))
    for name, _, _, _, number in IMAGES:
        if number is not None:
            path = root / "Img" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(number).save(path, quality=97)
    return root


def spec(root, **changes):
    return CatalogSpec(source="deepfashion", root=str(root), image_size=32, **changes)


def read(root, **changes):
    return deepfashion.read(spec(root, **changes), 0)


def prepared(root, tmp_path, **changes):
    asked = spec(root, **changes)
    return prepare_alone(Run(tmp_path / "run"), asked, deepfashion.read(asked, 0))


def steps(made):
    return [
        (step["step"], step["articles"], step["train"], step["validation"], step["test"])
        for step in made.preparation["steps"]
    ]


def test_names_labels_textures_and_splits(tmp_path):
    listing = read(write(tmp_path))
    assert [(a.name, a.category, a.textures, a.split) for a in listing.articles[:4]] == [
        ("img/Sheer Blouse/img_1.jpg", "Tee", ("abstract print",), "train"),
        ("img/Sheer Blouse/img_2.jpg", "Tee", (), "train"),  # cotton and v neck are no textures
        ("img/Maxi_Dress/img_1.jpg", "Maxi Dress", ("abstract print", "striped"), "validation"),
        ("img/Maxi_Dress/img_2.jpg", "Maxi Dress", (), "test"),  # 0 is unknown, not positive
    ]


def test_every_count_of_the_preparation(tmp_path):
    made = prepared(write(tmp_path), tmp_path)
    assert steps(made) == [
        ("images listed", 10, 4, 3, 3),
        ("readable", 9, 3, 3, 3),  # one is missing
        ("after duplicates", 6, 2, 2, 2),  # two copies, and the one listed twice
        ("with texture labels", 4, 1, 2, 1),
    ]
    assert made.catalog["name"].to_pylist() == [IMAGES[place][0] for place in (0, 2, 4, 8)]
    assert made.preparation["categories"] == ["Maxi Dress", "Tee"]
    assert made.preparation["textures"] == ["abstract print", "striped"]
    assert made.set_aside == {"images/img/Gone/img_1.jpg": "does not exist"}
    outcomes = collections.Counter(made.listing["outcome"].to_pylist())
    assert outcomes == {"article": 4, "duplicate": 3, "no texture": 2, "unreadable": 1}


def test_the_published_code_counts_unknown_as_positive(tmp_path):
    made = prepared(write(tmp_path), tmp_path, unknown_is_positive=True)
    assert steps(made)[-1] == ("with texture labels", 5, 1, 2, 2)
    assert made.catalog["textures"].to_pylist()[2] == ["abstract print"]


def test_the_published_split_merges_validation_into_training(tmp_path):
    made = prepared(write(tmp_path), tmp_path, published_split=True)
    assert made.preparation["splits"] == {"train": 3, "validation": 0, "test": 1}
    decide.check(made, spec(tmp_path, published_split=True))


def test_published_counts_are_refused_where_they_are_not_met(tmp_path):
    with pytest.raises(ConfigError, match="10 images are listed, the study has 289,222"):
        read(write(tmp_path), published_counts=True)
    made = prepared(tmp_path, tmp_path)
    with pytest.raises(
        ConfigError,
        match=r"6 after duplicates \(279,057 published\); 4 with texture labels \(106,649 published\)",
    ):
        decide.check(made, spec(tmp_path, published_counts=True))


@pytest.mark.parametrize("merged", [False, True])
def test_the_studys_own_counts_pass(tmp_path, merged):
    made = prepared(write(tmp_path), tmp_path)
    published = {
        "images listed": 289_222,
        "readable": 289_222,
        "after duplicates": 279_057,
        "with texture labels": 106_649,
    }
    made.preparation["steps"][:] = [
        {"step": step, "articles": count} for step, count in published.items()
    ]
    # Of the thesis: train and val together are the 91,894 images that its training logs show.
    made.preparation["splits"] |= {
        "train": 91_894 if merged else 77_059,
        "validation": 0 if merged else 14_835,
        "test": 14_755,
    }
    made.preparation.update({"categories": range(46), "textures": range(156)})
    decide.check(made, spec(tmp_path, published_counts=True, published_split=merged))
    with pytest.raises(ConfigError, match="train"):
        decide.check(made, spec(tmp_path, published_counts=True, published_split=not merged))


def test_boxes_are_cut_out(tmp_path):
    listing = read(write(tmp_path), boxes=True)
    assert {article.box for article in listing.articles} == {Box(4, 6, 36, 50)}
    whole, boxed = (
        prepared(tmp_path, tmp_path / "a"),
        prepared(tmp_path, tmp_path / "b", boxes=True),
    )
    assert whole.catalog["sha256"].to_pylist() != boxed.catalog["sha256"].to_pylist()
    assert {article.box for article in read(tmp_path).articles} == {None}


@pytest.mark.parametrize(
    ("annotations", "evaluation", "image"), [("Anno", "Eval", "Img"), ("anno", "eval", "")]
)
def test_older_layouts_are_read_too(tmp_path, annotations, evaluation, image):
    write(tmp_path)
    (tmp_path / "Anno_coarse").rename(tmp_path / annotations)
    (tmp_path / "Eval").rename(tmp_path / evaluation)
    if not image:
        (tmp_path / "Img" / "img").rename(tmp_path / "img")
        (tmp_path / "Img").rmdir()
    assert len(prepared(tmp_path, tmp_path).catalog) == 4


def write_fine(root):
    """Anno_fine: a file a split and kind of label, without headers."""
    write(root)
    lines = {
        "train": [
            ("img/Sheer Blouse/img_1.jpg", "1", "1 0 0 1"),
            ("img/Maxi_Dress/img_1.jpg", "2", "0 0 1 0"),
        ],
        "val": [("img/Sheer Blouse/img_3.jpg", "1", "0 0 0 0")],
        "test": [("img/Maxi_Dress/img_3.jpg", "2", "1 0 1 0")],
    }
    (root / "Anno_fine").mkdir()
    for name, text in (("list_category_cloth", CATEGORIES), ("list_attr_cloth", ATTRIBUTES)):
        (root / "Anno_fine" / f"{name}.txt").write_text(text)
    for split, entries in lines.items():
        for column, part in enumerate(("", "_cate", "_attr")):
            (root / "Anno_fine" / f"{split}{part}.txt").write_text(
                "".join(f"{entry[column]}\n" for entry in entries)
            )
        (root / "Anno_fine" / f"{split}_bbox.txt").write_text("1 1 30 30\n" * len(entries))
    return root


def test_the_fine_labelling_is_another_catalog(tmp_path):
    write_fine(tmp_path)
    assert len(read(tmp_path).articles) == 10, "coarse is read where both are there"
    assert [
        (a.name, a.category, a.textures, a.split, a.box)
        for a in read(tmp_path, annotations="fine", boxes=True).articles
    ] == [
        ("img/Sheer Blouse/img_1.jpg", "Tee", ("abstract print",), "train", Box(1, 1, 31, 31)),
        ("img/Maxi_Dress/img_1.jpg", "Maxi Dress", ("striped",), "train", Box(1, 1, 31, 31)),
        ("img/Sheer Blouse/img_3.jpg", "Tee", (), "validation", Box(1, 1, 31, 31)),
        (
            "img/Maxi_Dress/img_3.jpg",
            "Maxi Dress",
            ("abstract print", "striped"),
            "test",
            Box(1, 1, 31, 31),
        ),
    ]
    with pytest.raises(ConfigError, match="in Anno_fine 0 is absent"):
        read(tmp_path, annotations="fine", unknown_is_positive=True)
    (tmp_path / "Anno_coarse" / "list_bbox.txt").unlink()
    (tmp_path / "Anno_coarse").rename(tmp_path / "elsewhere")
    assert len(read(tmp_path).articles) == 4
    with pytest.raises(ConfigError, match="published_counts are those of Anno_coarse"):
        read(tmp_path, published_counts=True)


def test_an_archive_is_read_through_a_chained_url(tmp_path):
    write(tmp_path / "tree")
    shutil.make_archive(str(tmp_path / "deepfashion"), "zip", tmp_path / "tree")
    from_archive = prepared(f"zip://::{tmp_path}/deepfashion.zip", tmp_path / "a")
    assert (
        from_archive.preparation["catalog_sha256"]
        == prepared(tmp_path / "tree", tmp_path / "b").preparation["catalog_sha256"]
    )


def test_a_link_in_the_place_of_a_directory_is_not_followed(tmp_path):
    write(tmp_path)
    (tmp_path / "Img").rename(tmp_path.parent / "elsewhere")
    (tmp_path / "Img").symlink_to(tmp_path.parent / "elsewhere")
    with pytest.raises(
        ConfigError, match=r"holds no directory Img \(Img: links are not followed\)"
    ):
        read(tmp_path)


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


def test_a_file_of_many_attributes_is_streamed(tmp_path):
    """Its memory does not grow with the number of values, only with that of the images."""
    import tracemalloc

    width, images = 1000, 2000
    attributes = "".join(f"attribute {n}  {1 if n % 50 == 0 else 2}\n" for n in range(width))
    write(tmp_path, list_attr_cloth=f"{width}\nh\n{attributes}")
    with (tmp_path / "Anno_coarse" / "list_attr_img.txt").open("w") as handle:
        handle.write(f"{images}\nh\n")
        for n in range(images):
            handle.write(f"img/{n}.jpg  " + " ".join(["-1"] * (width - 1) + ["1"]) + "\n")
    source = deepfashion._Source(str(tmp_path), deepfashion.files.at(str(tmp_path)), spec(tmp_path))
    tracemalloc.start()
    assert len(source._coarse_textures("Anno_coarse")) == images
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20, "all values together are 2,000,000"
