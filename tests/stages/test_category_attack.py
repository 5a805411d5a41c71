"""A study with a category attack: what an evaluation writes, goes on with, says, and refuses."""

import shutil

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest
import yaml
from safetensors.numpy import load_file

from advrec.catalog.dataset import Catalog
from advrec.reports import results, terminal
from advrec.reports.page import categories as page
from advrec.reports.tables import category_attacks
from advrec.run import cells
from advrec.run.directory import Run
from advrec.run.interactions import SEEN
from advrec.run.tables import read_embeddings, read_table
from advrec.spec import study
from advrec.stages import category_attack
from tests.commands import advrec
from tests.runs import write_study

MODELS = {
    "unsecured": {"defense": "none", "epochs": 1},
    "vbpr": {"recommender": "vbpr", "encoder": "unsecured", "factors": 4, "epochs": 3},
    "bpr": {"recommender": "bpr", "encoder": "unsecured", "factors": 4, "epochs": 2},
}


def buy(directory, names):
    random = np.random.default_rng(0)
    lines = [
        f"user {user},{names[article]}"
        for user in range(40)
        for article in random.permutation(len(names) - 30)[:6]
    ]
    (directory / "bought.csv").write_text("\n".join(["user,article", *lines]) + "\n")


def write(directory, ready, models=MODELS, **evaluation):
    usual = {
        "audience": "neighbours",
        "tuples": 2,
        "attacks": ["fgsm"],
        "epsilons": [0.0, 0.05],
        "ranks": [1, 10],
        "block": 8,
        "category_attack": {"attack": "fgsm"},
    }
    path = directory / "swap.yaml"
    write_study(path, ready, evaluation=usual | evaluation, interactions={"file": "bought.csv"})
    content = yaml.safe_load(path.read_text()) | {"models": models}
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def rows(run):
    table = ds.dataset(run.category_attacks, partitioning="hive").to_table().to_pandas()
    table = table.astype({"model": str, "attack": str}).drop(columns="seconds")
    return table.sort_values(["model", "attack", "epsilon"], ignore_index=True)


@pytest.fixture(scope="module")
def swapped(ready, tmp_path_factory):
    """A directory with the study swap.yaml, whose stages have all run. Read only."""
    directory = tmp_path_factory.mktemp("swap")
    shutil.copytree(ready.directory, directory / "run")
    buy(directory, Catalog(ready).names)
    write(directory, ready)
    for stage in ("prepare", "train", "evaluate"):
        ended = advrec(stage, "swap.yaml", "--out", "run", cwd=directory)
        assert ended.returncode == 0, ended.stderr
    return directory, ended


def test_rows_are_what_numpy_alone_recomputes(swapped):
    directory, ended = swapped
    run = Run(directory / "run")
    catalog, found = Catalog(run), rows(run)
    assert len(found) == 2 * 3 * 2
    first = found.iloc[0]
    assert set(found.origin) == {first.origin}
    assert set(found.target) == {first.target}
    assert f"category attack from {first.origin} to {first.target}" in ended.stdout
    names = np.array(catalog.category_names)
    assert first.articles == (names == first.origin).sum()
    bank = {name: each.astype(np.float64) for name, each in load_file(run.bank("vbpr")).items()}
    f = read_embeddings(run, "unsecured", bank["visual_bias"].shape[0]).astype(np.float64)
    f -= f.mean(axis=0)
    scores = bank["item_bias"] + bank["user_factors"] @ bank["item_factors"].T
    scores += bank["user_visual"] @ (bank["projection"] @ f.T) + bank["visual_bias"] @ f.T
    seen = read_table(run.seen("vbpr"), SEEN)
    scores[seen["query_id"], seen["article_id"]] = -np.inf
    lists = np.argsort(-scores, axis=1)[:, :10]
    places = {name: (names[lists] == name).mean() for name in catalog.categories}
    vbpr = found[found.model == "vbpr"]
    assert vbpr.chr_before_10.to_numpy() == pytest.approx(places[first.origin])
    assert places[first.origin] == min(places.values())
    assert places[first.target] == max(places.values())


def test_01_no_budget_and_no_look_at_pixels_change_nothing(swapped):
    found = rows(Run(swapped[0] / "run"))
    same = found[(found.epsilon == 0.0) | (found.model == "bpr")]
    for name in ("chr", "ndcg"):
        for rank in (1, 10):
            assert (same[f"{name}_before_{rank}"] == same[f"{name}_after_{rank}"]).all()
    assert (found.linf_max <= found.epsilon + 1e-7).all()
    assert (found.linf_mean <= found.linf_max + 1e-12).all()


def test_terminal_and_table_say_it(swapped):
    directory, _ = swapped
    run = Run(directory / "run")
    table = category_attacks.category_attacks(results.read(run))
    assert len(table) == 2 * 3 * 2 * 2
    assert list(table.model.unique()) == ["vbpr", "bpr"]
    said = terminal.comparison_text(results.read(run))
    largest = table[(table.epsilon == 0.05) & (table["rank"] == 10) & (table.towards == "hit")]
    assert f"all images of {table.origin[0]} ({table.articles[0]}) attacked to resemble" in said
    vbpr = largest.iloc[0]
    bounds = f"({100 * vbpr.chr_before_low:.1f} to {100 * vbpr.chr_before_high:.1f})"
    assert f"vbpr, towards hit: {100 * vbpr.chr_before:.1f} % {bounds} before, " in said
    status = advrec("status", "run", cwd=directory).stdout
    assert "vbpr centroid on a whole category: 1 of 1 blocks done" in status


def test_the_page_has_every_way_and_budget_and_leads_with_the_largest_gain(swapped):
    read = results.read(Run(swapped[0] / "run"))
    table = category_attacks.category_attacks(read)
    section = page.section(read)
    assert len(section.table.rows) == 2 * 3 * 2
    assert {len(row) for row in section.table.rows} == {len(section.table.columns)}
    best = category_attacks.headline(read).sort_values("chr_change").iloc[-1]
    shown = f"{100 * best.chr_after:.1f}\u00a0% ({100 * best.chr_after_low:.1f} to"
    assert shown in section.said
    assert f"by <b>{best.model}</b>" in section.said
    (row,) = [
        row
        for row in section.table.rows
        if [cell.text for cell in row[:3]] == ["vbpr", "hit", "10"]
    ]
    of = table[(table.model == "vbpr") & (table.towards == "hit") & (table["rank"] == 10)]
    for cell, (_, known) in zip(row[4:6], of.iterrows(), strict=True):
        assert cell.text == f"{100 * known.chr_after:.1f} %"
        assert cell.below == f"{100 * known.chr_after_low:.1f} to {100 * known.chr_after_high:.1f}"


def test_a_missing_part_is_made_again_and_equal(swapped, tmp_path):
    directory, _ = swapped
    before = rows(Run(directory / "run"))
    run = Run(shutil.copytree(directory / "run", tmp_path / "run"))
    run.block("vbpr", "hit", 0, "category_attacks").unlink()
    dry = advrec("evaluate", "swap.yaml", "--out", run.directory, "--dry-run", cwd=directory)
    assert "vbpr hit on a whole category: 0 of 1 blocks done" in dry.stdout
    assert "articles of a category at 2 budgets" in dry.stdout
    ended = advrec("evaluate", "swap.yaml", "--out", run.directory, cwd=directory)
    assert ended.returncode == 0, ended.stderr
    assert "% of the users' first 10 places, epsilon 0.05" in ended.stderr
    pd.testing.assert_frame_equal(rows(run), before)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"target": "category 99"}, "target is category 99, which is no category of the catalog"),
        ({"origin": "a", "target": "a"}, "origin and target are both a"),
        ({"attack": "minimal-10"}, "attack is minimal-10"),
        ({"attack": "pgd"}, "category_attack.attack: 'pgd' is not an attack"),
        ({"towards": ["class", "class"]}, "towards lists class twice"),
        ({"towards": ["klass"]}, "klass"),
        ({"orgin": "a"}, "origin"),
        ({"attack": "pgd-3"}, "made with attack ="),
    ],
)
def test_a_wrong_entry_gets_one_sentence(ready, swapped, tmp_path, keys, said):
    shutil.copy(swapped[0] / "bought.csv", tmp_path)
    write(tmp_path, ready, category_attack=keys)
    ended = advrec("evaluate", "swap.yaml", "--out", swapped[0] / "run", cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_study_without_users_has_no_category_attack(ready, tmp_path):
    write_study(tmp_path / "lone.yaml", ready, evaluation={"category_attack": {}})
    ended = advrec("evaluate", "lone.yaml", "--dry-run", cwd=tmp_path)
    assert ended.returncode == 2
    assert "no model recommends to any" in ended.stderr


def test_an_encoder_without_a_category_head_is_left_out_and_said(ready, tmp_path):
    joined = {"join": ["unsecured", "unsecured"]}
    models = MODELS | {"both": joined, "vbpr": MODELS["vbpr"] | {"encoder": "both"}}
    models = {name: models[name] for name in ("unsecured", "both", "vbpr", "bpr")}
    write(tmp_path, ready, models)
    made = study.load(tmp_path / "swap.yaml")
    assert category_attack.left_out(made) == ["vbpr class: left out, for both has no category head"]
    known = [(cell.model, cell.attack.name) for cell in cells.cells(made)]
    assert ("vbpr", "class") not in known
    assert {("vbpr", "hit"), ("bpr", "class")} <= {*known}
