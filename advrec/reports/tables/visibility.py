"""Visibility of attacked images: how far each kept image is from its unchanged article.

Sources: Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE
Transactions on Image Processing 13(4), 2004 (SSIM); Sharma, Wu and Dalal, The CIEDE2000
color-difference formula, Color Research and Application 30(1), 2005.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from advrec.catalog.pixels import Pixels
from advrec.reports.kept import KEY, article_images, first_tuples, kept_pixels, kept_rows
from advrec.reports.results import Results


class Visibility(NamedTuple):
    """Distances of two images as people see them."""

    psnr_db: float
    """Peak signal-to-noise ratio; infinite for equal images."""
    ssim: float
    """Structural similarity, at most 1, which equal images have."""
    ciede2000_95: float
    """95th percentile over pixels of the difference in colour; below 1 it is hardly seen."""


IMAGE = ["model", "attack", "delivery", "tuple_id"]
COLUMNS = [*IMAGE, "attack_id", "epsilon", "adversarial_rank", *Visibility._fields]
BUDGET_COLUMNS = [*IMAGE, "rank", "epsilon", *Visibility._fields]
ROUNDING = 1e-6
"""A change below it, of pixels in [0, 1], is none."""
MOST = 48 * 2**20
"""Pixels that are measured at most: about a minute of one core."""


def measured(clean: Pixels, attacked: npt.NDArray[np.float32]) -> Visibility:
    """Distances of an attacked image from its article.

    SSIM is the mean over RGB with the published window, a Gaussian of 1.5 pixels in 11 x 11.
    CIEDE2000 takes the pixels as sRGB under D65.

    Args:
        clean: (H, W, 3), uint8, 11 pixels a side or more.
        attacked: (H, W, 3), [0, 1].
    """
    # half a second to import, for this alone
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    before, after = clean / 255.0, attacked.astype(np.float64)
    # Unchanged values are equal: attacks get float32, divided by 255 on any device.
    after = np.where(np.abs(after - before) < ROUNDING, before, after)
    with np.errstate(divide="ignore"):  # equal images
        psnr = peak_signal_noise_ratio(before, after, data_range=1.0)
    ssim = structural_similarity(
        before,
        after,
        data_range=1.0,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return Visibility(float(psnr), float(ssim), float(np.percentile(colours(before, after), 95)))


def colours(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> Any:
    """CIEDE2000 (H, W) between the pixels of two images (H, W, 3), [0, 1]."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    return deltaE_ciede2000(rgb2lab(one), rgb2lab(other))


@lru_cache(maxsize=1)  # the page asks for it too
def visibility(results: Results) -> pd.DataFrame:
    """One row a kept image, as it is handed in, with its outcome after the delivery that it was
    made for.

    Of the first tuples, so many that MOST pixels are measured at most. An upload is compared at the
    catalog's size, where each of its pixels stands for a block of equal ones.
    """
    rows = kept_rows(results)
    if rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    tuples = first_tuples(rows, MOST // int((rows["height"] * rows["width"]).max()))
    clean = article_images(results, set(rows["attack_id"]))
    rows = rows[rows["tuple_id"].isin(tuples) & rows["attack_id"].isin(list(clean))]
    article = rows.set_index(KEY)["attack_id"].to_dict()
    found = [
        (*key, *measured(clean[article[key]], image))
        for key, image in kept_pixels(results, tuples)
        if key in article
    ]
    if not found:
        return pd.DataFrame(columns=COLUMNS)
    table = rows.merge(pd.DataFrame(found, columns=[*KEY, *Visibility._fields]), on=KEY)
    return results.in_study_order(table, ["tuple_id", "epsilon"])[COLUMNS]


def budgets(results: Results) -> pd.DataFrame:
    """One row a (model, attack, delivery, tuple): the smallest budget of the study at which the
    kept image reaches the headline's rank, and how visible it is there.

    Where it reaches it at none, epsilon is infinite and the distances are not known.
    """
    every = visibility(results)
    won = every[every["adversarial_rank"] <= results.rank].sort_values("epsilon", kind="stable")
    first = won.drop_duplicates(IMAGE)[[*IMAGE, "epsilon", *Visibility._fields]]
    table = every[IMAGE].drop_duplicates().merge(first, on=IMAGE, how="left")
    table["epsilon"] = table["epsilon"].fillna(np.inf)
    return table.assign(rank=results.rank)[BUDGET_COLUMNS]


def tables(results: Results) -> dict[str, pd.DataFrame]:
    """Both, where the run has kept images."""
    if visibility(results).empty:
        return {}
    return {"visibility": visibility(results), "visible_budgets": budgets(results)}
