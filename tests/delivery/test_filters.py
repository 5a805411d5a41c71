"""Filters are those of SciPy and NumPy, and what gradients see of a blur is the blur."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from advrec.delivery.chain import chain
from advrec.spec.deliveries import ingest_written_out, written_out


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (2, 24, 20, 3)).astype(np.uint8)


def after(name, pixels):
    """Images (N, H, W, 3) uint8 after a chain."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    return (chain(name)(images) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("deviation", [0.6, 1, 5])
def test_a_blur_is_a_gaussian_of_rows_and_columns(pixels, deviation):
    for image, blurred in zip(pixels, after(f"blur-{deviation}", pixels), strict=True):
        exact = ndimage.gaussian_filter(
            image.astype(float), (deviation, deviation, 0), mode="nearest"
        )
        assert np.abs(blurred - exact).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("side", [3, 5])
def test_a_median_is_that_of_each_channel(pixels, side):
    for image, middle in zip(pixels, after(f"median-{side}", pixels), strict=True):
        exact = ndimage.median_filter(image, (side, side, 1), mode="nearest")
        assert np.array_equal(middle, exact)


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_bits_are_the_nearest_of_so_many_even_levels(pixels, bits):
    levels = np.linspace(0, 255, 2**bits)
    values = np.arange(256)
    ramp = np.broadcast_to(values[None, :, None], (1, 256, 3))[None][0].astype(np.uint8)[None]
    nearest = levels[np.abs(values[:, None] - levels).argmin(1)]
    assert np.abs(after(f"bits-{bits}", ramp)[0, 0, :, 0] - nearest).max() <= 0.5
    assert len(np.unique(after(f"bits-{bits}", ramp))) == 2**bits


def test_the_slope_of_a_blur_is_the_blur_and_others_are_straight_through():
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, 3, 16, 16, generator=generator)
    assert (chain("blur-1.5").slope(images) - chain("blur-1.5")(images)).abs().max() < 1.01 / 255
    assert torch.equal(chain("median-3+bits-3").slope(images), images)
    order = chain("blur-1+scale-0.5-area"), chain("scale-0.5-area+blur-1")
    first, second = (each.slope(images) for each in order)
    assert (first - second).abs().max() > 0.01
    assert all((each(images) - each.slope(images)).abs().max() < 3 / 255 for each in order)


def test_names_are_written_out_and_what_is_none_is_refused():
    assert written_out("blur-1.50+median-3+bits-5") == "blur-1.5+median-3+bits-5"
    assert ingest_written_out("scale-0.5+smooth-0.10-8") == "scale-0.5-bicubic+smooth-0.1-8"
    for wrong, said in (
        ("median-4", "odd"),
        ("blur-0", "above 0"),
        ("bits-9", "bits-N"),
        ("smooth-0.1-8", "belongs to the ingest"),
    ):
        with pytest.raises(ValueError, match=said):
            written_out(wrong)
    for wrong, said in (
        ("upload-512+jpeg-75", "belongs to a delivery"),
        ("smooth-0.1-8+jpeg-75", "is last"),
        ("smooth-2-8", "at most 1"),
        ("float", "nothing that is done"),
    ):
        with pytest.raises(ValueError, match=said):
            ingest_written_out(wrong)
