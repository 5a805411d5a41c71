"""Attacks that see a delivery in a report: its tables, its checks and its images are those of the
image that was made for it. Without figures.
"""

import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from advrec.errors import AdvrecError
from advrec.reports import results
from advrec.reports.page import success as page
from advrec.reports.page import visible
from advrec.reports.pictures import gallery
from advrec.reports.tables import convergence, cost, success, visibility
from advrec.run import schema
from advrec.run.files import write_table
from advrec.run.tables import read_table

SEEING = {"name": "seeing", "attack": "apgd-50", "through": ["jpeg-90"]}
DELIVERIES = ("float", "png", "jpeg-90")


@pytest.fixture
def run(make_run):
    """A blind attack, and one that sees jpeg-90 alone; its rows have the norms of that image."""
    made = make_run(attacks=["fgsm", SEEING], delivery=DELIVERIES, checks=8)
    for path in made.attacks.rglob("attack=seeing/*.parquet"):
        rows = read_table(path, schema.outcomes(DELIVERIES[1:])).to_pandas()
        rows = rows.assign(linf_jpeg_90=rows["linf"] / 2, l2_jpeg_90=rows["l2"] / 2)
        rows["adversarial_rank_jpeg_90"] = 1
        full = schema.outcomes(DELIVERIES[1:], ["jpeg-90"])
        write_table(path, schema.table(full, rows.to_dict("list")))
    for path in made.examples.rglob("attack=seeing/*.parquet"):
        rows = read_table(path, schema.EXAMPLES).to_pandas()
        pixels = np.frombuffer(rows["pixels"][0], "<f4")
        others = rows.assign(delivery="jpeg-90", pixels=[(pixels * 0 + 0.5).tobytes()] * len(rows))
        both = pd.concat([rows.assign(delivery="float"), others])
        write_table(path, schema.table(schema.examples(["jpeg-90"]), both.to_dict("list")))
    return made


def test_notes_speak_of_the_deliveries_that_there_are(make_run):
    notes = {
        codec: " ".join(page.delivered_notes(results.read(make_run(codec, delivery=(codec,)))))
        for codec in ("png", "webp-90", "jpeg-90")
    }
    further = [bool(re.search("[Aa] codec (moves|by more)", note)) for note in notes.values()]
    assert further == [False, True, True]
    assert all("the model's size" in note for note in notes.values())


def test_success_says_who_saw_the_delivery(run):
    made = success.delivered(results.read(run))
    seen = {key: bool(rows.all()) for key, rows in made.groupby(["attack", "delivery"])["seen"]}
    assert seen == {
        ("fgsm", "float"): True,
        ("fgsm", "png"): False,
        ("fgsm", "jpeg-90"): False,
        ("seeing", "float"): True,
        ("seeing", "png"): False,
        ("seeing", "jpeg-90"): True,
    }
    arrived = made[(made["attack"] == "seeing") & (made["delivery"] == "jpeg-90")]
    assert (arrived["percent"] == 100).all()
    table = page.delivered_tables(results.read(run))[0]
    blind = {(row[0].text, row[1].text): [cell.below for cell in row[3:]] for row in table.rows}
    marked = ["blind" in small for small in blind["seeing", "0.05"]]
    assert marked == [False, True, False]
    assert ["blind" in small for small in blind["fgsm", "0.05"]] == [False, True, True]


def test_the_sentence_on_lower_bounds_stands_only_where_an_attack_is_blind(make_run, run):
    notes = " ".join(page.delivered_notes(results.read(run)))
    assert "an image of its own" in notes
    assert "lower bound" in notes
    all_seeing = SEEING | {"through": ["png", "jpeg-90"]}
    alone = make_run("alone", attacks=[all_seeing], delivery=DELIVERIES)
    notes = " ".join(page.delivered_notes(results.read(alone)))
    assert "an image of its own" in notes
    assert "lower bound" not in notes
    assert "taken to have the model's size" in notes
    blind = make_run("blind", delivery=DELIVERIES)
    notes = " ".join(page.delivered_notes(results.read(blind)))
    assert "an image of its own" not in notes
    assert "lower bound" in notes
    assert page.delivered_notes(results.read(make_run("float"))) == []


def test_an_image_for_a_delivery_beyond_its_budget_is_found(run):
    path = run.block("at", "seeing", 0)
    full = schema.outcomes(DELIVERIES[1:], ["jpeg-90"])

    def kept(read):
        verdicts = {m: c.verdict for m, c in read.checks if c.name == "budget and box are kept"}
        table = cost.budget(read)
        return verdicts, set(table[~table["within_budget"]]["model"])

    assert kept(results.read(run)) == (dict.fromkeys(("unsecured", "at", "cat"), "passed"), set())
    rows = read_table(path, full).to_pandas()
    rows.loc[0, "linf_jpeg_90"] = 0.5
    write_table(path, schema.table(full, rows.to_dict("list")))
    verdicts, broken = kept(results.read(run))
    assert verdicts["at"] == "failed"
    assert broken == {"at"}


def test_the_gallery_shows_each_image_with_its_own_rank(run):
    kept = gallery.kept_examples(results.read(run))
    of = {
        (e.tuple_id, e.epsilon, e.delivery): e
        for e in kept
        if (e.model, e.attack) == ("at", "seeing")
    }
    assert {delivery for _, _, delivery in of} == {"float", "jpeg-90"}
    for (_, _, delivery), example in of.items():
        assert (example.adversarial == 0.5).all() == (delivery == "jpeg-90")
        assert delivery == "float" or example.adversarial_rank == 1
    assert {e.delivery for e in kept if e.attack == "fgsm"} == {"float"}
    # Before and after, and the growing budgets, are of the images that the headline counts.
    strongest = success.strongest(results.read(run))
    grown = gallery.growing(kept, strongest)
    assert {e.delivery for examples in grown.values() for e in examples} == {"float"}


def test_an_image_for_a_delivery_is_as_visible_as_it_is_itself(run):
    read = results.read(run)
    rows = visibility.visibility(read)
    assert set(rows[rows["attack"] == "fgsm"]["delivery"]) == {"float"}
    by_delivery = rows[rows["attack"] == "seeing"].groupby("delivery")
    assert by_delivery["ssim"].nunique()["jpeg-90"] == 2  # all grey, beside two articles
    assert by_delivery["ssim"].nunique()["float"] > 2
    least = visibility.budgets(read).set_index(["attack", "delivery"]).loc[("seeing", "jpeg-90")]
    assert (least["epsilon"] == 0.01).all()  # its rank is 1 everywhere
    assert visible.budget_tables(read)[0].columns[1] == "Made for"


@pytest.mark.parametrize("room", ["checks", "examples"])
def test_a_copy_of_a_block_is_refused_as_among_attacks(run, room):
    for block in sorted((run.directory / room).glob("model=at/*/block-000000.parquet")):
        copy = block.with_name("block-000007.parquet")
        pq.write_table(pq.read_table(block), copy, compression="none")  # the rows in other bytes
        with pytest.raises(AdvrecError, match=f"{room}: rows of .* twice, .* delete the block"):
            gallery.kept_examples(results.read(run))
        copy.unlink()
    assert gallery.kept_examples(results.read(run))


def test_convergence_counts_steps_of_one_image(make_run):
    seeing = SEEING | {"through": ["png", "jpeg-90"]}
    stopping = seeing | {"name": "stopping", "stop": "rank-1"}
    run = make_run(attacks=["fgsm", seeing, stopping], delivery=DELIVERIES)
    for path in run.attacks.rglob("attack=seeing/*.parquet"):
        rows = read_table(path, schema.outcomes(DELIVERIES[1:])).to_pandas()
        rows["gradient_steps"] = 3 * 50  # for float, png and jpeg-90
        write_table(path, schema.table(schema.outcomes(DELIVERIES[1:]), rows.to_dict("list")))
    made = convergence.convergence(results.read(run))
    assert set(made["attack"]) == {"fgsm", "seeing"}
    assert (made.loc[made["attack"] == "seeing", "gradient_steps"] == 50).all()


def test_costs_say_what_an_attack_sees_and_old_readers_find_their_columns(run):
    read = results.read(run)
    through = dict(zip(cost.cost(read)["attack"], cost.cost(read)["through"], strict=True))
    assert through == {"fgsm": "", "seeing": "jpeg-90"}
    assert read.outcomes["linf_jpeg_90"].isna().sum() == (read.outcomes["attack"] == "fgsm").sum()
    assert "linf_png" not in read.outcomes
