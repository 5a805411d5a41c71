"""DeepFashion read from a small but complete tree: every count of its catalog."""

import collections
import shutil

import pytest

from advrec.catalog import decide
from advrec.catalog.listing import Box
from advrec.catalog.sources import deepfashion
from advrec.errors import ConfigError
from tests.catalog.deepfashion_tree import (
    IMAGES,
    prepared,
    read,
    spec,
    write,
    write_fine,
)


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
        match=r"6 after duplicates \(279,057 published\); 4 with texture labels \(106,649 ",
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
    # The thesis: train and val together are the 91,894 images that its training logs show.
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
