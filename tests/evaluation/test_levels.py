"""What a shop stores has 256 levels: what is made for it stays within the budget."""

import dataclasses
import math
import shutil
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import advrec as api
from advrec.attacks import budget, registry
from advrec.catalog.dataset import Catalog
from advrec.delivery.chain import chain, eight_bits
from advrec.evaluation.block import Block
from advrec.evaluation.harness import evaluate_block
from advrec.model.encoder import frozen, to_images
from advrec.reports import results
from advrec.reports.page.success import delivered_notes
from advrec.run import identity
from advrec.run.directory import Run
from advrec.tools.attack import outcomes_of
from tests.commands import advrec
from tests.conftest import random_network, recommender
from tests.runs import blocks, write_study

SIDE = (2, 3, 4, 5)


@settings(deadline=None)
@given(
    arrays.arrays(np.uint8, SIDE),
    arrays.arrays(np.float32, SIDE, elements=st.floats(0, 1, width=32)),
    st.floats(0, 1) | st.integers(0, 255).map(lambda level: level / 255),
)
def test_png_holds_the_nearest_level_within_the_budget(clean, wanted, epsilon):
    """In levels: the wanted value rounded, then clipped to floor(255 epsilon) around the clean."""
    images = torch.from_numpy(clean).float() / 255.0
    epsilons = torch.full((SIDE[0],), epsilon, dtype=torch.float64)
    uploaded = budget.ball(images, budget.in_levels(epsilons)).project(torch.from_numpy(wanted))
    stored = chain("png")(uploaded).double().numpy() * 255
    levels = np.rint(stored).astype(int)
    np.testing.assert_allclose(stored, levels, atol=1e-4)
    most = math.floor(Fraction(epsilon) * 255 + Fraction(1, 10**9))
    assert np.abs(levels - clean.astype(int)).max() <= most
    centre = clean.astype(int)
    nearest = np.rint(wanted * np.float32(255)).astype(int)
    np.testing.assert_array_equal(levels, np.clip(nearest, centre - most, centre + most))


def test_whole_levels_are_whole_and_what_is_less_is_one_less():
    levels = torch.arange(256, dtype=torch.float64)
    assert torch.equal(budget.in_levels(levels / 255), levels / 255)
    assert torch.equal(budget.in_levels(levels[1:] / 255 - 1e-6), levels[:-1] / 255)


@pytest.fixture(scope="module")
def setting(catalog):
    ids = catalog.ids_of("test")
    block = Block(
        tuple_ids=np.arange(4, 6, dtype=np.int32),
        target_ids=ids[:2],
        attack_ids=ids[6:8],
        pixels=catalog.pixels(ids[6:8]),
        epsilons=(0.3 / 255, 1 / 255, 0.03),
        batch=5,
        examples=100,
        label="named",
        seed=7,
        deliveries=("png",),
        through=("png",),
    )
    return recommender(catalog, frozen(random_network(seed=1)).embed), block


def attacked(setting, name, **changes):
    block = dataclasses.replace(setting[1], **changes)
    method = registry.build(name, nested=block.nested)
    return evaluate_block(setting[0], method, block)


MADE = [
    ("pgd-4", {}),
    ("auto", {"stop": "rank-1", "nested": True}),
    ("apgd-4", {"stop": "rank-1", "nested": True}),
    ("square-6", {}),
    ("minimal-4", {"minimal_rank": 1}),
]


@pytest.mark.parametrize(("name", "changes"), MADE)
def test_the_image_made_for_png_is_whole_levels_within_the_budget(setting, catalog, name, changes):
    outcomes = attacked(setting, name, **changes)
    rows = outcomes.rows.to_pandas().set_index(["tuple_id", "epsilon"])
    moved = 0
    for example in outcomes.examples.to_pylist():
        if example["delivery"] != "png":
            continue
        row = rows.loc[(example["tuple_id"], example["epsilon"])]
        image = np.frombuffer(example["pixels"], "<f4").reshape(32, 32, 3)
        clean = catalog.pixels([row["attack_id"]])[0].astype(int)
        levels = np.rint(image * 255).astype(int)
        np.testing.assert_allclose(image * 255, levels, atol=1e-3)
        most = int(np.abs(levels - clean).max())
        assert most <= math.floor(255 * example["epsilon"] + 1e-9)
        assert row["linf_png"] == pytest.approx(most / 255, abs=1e-6)
        assert row["linf_png"] <= np.float32(example["epsilon"])
        stored = to_images(levels[None].astype(np.uint8))
        target = np.array([row["target_id"]], np.int32)
        own = setting[0].index.pair_costs(target, setting[0].embeddings(stored))
        assert own[0] == pytest.approx(row["adversarial_distance_png"], abs=1e-5)
        moved += most > 0
    assert moved


@pytest.mark.parametrize(("name", "changes"), MADE)
def test_below_one_level_nothing_is_attacked_and_the_row_is_the_clean_images(
    setting, name, changes
):
    small = {"epsilons": (0.5 / 255,)}
    rows = attacked(setting, name, **changes, **small).rows
    alone = attacked(setting, name, **changes, **small, deliveries=(), through=()).rows
    for spent in ("gradient_steps", "forward_passes"):
        assert rows[spent].equals(alone[spent]), "nothing is spent for png"
    assert alone["forward_passes"].to_numpy().min() > 0
    same = [key for key in alone.column_names if key != "seconds"]
    assert rows.select(same).equals(alone.select(same))
    assert set(rows["linf_png"].to_pylist()) == {0.0}
    np.testing.assert_allclose(rows["adversarial_distance_png"], rows["clean_distance"], atol=1e-6)
    assert rows["adversarial_rank_png"].equals(rows["clean_rank"])


@pytest.mark.parametrize("name", ["apgd-8", "auto"])
def test_below_one_level_a_blind_attack_stops_as_without_deliveries(setting, name):
    """Nothing arrives changed, so nothing that arrives can be solved."""
    nested = {"stop": "rank-1", "nested": True, "epsilons": (0.5 / 255, 0.9 / 255)}
    targets = setting[1].target_ids
    near = setting[0].index.top_k(targets, 2).ids[:, 1]
    blind = attacked(setting, name, **nested, attack_ids=near, through=()).rows
    alone = attacked(setting, name, **nested, attack_ids=near, through=(), deliveries=()).rows
    assert 1 in alone["adversarial_rank"].to_pylist(), "some stop"
    same = [key for key in alone.column_names if key != "seconds"]
    assert blind.select(same).equals(alone.select(same))


@pytest.mark.parametrize("name", ["fgsm", "noise"])
def test_what_a_blind_attack_made_is_rounded_within_the_budget_too(setting, catalog, name):
    outcomes = attacked(setting, name, through=())
    rows = outcomes.rows.to_pandas()
    for row, example in zip(rows.to_dict("records"), outcomes.examples.to_pylist(), strict=True):
        clean = catalog.pixels([row["attack_id"]])[0].astype(int)
        image = np.frombuffer(example["pixels"], "<f4").reshape(32, 32, 3)
        most = math.floor(255 * row["epsilon"] + 1e-9)
        levels = np.clip(np.rint(image * np.float32(255)), clean - most, clean + most)
        stored = to_images(levels[None].astype(np.uint8))
        target = np.array([row["target_id"]], np.int32)
        own = setting[0].index.pair_costs(target, setting[0].embeddings(stored))
        assert own[0] == pytest.approx(row["adversarial_distance_png"], abs=1e-5)
    # at 0.03 the nearest level would leave the budget
    assert math.floor(255 * 0.03) < round(255 * 0.03)


def test_the_image_for_float_is_as_it_was(setting):
    for name, changes in (MADE[0], ("minimal-4", {"minimal_rank": 1})):
        ways = [attacked(setting, name, **changes, levels=levels) for levels in (True, False)]
        new, old = (outcomes.rows for outcomes in ways)
        same = [
            key
            for key in new.column_names
            if "png" not in key and key not in ("seconds", "gradient_steps", "forward_passes")
        ]
        assert new.select(same).equals(old.select(same))
        without = {"deliveries": (), "through": ()}
        new, old = (
            attacked(setting, name, **changes, **without, levels=levels).rows.drop("seconds")
            for levels in (True, False)
        )
        assert new.equals(old)


def test_images_off_the_grid_change_by_whole_levels_of_what_is_stored():
    pixels = np.random.default_rng(0).random((12, 6, 5, 3), dtype=np.float32)
    weights = torch.randn(90, 8, generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    recommender = api.Recommender.of(lambda images: images.flatten(1) @ weights, images)
    made = api.attack(
        *(recommender,), target=1, article=[2, 3], attack="apgd-6", epsilon="2/255", delivery="png"
    ).made_for["png"]
    change = ((eight_bits(made) - eight_bits(images[[2, 3]])) * 255).round().abs()
    assert change.max() == 2


# Runs


@pytest.fixture
def begun(ready, tmp_path, monkeypatch):
    """A directory with a run of png as protocol 5 made it, its study, and the rows of a block that
    is lost.
    """
    shutil.copytree(ready.directory, tmp_path / "results" / "s")
    few = {"attacks": ["pgd-2"], "delivery": ["png"], "epsilons": [0.03], "tuples": 6}
    write_study(tmp_path / "s.yaml", ready, evaluation=few)
    with monkeypatch.context() as earlier:
        earlier.setattr("advrec.run.identity.CHAINS", 5)
        assert advrec("evaluate", "s.yaml", cwd=tmp_path).returncode == 0
    return tmp_path


def rows_of(directory, attack):
    files = sorted(directory.glob(f"results/s/attacks/*/attack={attack}/*.parquet"))
    return pd.concat([pd.read_parquet(path) for path in files]).drop(columns="seconds")


def test_a_cell_that_an_earlier_version_began_goes_on_in_its_way(begun):
    before = rows_of(begun, "pgd-2")
    (lost,) = begun.glob("results/s/attacks/*/attack=pgd-2/block-000001.parquet")
    lost.unlink()
    text = (begun / "s.yaml").read_text()
    twice = "- {attack: pgd-2, name: again}\n  - {attack: apgd-2, name: seeing}"
    (begun / "s.yaml").write_text(text.replace("- pgd-2", f"- pgd-2\n  {twice}"))
    done = advrec("evaluate", "s.yaml", cwd=begun)
    assert done.returncode == 0, done.stderr
    assert rows_of(begun, "pgd-2").equals(before)
    new = rows_of(begun, "again")
    assert "clean_rank_png" in new.columns
    assert "clean_rank_png" not in before.columns
    assert new["adversarial_distance"].equals(before["adversarial_distance"])
    assert not new["adversarial_distance_png"].equals(before["adversarial_distance_png"])
    run = Run(begun / "results" / "s")
    protocols = {part: each.get("protocol") for part, each in run.identities().items()}
    assert protocols["attacks/unsecured/pgd-2"] == 5
    assert protocols["attacks/unsecured/again"] == protocols["attacks/unsecured/seeing"] == 7
    assert "by up to 1/510" in delivered_notes(results.read(run))[0]


def test_one_tuple_looked_at_is_made_as_the_runs_rows_were(begun):
    run = Run(begun / "results" / "s")
    row = rows_of(begun, "pgd-2").iloc[0]
    ids = int(row["target_id"]), int(row["attack_id"])
    study = identity.recorded_study(run)
    what = (run, study, Catalog(run), "unsecured", "pgd-2", 0.03, *ids)
    (made,) = outcomes_of(*what).rows.to_pylist()
    assert made["adversarial_distance_png"] == pytest.approx(row["adversarial_distance_png"])
    run.claim("attacks/unsecured/pgd-2", {"protocol": 6, "delivery": ["png"]}, made=False)
    (new,) = outcomes_of(*what).rows.to_pylist()
    assert new["adversarial_distance"] == made["adversarial_distance"]
    assert new["adversarial_distance_png"] != made["adversarial_distance_png"]


def test_a_new_run_says_once_which_budgets_change_nothing(ready, tmp_path):
    small = {"epsilons": ["0.5/255", "1/255"], "tuples": 2, "attacks": ["apgd-2", "apgd-1"]}
    shutil.copytree(ready.directory, tmp_path / "results" / "s")
    write_study(tmp_path / "s.yaml", ready, evaluation=small | {"delivery": ["png", "jpeg-90"]})
    done = advrec("evaluate", "s.yaml", cwd=tmp_path)
    said = "epsilon 0.5/255 is below one of the 255 levels of an image of 8 bits, so nothing "
    assert f"{said}changes there after png, jpeg-90 and nothing is attacked" in done.stdout
    assert done.stdout.count("255 levels") == 1
    run = Run(tmp_path / "results" / "s")
    assert len(blocks(run.directory)) == 2
    notes = delivered_notes(results.read(run))
    assert "rounded within the budget" in notes[0]
    assert notes[1].startswith("ε = 0.5/255 is below one of 255 levels")
    shutil.rmtree(run.attacks)
    write_study(tmp_path / "s.yaml", ready, evaluation=small | {"delivery": ["float"]})
    done = advrec("evaluate", "s.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "255 levels" not in done.stdout
