"""Real files through preparation: what stays, what goes, in which order, and what is read back."""

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from imagededup.methods import PHash
from PIL import Image

from advrec.catalog import dataset, decide, shards, write
from advrec.catalog.dataset import Catalog
from advrec.catalog.listing import Listed, Listing
from advrec.catalog.sources import folder, registry, splits
from advrec.catalog.summary import summary
from advrec.errors import ConfigError
from advrec.run.directory import Run
from advrec.spec.base import SPLITS
from advrec.spec.catalog import CatalogSpec
from tests.conftest import prepare_alone

SPEC = CatalogSpec(source="folder", root="unused", image_size=32)


def scene(seed, size=(40, 60)):
    """A smooth random picture: its perceptual hash survives another JPEG quality."""
    random = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(random).resize(size, Image.Resampling.BICUBIC)


def listing(root, *articles, has_textures=True):
    return Listing(
        root=str(root),
        articles=tuple(Listed(n, c, t, "train") for n, c, t in articles),
        has_textures=has_textures,
    )


@pytest.fixture
def mixed(tmp_path):
    """Near duplicates, broken files and images without a texture."""
    scene(1).save(tmp_path / "first.jpg", quality=98)
    with Image.open(tmp_path / "first.jpg") as first:
        first.save(tmp_path / "again.png")  # with a texture, of a first without one
    scene(2).save(tmp_path / "other.jpg")
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "other.jpg").read_bytes()[:200])
    (tmp_path / "empty.jpg").write_bytes(b"")
    return listing(
        tmp_path,
        ("first.jpg", "Tee", ()),
        ("again.png", "Tee", ("striped",)),
        ("other.jpg", "Hat", ("floral", "dotted")),
        ("broken.jpg", "Hat", ("dotted",)),
        ("empty.jpg", "Hat", ("dotted",)),
    )


def test_duplicates_go_first_then_images_without_textures(mixed, tmp_path):
    run = Run(tmp_path / "run")
    made = prepare_alone(run, SPEC, mixed)
    # The other order would have kept again.png.
    assert made.catalog["name"].to_pylist() == ["other.jpg"]
    assert [(s["step"], s["articles"]) for s in made.preparation["steps"]] == [
        ("images listed", 5),
        ("readable", 3),
        ("after duplicates", 2),
        ("with texture labels", 1),
    ]
    assert made.preparation["textures"] == ["dotted", "floral"]
    assert sorted(made.set_aside) == ["images/broken.jpg", "images/empty.jpg"]
    became = ds.dataset(run.listing).to_table().to_pylist()
    assert [(row["outcome"], row["article_id"]) for row in became] == [
        ("no texture", None),
        ("duplicate", None),
        ("article", 0),
        ("unreadable", None),
        ("unreadable", None),
    ]
    assert not run.prepared.exists()


def test_the_hash_is_that_of_the_whole_image_as_imagededup_takes_it(tmp_path):
    """The study's counts come from hashes of the files as they are, not of prepared images."""
    scene(5, (300, 120)).save(tmp_path / "x.jpg")
    spec = SPEC.model_copy(update={"square": "crop"})
    made = prepare_alone(
        Run(tmp_path / "run"), spec, listing(tmp_path, ("x.jpg", "Tee", ()), has_textures=False)
    )
    assert made.listing["phash"].to_pylist() == [
        int(PHash(verbose=False).encode_image(image_file=str(tmp_path / "x.jpg")), 16)
    ]


def test_an_image_that_is_listed_twice_is_one_article_even_where_duplicates_are_kept(tmp_path):
    scene(1).save(tmp_path / "a.jpg")
    twice = listing(tmp_path, ("a.jpg", "Tee", ()), ("a.jpg", "Tee", ()), has_textures=False)
    made = prepare_alone(
        Run(tmp_path / "run"), SPEC.model_copy(update={"duplicates": "keep"}), twice
    )
    assert made.catalog["name"].to_pylist() == ["a.jpg"]
    assert made.listing["outcome"].to_pylist() == ["article", "duplicate"]


@pytest.mark.parametrize(("size", "images"), [(32, 256), (128, 256), (224, 83), (512, 16)])
def test_a_shard_of_large_images_has_fewer_of_them(tmp_path, size, images):
    many = listing(tmp_path, *[(f"{n}.jpg", "Tee", ()) for n in range(600)])
    made = shards.cut(many, size)
    assert [start for start, _ in made] == list(range(0, 600, images))
    assert [article for _, articles in made for article in articles] == list(many.articles)


def test_duplicates_may_be_kept(mixed, tmp_path):
    made = prepare_alone(
        Run(tmp_path / "run"), SPEC.model_copy(update={"duplicates": "keep"}), mixed
    )
    assert made.catalog["name"].to_pylist() == ["again.png", "other.jpg"]


def test_a_source_without_textures_keeps_images_without_them(tmp_path):
    scene(1).save(tmp_path / "a.jpg")
    made = prepare_alone(
        Run(tmp_path / "run"), SPEC, listing(tmp_path, ("a.jpg", "Tee", ()), has_textures=False)
    )
    assert len(made.catalog) == 1
    assert made.preparation["textures"] == []


def test_articles_of_different_splits_that_look_alike_are_reported(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "train.png")
    pixels[:4, :4] //= 2
    Image.fromarray(pixels).save(tmp_path / "test.png")
    scene(3).save(tmp_path / "far.png")
    articles = (
        Listed("train.png", "a", (), "train"),
        Listed("test.png", "b", (), "test"),
        Listed("far.png", "b", (), "test"),
    )
    run = Run(tmp_path / "run")
    made = prepare_alone(
        run, SPEC, Listing(root=str(tmp_path), articles=articles, has_textures=False)
    )
    hashes = made.listing["phash"].to_pylist()
    distance = (hashes[0] ^ hashes[1]).bit_count()
    assert 1 <= distance <= 4, "the example shows nothing"
    assert [tuple(row.values()) for row in made.near_duplicates.to_pylist()] == [
        (1, "test", 0, "train", distance),
        (0, "train", 1, "test", distance),
    ]
    assert made.preparation["near_duplicates"] == {str(d): int(d >= distance) for d in range(5)}


def test_a_split_without_a_usable_image_is_refused_with_the_reason(mixed, tmp_path):
    made = prepare_alone(Run(tmp_path / "run"), SPEC, mixed)
    with pytest.raises(
        ConfigError,
        match=r"validation split holds no usable image \(2 were set aside; images/broken\.jpg: ",
    ):
        decide.check(made, SPEC)


@pytest.fixture
def many(tmp_path, monkeypatch):
    """A catalog of 90 images in several shards and parts, of which every third is a duplicate; and
    its pixels.
    """
    monkeypatch.setattr(shards, "SHARD", 14)
    monkeypatch.setattr(write, "PART", 2)
    names, pixels = [], []
    for n in range(90):
        picture = scene(n - n % 3 if n % 3 < 2 else n, (32, 32))
        picture.save(tmp_path / f"{n}.png")
        names.append((f"{n}.png", "Tee" if n % 2 else "Hat", ("b",) if n else ("c", "a")))
        if n % 3 != 1:
            pixels.append(np.asarray(picture))
    run = Run(tmp_path / "run")
    run.images.mkdir(parents=True)
    (run.images / "part-000099.parquet").write_text("of a preparation that was killed")
    prepare_alone(run, SPEC, listing(tmp_path, *names))
    return run, np.stack(pixels)


def test_what_was_written_is_read_back_by_article(many):
    run, pixels = many
    catalog = Catalog(run)
    assert len(catalog) == 60
    parts = sorted(run.images.glob("part-*.parquet"))
    assert [part.name for part in parts] == [f"part-{n:06d}.parquet" for n in range(4)]
    groups = [
        pq.read_metadata(part).row_group(n).num_rows
        for part in parts
        for n in range(pq.read_metadata(part).num_row_groups)
    ]
    assert max(groups) == write.ROW_GROUP, "reading one image would read many"
    assert catalog.names[:4] == ["0.png", "2.png", "3.png", "5.png"]
    assert catalog.categories == ("Hat", "Tee")
    assert catalog.category_labels[:4].tolist() == [0, 0, 1, 1]
    assert catalog.texture_labels[:2].tolist() == [[True, False, True], [False, True, False]]
    assert (catalog.pixels(range(60)) == pixels).all()
    random = np.random.default_rng(0)
    for _ in range(20):
        ids = random.integers(60, size=9)
        assert (catalog.pixels(ids) == pixels[ids]).all()
    stored = ds.dataset(run.images, format="parquet").to_table()
    assert stored["article_id"].to_pylist() == list(range(60))


def test_images_in_memory_are_bounded(many, monkeypatch):
    run, pixels = many
    monkeypatch.setattr(dataset, "CACHE_BYTES", 20_000)
    catalog = Catalog(run)
    for article in np.random.default_rng(1).permutation(60):
        assert (catalog.pixels([article])[0] == pixels[article]).all()
        held = sum(len(png) for group in catalog._images._cache.values() for png in group)
        assert held == catalog._images._cached_bytes
        assert held <= 20_000 or len(catalog._images._cache) == 1
    assert catalog._images._cached_bytes > 10_000, "the bound was never near"


def test_an_article_is_found_by_number_and_by_name(many):
    catalog = Catalog(many[0])
    assert catalog.find("7") == 7
    assert catalog.find("5.png") == 3
    for wrong in ("60", "-1", "nobody.png"):
        with pytest.raises(ConfigError, match="is not an article"):
            catalog.find(wrong)


def test_counts_of_a_thousand_and_more_have_their_comma():
    """In what a source lists, and in what a preparation has left."""
    articles = [Listed(f"{n}.jpg", "Tee", ("dotted",), SPLITS[n % 3]) for n in range(4002)]
    ignored = ("note",) * 1001
    listing = Listing(root="", articles=tuple(articles), has_textures=True, ignored=ignored)
    assert listing.summary() == [
        "4,002 images listed of 1 categories: 1,334 train, 1,334 validation, 1,334 test",
        "4,002 images with textures, of 1 kinds; the others are dropped",
        "1,001 ignored: note, note, note, ...",
    ]
    preparation = {
        "steps": [{"step": "images listed", "articles": 4002}, {"step": "readable", "articles": 7}],
        "splits": {"train": 1334, "validation": 12, "test": 2000},
        "categories": ["Tee"],
        "textures": [],
        "near_duplicates": {"0": 1000, "4": 1500},
    }
    assert summary(preparation) == [
        "    4,002 images listed",
        "        7 readable",
        "1,334 train, 12 validation, 2,000 test; 1 categories, 0 textures",
        "1,500 of 2,000 test articles have a near duplicate in train (perceptual hashes within 4 "
        "of 64 bits; 1,000 an equal one): test accuracy may be too good",
    ]


def test_plain_images_that_the_hash_merges_are_counted_and_their_category_is_named(tmp_path):
    """To the hash all images of one colour are one article."""
    colours = {"hat": (200, 30, 30), "bag": (30, 30, 200), "tee": (204, 34, 28)}
    swatches = [(f"{category}{n}.png", category, ()) for category in colours for n in range(3)]
    for name, category, _ in swatches:
        Image.new("RGB", (40, 40), colours[category]).save(tmp_path / name)
    scene(3).save(tmp_path / "scene.png")
    both = [("scene.png", "hat", ())] * 2  # a file that is listed twice
    listed = listing(tmp_path, *swatches, *both, has_textures=False)
    made = prepare_alone(Run(tmp_path / "run"), SPEC, listed).preparation
    assert made["merged"] == {"images": 9, "other_category": 6, "other_colour": 3}
    assert made["vanished_categories"] == ["bag", "tee"]
    said = "\n".join(summary(made))
    assert "of 9 images that went as duplicates 6 are of another category" in said
    assert "and 3 of another mean colour" in said
    assert "no article is left of 2 of 3 categories: bag, tee" in said


@pytest.mark.parametrize("change", ["JPEG 85", "JPEG 95", "half the size", "another hue"])
def test_only_another_hue_is_another_mean_colour(tmp_path, change):
    luma = scene(4, (64, 64)).convert("L").point(lambda value: 80 + value // 3)

    def coloured(blue, red):  # luma is all that the hash sees
        planes = [Image.new("L", luma.size, value) for value in (blue, red)]
        return Image.merge("YCbCr", (luma, *planes)).convert("RGB")

    picture = coloured(140, 110)
    picture.save(tmp_path / "a.png")
    other = coloured(110, 140) if change == "another hue" else picture
    other = picture.resize((32, 32)) if change == "half the size" else other
    options = {"quality": int(change[5:])} if change.startswith("JPEG") else {}
    name = "b.jpg" if options else "b.png"
    other.save(tmp_path / name, **options)
    listed = listing(tmp_path, ("a.png", "hat", ()), (name, "hat", ()), has_textures=False)
    spec = SPEC.model_copy(update={"duplicates": 4})
    merged = prepare_alone(Run(tmp_path / "run"), spec, listed).preparation["merged"]
    assert merged == {
        "images": 1,
        "other_category": 0,
        "other_colour": int(change == "another hue"),
    }


def test_categories_without_a_test_article_are_counted(tmp_path):
    """A category of n images has one in test where (n - 1/2) / n is 0.85 or more."""
    for category in range(8):
        for number in range(category + 1):
            path = tmp_path / "photos" / f"c{category}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            scene(100 * category + number).save(path)
    made = prepare_alone(Run(tmp_path / "run"), SPEC, folder.walk(str(tmp_path / "photos"), 7))
    small = [f"c{n - 1}" for n in range(1, 9) if (n - 0.5) / n < 0.85]
    assert made.preparation["untested_categories"] == small == ["c0", "c1", "c2"]
    said = "3 of 8 categories have no test article (c0, c1, c2): tuples of the test split are of"
    assert any(line.startswith(said) for line in summary(made.preparation))
    none = splits.split([f"{n}" for n in range(splits.SMALLEST - 1)], 7)
    assert "test" not in dict(none).values()
    assert "test" in dict(splits.split([f"{n}" for n in range(splits.SMALLEST)], 7)).values()


def test_the_refusal_of_categories_that_are_too_small_says_why_and_what_to_do(tmp_path):
    for category in range(30):
        for number in range(3):
            path = tmp_path / f"c{category}" / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            path.touch()
    spec = SPEC.model_copy(update={"root": str(tmp_path)})
    with pytest.raises(ConfigError, match="none of the 30 categories has 4 images") as refused:
        registry.read(spec, 7)
    assert "merge categories, or name the splits" in str(refused.value)
