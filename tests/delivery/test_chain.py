"""Deliveries are what Pillow gives back, image by image, and names say all that a codec chooses."""

import io

import numpy as np
import PIL
import pytest
import scipy.fft
import torch
from PIL import Image

import advrec
from advrec.delivery import jpeg, scaling
from advrec.delivery.chain import chain
from advrec.errors import ConfigError
from advrec.spec import study as study_file
from advrec.spec.deliveries import FILTERS
from tests.commands import advrec as command
from tests.conftest import STUDY
from tests.runs import write_study

DELIVERIES = {
    "jpeg-90": ("JPEG", {"quality": 90, "subsampling": 2}),
    "jpeg-90-444": ("JPEG", {"quality": 90, "subsampling": 0}),
    "webp-80": ("WEBP", {"quality": 80}),
    "avif-60": ("AVIF", {"quality": 60, "max_threads": 1}),
}


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 24, 20, generator=torch.Generator().manual_seed(0))


def by_hand(image, form, options):
    """The image (3, H, W) written and read by Pillow, floats in [0, 1]."""
    pixels = np.rint(image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    read = np.asarray(Image.open(file).convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(read).permute(2, 0, 1)


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_codec_gives_what_pillow_gives_of_each_image_alone(images, delivery):
    delivered = chain(delivery)(images)
    for image, stored in zip(images, delivered, strict=True):
        assert torch.allclose(stored, by_hand(image, *DELIVERIES[delivery]), atol=1e-6, rtol=0)
    assert torch.equal(images, torch.rand(3, 3, 24, 20, generator=torch.Generator().manual_seed(0)))


def test_avif_does_not_depend_on_the_cores_of_a_machine():
    """With more threads, libavif (1.4.2) gives other pixels, where the image has several tiles."""
    small = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(small, scale_factor=8, mode="bicubic").clamp(0, 1)[0]
    ours = chain("avif-60")(image[None])[0]
    alone, two = (
        by_hand(image, "AVIF", {"quality": 60, "max_threads": threads}) for threads in (1, 2)
    )
    assert torch.allclose(ours, alone, atol=1e-6, rtol=0)
    assert not torch.equal(alone, two)


def test_colours_survive_at_full_resolution_alone(images):
    """Stripes of red and blue, a pixel wide, have the same brightness."""
    stripes = torch.full((1, 3, 16, 16), 0.2)
    stripes[:, 0, :, ::2], stripes[:, 2, :, 1::2] = 0.7, 0.9
    lost, kept = (
        (chain(each)(stripes) - stripes).abs().mean() for each in ("jpeg-90", "jpeg-90-444")
    )
    assert kept < 0.05 < 0.1 < lost


PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
}


def pixels_of(images):
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("name", PILLOW)
def test_steps_are_done_in_order_and_the_end_has_the_catalogs_size(images, name):
    arrived = pixels_of(chain(f"scale-0.4-{name}+jpeg-70-444")(images))
    for image, here in zip(pixels_of(images), arrived, strict=True):
        small = Image.fromarray(image).resize((8, 10), PILLOW[name])
        file = io.BytesIO()
        small.save(file, "JPEG", quality=70, subsampling=0)
        whole = Image.open(file).convert("RGB").resize((20, 24), PILLOW[name])
        assert np.array_equal(here, np.asarray(whole))


def test_an_upload_repeats_each_pixel_and_comes_back(images):
    arrived = pixels_of(chain("upload-96-bilinear+jpeg-50")(images[..., :16, :16]))
    for image, here in zip(pixels_of(images[..., :16, :16]), arrived, strict=True):
        file = io.BytesIO()
        large = np.kron(image, np.ones((6, 6, 1), dtype=np.uint8))
        Image.fromarray(large).save(file, "JPEG", quality=50, subsampling=2)
        small = Image.open(file).convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)
        assert np.array_equal(here, np.asarray(small))


def test_linear_plain_takes_two_pixels_a_side_and_no_more():
    """A pixel of the result has its middle between two of the image's, as in OpenCV."""
    row = np.random.default_rng(0).integers(0, 256, 24).astype(np.uint8)
    image = np.repeat(np.repeat(row[None, :, None], 24, 0), 3, 2)
    small = scaling.scaled(image, 24, 7, "linear-plain")
    for place, value in enumerate(small[0, :, 0]):
        middle = (place + 0.5) * 24 / 7 - 0.5
        left, weight = int(middle), middle - int(middle)
        assert abs(value - ((1 - weight) * row[left] + weight * row[left + 1])) <= 0.5 + 1e-4


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("form", ["scale-0.4-{}", "upload-96-{}+png", "scale-2-{}+scale-0.3-{}"])
def test_the_slope_is_the_scaling_but_for_rounding(name, form):
    """No filter leaves the box on smooth images, so that nothing is cut off."""
    small = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.25
    smooth = torch.nn.functional.interpolate(small, size=(24, 24), mode="bilinear")
    made = chain(form.format(name, name))
    assert (made.slope(smooth) - made(smooth)).abs().max() < 2.5 / 255
    weights = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(2))
    one = smooth.double().requires_grad_()
    (slope,) = torch.autograd.grad((made.slope(one) * weights).sum(), one)
    change = torch.randn(one.shape, generator=torch.Generator().manual_seed(3)).double()
    moved = (made.slope(one + change) - made.slope(one)) * weights
    assert torch.allclose(moved.sum(), (slope * change).sum(), rtol=1e-4)


def photograph(side=40):
    """Something smooth, with noise on it: (2, 3, side, side)."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(2, 3, 6, 6, generator=generator) * 0.6 + 0.2
    smooth = torch.nn.functional.interpolate(small, size=(side, side), mode="bicubic")
    noise = torch.randn(smooth.shape, generator=generator) * 0.03
    return (((smooth + noise).clamp(0, 1) * 255).round() / 255)[..., : side - 3]


@pytest.mark.parametrize("name", ["jpeg-75", "jpeg-30-422", "jpeg-90-444", "jpeg-20"])
def test_the_arithmetic_of_a_jpeg_is_that_of_the_codec_but_for_its_integers(name):
    image = photograph()
    stored, seen = chain(name)(image), chain(name).slope(image).clamp(0, 1)
    assert (stored - seen).abs().mean() < 0.4 * (stored - image).abs().mean()
    assert (stored - seen).abs().mean() < 2 / 255


def test_the_slope_of_a_coefficient_is_that_of_its_rounding():
    """Against SciPy's transform, on grey images: 3 (z - round(z))^2, Shin and Song 2017."""
    grey = photograph(16)[:1, :1, :, :8].double().expand(1, 3, 16, 8).clone().requires_grad_()
    weights = torch.randn(16, 8, generator=torch.Generator().manual_seed(1)).double()
    seen = chain("jpeg-60-444").slope(grey).mean(1)[0]
    (slope,) = torch.autograd.grad((seen * weights).sum(), grey)
    divisors = jpeg.tables(60)[0].double().numpy()
    for top in (0, 8):
        part = grey.detach()[0, 0, top : top + 8].numpy() * 255 - 128
        exact = scipy.fft.dctn(part, norm="ortho") / divisors
        steepness = 3 * (exact - exact.round()) ** 2
        wanted = scipy.fft.dctn(weights[top : top + 8].numpy(), norm="ortho") * steepness
        expected = scipy.fft.idctn(wanted, norm="ortho")
        assert slope[0].sum(0)[top : top + 8].numpy() == pytest.approx(expected, abs=1e-4)


def test_a_step_before_a_jpeg_has_its_slope_too():
    """Gradients pass the chain in order: those of a smaller image are of as many coefficients."""
    image = photograph().requires_grad_()
    (slope,) = torch.autograd.grad(chain("scale-0.5-area+jpeg-50").slope(image)[0].sum(), image)
    assert slope[0].abs().sum() > 0
    assert slope[1].abs().sum() == 0
    pairs = slope[0].unfold(1, 2, 2)
    assert torch.allclose(pairs[..., 0], pairs[..., 1], atol=1e-6)


def test_a_large_upload_outlives_a_codec_that_a_small_one_does_not():
    """A block of equal pixels is the constant coefficient of its DCT."""
    generator = torch.Generator().manual_seed(0)
    image = torch.full((4, 3, 64, 64), 0.5)
    signs = (torch.rand(image.shape, generator=generator) < 0.5).float() * 2 - 1
    change = 8 / 255 * signs

    def survives(delivery):
        through = chain(delivery)
        came = through(image + change) - through(image)
        return float((came * change).sum() / change.square().sum())

    assert survives("jpeg-75") < 0.3
    assert survives("upload-512-area+jpeg-75") > 0.8


def with_delivery(delivery):
    evaluation = STUDY["evaluation"] | {"delivery": delivery}
    return study_file.parse(STUDY | {"evaluation": evaluation}, "s.yaml").evaluation.delivery


@pytest.mark.parametrize(
    ("delivery", "written"),
    [
        *((each, each) for each in ("webp-1", "avif-100", "jpeg-90-444", "jpeg-100", "png")),
        ("jpeg-90-420", "jpeg-90"),
        ("scale-0.50+jpeg-85", "scale-0.5-bicubic+jpeg-85"),
        ("upload-512+jpeg-75", "upload-512-bicubic+jpeg-75"),
        ("upload-64-linear-plain+scale-2-area", "upload-64-linear-plain+scale-2-area"),
    ],
)
def test_a_study_names_each_step_and_its_resolved_file_the_filters(delivery, written):
    assert with_delivery(delivery) == (written,)
    assert with_delivery(written) == (written,)


@pytest.mark.parametrize(
    "delivery", ["webp-0", "avif-101", "jpeg-90-440", "webp-80-444", "gif", "scale", "png+", "+png"]
)
def test_what_is_no_delivery_is_refused_with_those_that_are(delivery):
    with pytest.raises(ConfigError, match=r"allowed: float, png, jpeg-Q, jpeg-Q-422, .* FILTER"):
        with_delivery(delivery)


@pytest.mark.parametrize(
    ("delivery", "said"),
    [
        ("jpeg-90+upload-64", "it is first"),
        ("upload-500", "no multiple of the catalog's 32 pixels a side; write upload-512"),
        ("upload-8", "write upload-32"),
        ("upload-8192", "4096 pixels a side at most"),
        ("scale-0", "a factor lies above 0"),
        ("scale-9", "8 at most"),
        (["scale-0.5", "scale-0.50-bicubic"], "lists scale-0.5-bicubic twice"),
    ],
)
def test_steps_that_make_no_sense_are_refused(delivery, said):
    with pytest.raises(ConfigError, match=said):
        with_delivery(delivery)


def test_a_codec_that_pillow_lacks_is_refused_in_one_sentence(ready, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "PIL.features.check", lambda feature, check=PIL.features.check: feature != "avif"
    )
    said = "delivery avif-60: this Pillow .* was built without AVIF; install"
    write_study(tmp_path / "s.yaml", ready, evaluation={"delivery": ["avif-60"]})
    done = command("evaluate", "s.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "without AVIF" in done.stderr
    assert done.stderr.count("\n") == 1
    pixels = (
        np.zeros((3, 8, 8, 3), dtype=np.uint8) + np.arange(3, dtype=np.uint8)[:, None, None, None]
    )
    recommender = advrec.Recommender.of(lambda images: images.flatten(1) + 1.0, pixels)
    with pytest.raises(ConfigError, match=said):
        advrec.attack(recommender, target=0, article=1, attack="apgd-2", delivery="avif-60")
