"""One image file to the prepared image: decoded, upright, RGB, made square, resized; and its
hashes.
"""

import hashlib
import io
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from advrec.catalog.duplicates import phash
from advrec.catalog.files import RefusedError, Root
from advrec.catalog.listing import Box, Listed
from advrec.catalog.pixels import Pixels, encode_png
from advrec.errors import UnreachableError, first_line
from advrec.spec.catalog import Square

MAX_PIXELS = 50_000_000
# Not what else Pillow opens: it hands PostScript, for one, to a program that runs it.
Image.init()
FORMATS = tuple(
    name for name in ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF") if name in Image.OPEN
)
TRIM_TOLERANCE = 0.05 * 255  # Euclidean distance in RGB, as the study trimmed
# Pillow warns above this number and refuses above twice of it; here the header is looked at first,
# so that a reason can be given.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
# Colour profiles and notes of photo editors exceed Pillow's 1 MiB, and none is looked at.
PngImagePlugin.MAX_TEXT_CHUNK = 32 * 2**20
# A table: an image of 16 bits may have 50 million values.
_EIGHT_BITS = np.rint(np.arange(2**16) / 257).astype(np.uint8)


class Prepared(NamedTuple):
    png: bytes
    sha256: str
    """Hash of the prepared pixels."""
    phash: int
    """Perceptual hash of the decoded image before it was made square, 64 bits."""
    colour: tuple[int, ...]
    """Its mean colour: red, green and blue, 0 to 255."""


class Unreadable(NamedTuple):
    reason: str


def prepare(root: Root, article: Listed, size: int, square: Square) -> Prepared | Unreadable:
    """The prepared image of `size` x `size` pixels, or why there is none.

    Raises:
        UnreachableError: the filesystem does not answer.
    """
    try:
        decoded = decode(root.read(article.name))
        if article.box is not None:
            decoded = cropped(decoded, article.box)
        pixels = np.asarray(squared(decoded, size, square))
        return Prepared(
            encode_png(pixels),
            hashlib.sha256(pixels.tobytes()).hexdigest(),
            phash(np.asarray(decoded)),
            tuple(np.asarray(decoded.resize((1, 1), Image.Resampling.BOX))[0, 0].tolist()),
        )
    except UnreachableError:
        raise
    except RefusedError as error:
        return Unreadable(str(error))
    except Image.DecompressionBombError:
        return Unreadable(f"has far more than {MAX_PIXELS // 10**6} million pixels")
    except UnidentifiedImageError:
        return Unreadable("is not an image of a known format")
    except Exception as error:
        # Pillow's decoders raise nearly anything on a broken file; none may stop the catalog.
        return Unreadable(f"cannot be decoded ({type(error).__name__}: {first_line(error)})")


def decode(encoded: bytes) -> Image.Image:
    """The first frame of an image: RGB, upright by its EXIF orientation, transparency on white, 16
    bits a value reduced to 8.

    Raises:
        RefusedError: it is empty, has more than MAX_PIXELS, or values of no known range.
        Exception: whatever Pillow raises on a broken file.
    """
    if not encoded:
        raise RefusedError("is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of oddities in metadata that do not concern the pixels
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise RefusedError(
                    f"has {image.width} x {image.height} pixels, "
                    f"more than {MAX_PIXELS // 10**6} million"
                )
            image.load()
            return _rgb(_upright(image))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF says nothing of the orientation, and the pixels are there
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        raise RefusedError("has 32 bits a value, whose range is not known; save it with 8 or 16")
    if image.mode.startswith("I;16"):
        return Image.fromarray(_EIGHT_BITS[np.asarray(image)]).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        rgb = Image.new("RGB", rgba.size, "white")
        rgb.paste(rgba, mask=rgba.getchannel("A"))
        return rgb
    return image.convert("RGB")


def cropped(image: Image.Image, box: Box) -> Image.Image:
    """The part of an image within a box.

    Raises:
        RefusedError: the box lies beside the image.
    """
    left, top, right, bottom = (
        max(box.left, 0),
        max(box.top, 0),
        min(box.right, image.width),
        min(box.bottom, image.height),
    )
    if left >= right or top >= bottom:
        raise RefusedError(
            f"is {image.width} x {image.height} pixels, and its box {tuple(box)} lies beside them"
        )
    return image.crop((left, top, right, bottom))


def squared(image: Image.Image, size: int, square: Square) -> Image.Image:
    """`size` x `size` pixels. pad: scaled to fit, centred on white, the whole article stays
    visible; trim-pad: without its border of one colour first; crop: the centre of it.
    """
    if square == "crop":
        return ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC)
    if square == "trim-pad":
        image = trimmed(image)
    scale = size / max(image.size)
    # At least one pixel: ImageOps.pad refuses a strip of 1 x 20,000.
    fitted = image.resize(
        (max(round(image.width * scale), 1), max(round(image.height * scale), 1)),
        Image.Resampling.BICUBIC,
    )
    canvas = Image.new("RGB", (size, size), "white")
    canvas.paste(fitted, ((size - fitted.width) // 2, (size - fitted.height) // 2))
    return canvas


def trimmed(image: Image.Image) -> Image.Image:
    """Without the rows and columns at each side that are all of the colour of the side's corner,
    within TRIM_TOLERANCE; an image that is nothing else stays whole.
    """
    pixels = np.asarray(image)
    left = _border(pixels.swapaxes(0, 1))
    right = _border(pixels.swapaxes(0, 1)[::-1])
    top, bottom = _border(pixels), _border(pixels[::-1])
    if left + right >= image.width or top + bottom >= image.height:
        return image
    return image.crop((left, top, image.width - right, image.height - bottom))


def _border(lines: Pixels) -> int:
    """Number of the first lines (lines, positions, 3) that have the colour of the first pixel."""
    for count, line in enumerate(lines):
        if (
            np.square(line.astype(np.int32) - lines[0, 0].astype(np.int32)).sum(axis=1)
            > TRIM_TOLERANCE**2
        ).any():
            return count
    return len(lines)
