"""Deliveries are what Pillow gives back, image by image, and names say all that a codec chooses."""

import io

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

import advrec
from advrec.errors import ConfigError
from advrec.evaluation.delivery import round_trip
from advrec.spec import study as study_file
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
    delivered = round_trip(delivery)(images)
    for image, stored in zip(images, delivered, strict=True):
        assert torch.allclose(stored, by_hand(image, *DELIVERIES[delivery]), atol=1e-6, rtol=0)
    assert torch.equal(images, torch.rand(3, 3, 24, 20, generator=torch.Generator().manual_seed(0)))


def test_avif_does_not_depend_on_the_cores_of_a_machine():
    """With more threads, libavif (1.4.2) gives other pixels, where the image has several tiles."""
    small = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(small, scale_factor=8, mode="bicubic").clamp(0, 1)[0]
    ours = round_trip("avif-60")(image[None])[0]
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
        (round_trip(each)(stripes) - stripes).abs().mean() for each in ("jpeg-90", "jpeg-90-444")
    )
    assert kept < 0.05 < 0.1 < lost


def with_delivery(delivery):
    evaluation = STUDY["evaluation"] | {"delivery": delivery}
    return study_file.parse(STUDY | {"evaluation": evaluation}, "s.yaml").evaluation.delivery


@pytest.mark.parametrize("delivery", ["webp-1", "avif-100", "jpeg-90-444", "jpeg-100", "png"])
def test_a_study_names_codec_quality_and_sampling(delivery):
    assert with_delivery(delivery) == (delivery,)


@pytest.mark.parametrize("delivery", ["webp-0", "avif-101", "jpeg-90-420", "webp-80-444", "gif"])
def test_what_is_no_delivery_is_refused_with_those_that_are(delivery):
    with pytest.raises(ConfigError, match=r"jpeg-1-444 to jpeg-100-444, webp-1 .* avif-1 to"):
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
