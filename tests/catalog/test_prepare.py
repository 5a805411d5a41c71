"""Real files through preparation: what stays, what goes, in which order, with which pixels."""

import io

import numpy as np
from PIL import Image

from advrec.catalog import images, prepare
from advrec.catalog.dataset import Catalog
from advrec.catalog.listing import Listed, Listing
from advrec.store import Run


def scene(seed, size=(40, 60)):
    """A smooth random picture: its perceptual hash survives another JPEG quality."""
    random = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(random).resize(size, Image.Resampling.BICUBIC)


def listing(root, *articles, has_textures=True):
    return Listing(
        root=root,
        articles=tuple(Listed(name=n, category=c, textures=t, split="train") for n, c, t in articles),
        has_textures=has_textures,
    )


def test_duplicates_go_first_then_images_without_textures(tmp_path):
    scene(1).save(tmp_path / "first.jpg", quality=98)
    with Image.open(tmp_path / "first.jpg") as first:
        first.save(tmp_path / "again.png")  # a near duplicate, with a texture, of a first without one
    scene(2).save(tmp_path / "other.jpg")
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "other.jpg").read_bytes()[:200])
    (tmp_path / "empty.jpg").write_bytes(b"")
    source = listing(
        tmp_path,
        ("first.jpg", "Tee", ()),
        ("again.png", "Tee", ("striped",)),
        ("other.jpg", "Hat", ("floral", "dotted")),
        ("broken.jpg", "Hat", ("dotted",)),
        ("empty.jpg", "Hat", ("dotted",)),
    )
    made = prepare.assemble("folder", source, [images.prepare(tmp_path / a.name, 32) for a in source.articles])
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


def test_a_source_without_textures_keeps_images_without_them(tmp_path):
    scene(1).save(tmp_path / "a.jpg")
    source = listing(tmp_path, ("a.jpg", "Tee", ()), has_textures=False)
    made = prepare.assemble("folder", source, [images.prepare(tmp_path / "a.jpg", 32)])
    assert len(made.catalog) == 1
    assert made.preparation["textures"] == []


def test_what_was_written_is_read_back(tmp_path):
    names = [f"{n}.png" for n in range(5)]
    for seed, name in enumerate(names):
        scene(seed, (32, 32)).save(tmp_path / name)
    source = listing(tmp_path, *[(name, "Tee" if n % 2 else "Hat", ("b",) if n else ("c", "a")) for n, name in enumerate(names)])
    run = Run(tmp_path / "run")
    prepare.write(run, prepare.assemble("folder", source, [images.prepare(tmp_path / n, 32) for n in names]))
    catalog = Catalog(run)
    assert catalog.names == names
    assert catalog.categories == ("Hat", "Tee")
    assert catalog.category_labels.tolist() == [0, 1, 0, 1, 0]
    assert catalog.texture_labels.tolist() == [[1, 0, 1], *[[0, 1, 0]] * 4]
    assert (catalog.pixels([3, 1]) == np.stack([np.asarray(scene(3, (32, 32))), np.asarray(scene(1, (32, 32)))])).all()


def test_odd_but_readable_images_are_converted():
    def decoded(image, **options):
        buffer = io.BytesIO()
        image.save(buffer, **options)
        return np.asarray(images.decode(buffer.getvalue()))

    transparent = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert (decoded(transparent, format="PNG") == 255).all()  # on white
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    assert (decoded(palette, format="PNG") == [10, 200, 30]).all()
    upright = Image.new("RGB", (6, 2), "black")
    rotated = Image.Exif()
    rotated[0x0112] = 6  # to be turned by 90 degrees
    assert decoded(upright, format="JPEG", exif=rotated).shape == (6, 2, 3)
    assert (decoded(Image.new("L", (2, 2), 77), format="PNG") == 77).all()


def test_an_image_is_padded_to_a_square_on_white():
    pixels = np.asarray(images.squared(Image.new("RGB", (20, 40), "black"), 40))
    assert (pixels[:, :10] == 255).all()
    assert (pixels[:, 10:30] == 0).all()
    assert (pixels[:, 30:] == 255).all()
