"""Visibility of attacked images: closed forms, published colours, and the tables of a run."""

import math
import shutil

import numpy as np
import pandas as pd
import pytest
from skimage.color import deltaE_ciede2000, lab2rgb

from advrec.catalog.pixels import decode_png
from advrec.reports import results
from advrec.reports.page import tiles, visible
from advrec.reports.pictures import gallery
from advrec.reports.tables import visibility
from advrec.reports.tables.every import all_tables
from advrec.reports.tables.visibility import measured
from advrec.run import schema
from advrec.run.tables import read_table

SIDE = 16


def image(values: np.ndarray) -> np.ndarray:
    return (values / 255.0).astype(np.float32)


def test_equal_images_have_no_distance():
    clean = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    found = measured(clean, image(clean))
    assert found == measured(clean, image(clean) * np.float32(1 - 1e-7)) == (math.inf, 1.0, 0.0)
    row = found._asdict()
    assert visible.told(row) == "PSNR ∞ dB, SSIM 1.000, CIEDE2000 0.0"


def test_a_uniform_shift_of_grey_has_closed_forms():
    before, after = 100, 112
    clean = np.full((SIDE, SIDE, 3), before, dtype=np.uint8)
    found = measured(clean, image(clean + (after - before)))
    low, high = before / 255, after / 255
    assert found.psnr_db == pytest.approx(-20 * math.log10(high - low), abs=1e-4)
    constant = 0.01**2  # without variance the rest of SSIM is 1
    expected = (2 * low * high + constant) / (low**2 + high**2 + constant)
    assert found.ssim == pytest.approx(expected, abs=1e-6)
    # Of greys CIEDE2000 has the term of lightness alone.
    dark, light = (
        116 * (((value + 0.055) / 1.055) ** 2.4) ** (1 / 3) - 16 for value in (low, high)
    )
    square = ((dark + light) / 2 - 50) ** 2
    colour = (light - dark) / (1 + 0.015 * square / math.sqrt(20 + square))
    assert found.ciede2000_95 == pytest.approx(colour, abs=1e-3)


def test_ssim_is_the_published_formula_on_one_window():
    rng = np.random.default_rng(1)
    clean = rng.integers(60, 190, (11, 11, 3), dtype=np.uint8)
    attacked = image(clean) + rng.uniform(-0.05, 0.05, clean.shape).astype(np.float32)
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    each = []
    for x, y in zip(np.moveaxis(image(clean), 2, 0), np.moveaxis(attacked, 2, 0), strict=True):
        mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
        var_x, var_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
        both = (weights * (x - mean_x) * (y - mean_y)).sum()
        top = (2 * mean_x * mean_y + 0.01**2) * (2 * both + 0.03**2)
        each.append(top / ((mean_x**2 + mean_y**2 + 0.01**2) * (var_x + var_y + 0.03**2)))
    assert measured(clean, attacked).ssim == pytest.approx(np.mean(each), abs=1e-5)


# Sharma, Wu and Dalal 2005, table 1: of colours that a screen can show, and the first pair.
PUBLISHED = [
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((61.2901, 3.7196, -5.3901), (61.4292, 2.2480, -4.9620), 1.8731),
    ((36.4612, 47.8580, 18.3852), (36.2715, 50.5065, 21.2231), 1.4146),
    ((90.8027, -2.0831, 1.4410), (91.1528, -1.6435, 0.0447), 1.4441),
]


def test_differences_of_colours_are_those_published():
    first = deltaE_ciede2000((50, 2.6772, -79.7751), (50, 0, -82.7485))
    assert first == pytest.approx(2.0425, abs=5e-5)
    for one, other, published in PUBLISHED:
        pair = [lab2rgb(np.full((4, 4, 3), colour)) for colour in (one, other)]
        assert visibility.colours(*pair) == pytest.approx(published, abs=2e-3)


def test_the_percentile_leaves_out_the_twentieth_of_the_pixels_that_changed_most():
    clean = np.full((20, 20, 3), 90, dtype=np.uint8)
    for pixels, seen in ((19, False), (22, True)):
        changed = image(clean).reshape(-1, 3)
        changed[:pixels] += 0.2
        assert (measured(clean, changed.reshape(clean.shape)).ciede2000_95 > 1) == seen


def test_every_kept_image_is_measured_against_its_own_article(finished):
    read = results.read(finished)
    made = pd.read_csv(finished.report / "tables" / "visibility.csv")
    assert len(made) == 3 * 2 * 2 * 2
    pngs = read_table(finished.images, schema.IMAGES).to_pylist()
    clean = {row["article_id"]: decode_png(row["png"]) for row in pngs}
    kept = gallery.kept_examples(read)
    assert len({each.attack_id for each in kept}) == 2
    outcomes = read.outcomes.set_index(["model", "attack", "tuple_id", "epsilon"])
    for each in kept:
        key = (each.model, each.attack, each.tuple_id, each.epsilon)
        row = made.set_index(["model", "attack", "tuple_id", "epsilon"]).loc[key]
        expected = measured(clean[outcomes.loc[key, "attack_id"]], each.adversarial)
        np.testing.assert_allclose(row[list(expected._fields)].astype(float), expected, rtol=1e-6)
        assert row["adversarial_rank"] == outcomes.loc[key, "adversarial_rank"]


def test_the_budget_of_a_rank_is_the_smallest_that_reaches_it(finished):
    read = results.read(finished)
    images, made = visibility.visibility(read), visibility.budgets(read)
    assert len(made) == 3 * 2 * 2
    for row in made.to_dict("records"):
        of = images[
            (images[visibility.IMAGE] == [row[key] for key in visibility.IMAGE]).all(axis=1)
        ]
        won = [each for each in of.to_dict("records") if each["adversarial_rank"] <= 3]
        if not won:
            assert row["epsilon"] == math.inf
            assert math.isnan(row["ssim"])
            continue
        least = min(won, key=lambda each: each["epsilon"])
        for name in ("epsilon", *visibility.Visibility._fields):
            assert row[name] == least[name]
    assert len(set(made["epsilon"])) > 1  # some reach it, some do not
    told = {row[0].text: row for row in visible.budget_tables(read)[1].rows}  # of at
    for attack, row in told.items():
        cell = made[(made["model"] == "at") & (made["attack"] == attack)]
        reached = sorted(cell.loc[cell["epsilon"] < math.inf, "epsilon"])
        assert row[1].text == f"{len(reached)} of 2"
        assert row[2].text == (read.shown(reached[(len(reached) - 1) // 2]) if reached else "–")  # noqa: RUF001


def test_each_picture_of_the_gallery_says_how_visible_it_is(finished):
    read = results.read(finished)
    table = visibility.visibility(read)
    kept = gallery.kept_examples(read)
    shown = [tile for group in tiles.gallery(kept, table) for tile in group.tiles]
    for tile, each in zip(shown, kept, strict=True):
        own = table[
            (table["model"] == each.model)
            & (table["attack"] == each.attack)
            & (table["epsilon"] == each.epsilon)
            & (table["tuple_id"] == each.tuple_id)
        ]
        assert tile.visible == visible.told(own.to_dict("records")[0])
    page = (finished.report / "index.html").read_text(encoding="utf-8")
    assert all(tile.visible in page for tile in shown)
    assert "How visible is success?" in page


def test_no_more_is_measured_than_takes_a_while(make_run, monkeypatch):
    read = results.read(make_run(tuples=4, attacks=["fgsm", "pgd-8"]))
    monkeypatch.setattr(visibility, "MOST", 23 * 32 * 32)
    assert set(visibility.visibility(read)["tuple_id"]) == {0}


@pytest.mark.parametrize("room", ["examples", "images"])
def test_a_run_without_kept_images_or_articles_has_no_such_table(make_run, room):
    run = make_run(room, tuples=2, attacks=["fgsm"])
    shutil.rmtree(run.directory / room)
    read = results.read(run)
    assert not {"visibility", "visible_budgets"} & {*all_tables(read)}
    assert visible.budget_tables(read) == []
