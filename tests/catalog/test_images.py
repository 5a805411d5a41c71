"""Odd image files, as Pillow and others write them: which are converted, to which pixels, and which
are refused.
"""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from advrec.catalog import images
from advrec.catalog.files import LocalRoot
from advrec.catalog.images import Prepared, Unreadable
from advrec.catalog.listing import Box, Listed

RED, GREEN = (200, 30, 10), (10, 200, 30)


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def decoded(*arguments, **options):
    return np.asarray(images.decode(encoded(*arguments, **options)))


def near(pixels, colour, tolerance=3):
    return (np.abs(pixels.astype(int) - colour) <= tolerance).all()


def halves(mode, left, right, size=(8, 4)):
    image = Image.new(mode, size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def test_transparency_is_put_on_white():
    assert (decoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0))) == 255).all()
    assert near(decoded(Image.new("RGBA", (4, 4), (200, 0, 0, 128))), (227, 127, 127), 1)
    palette = halves("P", 0, 1)
    palette.putpalette([*RED, *GREEN])
    assert near(decoded(palette, transparency=1)[:, :4], RED, 0)
    assert (decoded(palette, transparency=1)[:, 4:] == 255).all()
    assert (decoded(halves("LA", (77, 255), (77, 0)))[:, :4] == 77).all()
    assert (decoded(Image.new("L", (4, 4), 9), transparency=9) == 255).all()


def test_palette_grey_and_black_and_white_become_rgb():
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, *GREEN])
    assert near(decoded(palette), GREEN, 0)
    assert (decoded(Image.new("L", (2, 2), 77)) == 77).all()
    assert (decoded(Image.new("1", (2, 2), 1)) == 255).all()


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(format):
    pixels = decoded(halves("CMYK", (0, 255, 255, 0), (255, 0, 0, 0), (32, 16)), format=format)
    assert near(pixels[:, :12], (255, 0, 0), 6)
    assert near(pixels[:, 20:], (0, 255, 255), 6)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_reduced_to_eight_not_clipped(format):
    values = np.array([[0, 257 * 77, 257 * 200, 65535]], dtype=np.uint16)
    assert decoded(Image.fromarray(values), format=format)[0, :, 0].tolist() == [0, 77, 200, 255]


def png(width, height, bits, colour, rows):
    """A PNG written by hand: Pillow cannot write 16 bits a channel in colour."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_sixteen_bits_in_colour_are_reduced_to_eight():
    row = b"\0" + struct.pack(">6H", *(257 * value for value in (*RED, *GREEN)))
    pixels = np.asarray(images.decode(png(2, 1, 16, 2, row)))
    assert pixels[0].tolist() == [list(RED), list(GREEN)]


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def test_an_image_is_turned_upright_by_its_exif():
    picture = halves("RGB", RED, GREEN, (32, 16))
    for orientation, places in {
        3: (np.s_[:, 20:], np.s_[:, :12]),  # turned by 180 degrees
        6: (np.s_[:12], np.s_[20:]),  # lies on its left side
        8: (np.s_[20:], np.s_[:12]),
    }.items():
        pixels = decoded(picture, format="JPEG", exif=exif(orientation), quality=98, subsampling=0)
        assert near(pixels[places[0]], RED, 6), orientation
        assert near(pixels[places[1]], GREEN, 6), orientation


def test_broken_exif_does_not_cost_the_image():
    pixels = decoded(
        Image.new("RGB", (8, 8), RED), format="JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffgarbage"
    )
    assert near(pixels, RED, 6)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation_counts(format):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN)]
    options = {"lossless": True} if format == "WEBP" else {}
    pixels = decoded(
        frames[0], format=format, save_all=True, append_images=frames[1:], duration=100, **options
    )
    assert near(pixels, RED, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"<html>404 not found</html>", "is not an image of a known format"),
        (encoded(Image.new("RGB", (64, 64), RED), "JPEG")[:300], "cannot be decoded"),
        (encoded(Image.effect_noise((64, 64), 90), "PNG")[:2000], "cannot be decoded"),
        (encoded(Image.new("F", (4, 4), 0.5), "TIFF"), "32 bits a value"),
        (
            encoded(Image.new("1", (10_000, 5_001)), "PNG"),
            "has 10000 x 5001 pixels, more than 50 million",
        ),
        (png(60_000, 60_000, 8, 2, b""), "more than 50 million"),
    ],
    ids=["empty", "html", "truncated jpeg", "truncated png", "float", "bomb", "large bomb"],
)
def test_what_cannot_be_read_has_a_reason(tmp_path, content, reason):
    (tmp_path / "x.jpg").write_bytes(content)
    made = images.prepare(LocalRoot(tmp_path), Listed("x.jpg", "a", (), "train"), 32, "pad")
    assert isinstance(made, Unreadable)
    assert reason in made.reason
    assert "\n" not in made.reason


def test_an_image_of_just_the_most_pixels_is_read():
    assert decoded(Image.new("1", (10_000, 5_000), 1)).shape == (5_000, 10_000, 3)


def test_padding_keeps_the_whole_image_on_white():
    pixels = np.asarray(images.squared(Image.new("RGB", (20, 40), "black"), 40, "pad"))
    assert (pixels[:, :10] == 255).all()
    assert (pixels[:, 10:30] == 0).all()
    assert (pixels[:, 30:] == 255).all()
    assert (
        np.asarray(images.squared(Image.new("RGB", (20_000, 1), "black"), 40, "pad")) == 0
    ).any(), "a strip leaves a trace"


def test_cropping_takes_the_centre():
    picture = Image.new("RGB", (40, 20), "black")
    picture.paste("red", (10, 0, 30, 20))
    assert (np.asarray(images.squared(picture, 20, "crop")) == (255, 0, 0)).all()


def test_trimming_removes_a_border_of_one_colour_and_nothing_else():
    picture = Image.new("RGB", (60, 50), (250, 250, 250))
    picture.paste("black", (20, 5, 40, 45))
    picture.paste((246, 250, 250), (0, 0, 5, 50))  # within 5 %
    assert np.asarray(images.trimmed(picture)).shape == (40, 20, 3)
    assert (np.asarray(images.trimmed(picture)) == 0).all()
    picture.paste((230, 250, 250), (0, 0, 5, 1))  # beyond
    assert images.trimmed(picture).size == (40, 45)
    blank = Image.new("RGB", (8, 6), "white")
    assert images.trimmed(blank).size == (8, 6)
    square = np.asarray(images.squared(picture, 32, "trim-pad"))
    assert square.shape == (32, 32, 3)


def test_a_box_is_cut_out_before_anything_else(tmp_path):
    halves("RGB", RED, GREEN, (32, 16)).save(tmp_path / "x.png")
    root = LocalRoot(tmp_path)
    made = images.prepare(root, Listed("x.png", "a", (), "train", Box(16, 0, 32, 16)), 32, "pad")
    assert isinstance(made, Prepared)
    assert near(np.asarray(Image.open(io.BytesIO(made.png))), GREEN, 0)
    beside = images.prepare(root, Listed("x.png", "a", (), "train", Box(32, 0, 40, 16)), 32, "pad")
    assert isinstance(beside, Unreadable)
    assert "lies beside" in beside.reason
