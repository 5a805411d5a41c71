"""A study with audiences: what an evaluation writes, goes on with, and refuses."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.numpy import load_file

from advrec.catalog.dataset import Catalog
from advrec.evaluation import probes
from advrec.reports import junit, results
from advrec.reports.page import appendix
from advrec.run.directory import Run
from advrec.run.tables import read_embeddings
from tests.commands import advrec, kill_when
from tests.runs import write_study

ATTACKS = [
    {"name": "hit", "attack": "apgd-4"},
    {"name": "score", "attack": "apgd-4", "loss": "score"},
]


def best_sellers(ready, directory, *, weights=True):
    """A CSV of three targets."""
    catalog = Catalog(ready)
    ids = catalog.ids_of("test")[:3]
    head, *lines = (
        "target_name,weight" if weights else "target_name",
        *(
            f"{catalog.names[each]},{place + 1}" if weights else catalog.names[each]
            for place, each in enumerate(ids)
        ),
    )
    (directory / "best.csv").write_text("\n".join([head, *lines]) + "\n")
    return ids


def study(ready, directory, **evaluation):
    usual = {
        "audience": {"targets": "best.csv"},
        "promoted": 5,
        "block": 2,
        "attacks": ATTACKS,
        "epsilons": [0.0, 0.02],
        "ranks": [1, 3, 10],
        "ranks_of": 3,
    }
    return write_study(directory / "best.yaml", ready, evaluation=usual | evaluation)


def rows(run, part="promotions"):
    table = ds.dataset(run / part, partitioning="hive").to_table().to_pandas()
    keys = ["model", "attack", "article_id", "tuple_id", "epsilon", "query_id"]
    keys = [key for key in keys if key in table]
    return table.drop(columns="seconds", errors="ignore").sort_values(keys, ignore_index=True)


@pytest.fixture(scope="module")
def done(ready, tmp_path_factory):
    directory = tmp_path_factory.mktemp("promotions")
    targets = best_sellers(ready, directory)
    shutil.copytree(ready.directory, directory / "run")
    study(ready, directory)
    ended = advrec("evaluate", "best.yaml", "--out", "run", cwd=directory)
    assert ended.returncode == 0, ended.stderr
    return directory, targets


def test_rows_are_what_numpy_alone_recomputes(done):
    directory, targets = done
    run = Run(directory / "run")
    promoted = pq.read_table(run.promoted)["article_id"].to_numpy()
    assert len(promoted) == 5
    assert not set(promoted) & set(targets)
    found, ranks = rows(run.directory), rows(run.directory, "promotion_ranks")
    assert len(found) == 2 * 5 * 2
    assert set(ranks.article_id) == set(promoted[:3])
    vectors = read_embeddings(run, "unsecured", 1280).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = vectors @ vectors.T
    for row in ranks.itertuples():
        others = np.delete(similarity[row.query_id], [row.query_id, row.article_id])
        own = similarity[row.query_id, row.article_id]
        assert row.rank_before == 1 + (others > own + 1e-12).sum()
    weights = dict(zip(targets, (1.0, 2.0, 3.0), strict=True))
    for (attack, article, epsilon), some in ranks.groupby(["attack", "article_id", "epsilon"]):
        mask = (found.attack == attack) & (found.article_id == article)
        row = found[mask & (found.epsilon == epsilon)].iloc[0]
        share = sum(
            weights[q] for q, r in zip(some.query_id, some.rank_after, strict=True) if r <= 10
        )
        assert row.hr_after_10 == pytest.approx(share / 6.0)
    assert (found[found.epsilon == 0].hr_after_10 == found[found.epsilon == 0].hr_before_10).all()
    assert (found.audience == "targets").all()
    assert not (run.directory / "attacks").exists()


def test_a_missing_block_is_made_again_and_equal(done):
    directory, _ = done
    before = rows(directory / "run")
    copy = shutil.copytree(directory / "run", directory / "again")
    run = Run(copy)
    run.block("unsecured", "hit", 1, "promotions").unlink()
    run.block("unsecured", "hit", 1, "promotion_ranks").unlink()
    status = advrec("status", copy, cwd=directory).stdout
    assert "unsecured hit before targets: 2 of 3 blocks done" in status
    assert advrec("evaluate", "best.yaml", "--out", copy, cwd=directory).returncode == 0
    pd.testing.assert_frame_equal(rows(copy), before)
    assert "before targets: 3 of 3 blocks done" in advrec("status", copy, cwd=directory).stdout


def test_the_resolved_study_needs_no_csv_any_more(done, tmp_path):
    directory, targets = done
    resolved = yaml.safe_load((directory / "run" / "study.yaml").read_text())
    (audience,) = resolved["evaluation"]["audience"]
    assert list(audience["targets"].values()) == [1.0, 2.0, 3.0]
    names = Catalog(Run(directory / "run")).names
    assert list(audience["targets"]) == [names[each] for each in targets]


def test_an_evaluation_examines_itself_before_targets(ready, done, tmp_path, monkeypatch):
    short = probes.Names("apgd-2", "apgd-3", "apgd-2-restarted", "square-3", "mifgsm-2")
    monkeypatch.setattr(probes, "AUDIENCE", short)
    run = Run(shutil.copytree(done[0] / "run", tmp_path / "run"))
    best_sellers(ready, tmp_path)
    study(ready, tmp_path, checks=3)
    before = rows(run.directory), rows(run.directory, "promotion_ranks")
    command = ("evaluate", "best.yaml", "--out", "run")
    dry = advrec(*command, "--dry-run", cwd=tmp_path).stdout
    assert "evaluate  checks: 14 blocks to do" in dry
    assert "unsecured checks: up to about" in dry
    fresh = ("evaluate", "best.yaml", "--out", ready.directory, "--dry-run")
    whole = advrec(*fresh, "--set", "evaluation.block=32", cwd=tmp_path).stdout
    assert "unsecured hit: 1 blocks of 5 articles before targets at 2 budgets, about" in whole
    ended = advrec(*command, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    found = rows(run.directory, "promotion_checks")
    promoted = pq.read_table(run.promoted)["article_id"].to_numpy()
    assert set(found.article_id) == set(promoted[:3])
    assert set(found.groupby("attack").size()) == {3}
    assert set(found.attack) == {*short, "fgsm", "noise"}
    pd.testing.assert_frame_equal(rows(run.directory), before[0])
    pd.testing.assert_frame_equal(rows(run.directory, "promotion_ranks"), before[1])
    assert "evaluate: done before" in advrec(*command, cwd=tmp_path).stdout
    assert "checks: done" in advrec("status", "run", cwd=tmp_path).stdout
    read = results.read(run)
    names = {check.name: check.verdict for _, check in read.checks}
    assert names["no budget, no change, before targets"] == "passed"
    assert names["budget and box are kept, before targets"] == "passed"
    assert names["exposure rises with the budget, before targets"] == "not measured"  # one budget
    assert "success rises with the budget" not in names  # no tuples
    assert read.missing_check_blocks == 0
    junit.write(read, tmp_path / "junit.xml")
    assert "no budget, no change, before targets" in (tmp_path / "junit.xml").read_text()
    table = appendix.checks_table(read)
    assert len(table.rows) == len(names)
    run.block("unsecured", "noise", 0, "promotion_checks").unlink()
    assert results.read(run).missing_check_blocks == 1


def test_a_gate_before_targets_ends_with_4(ready, done):
    directory, _ = done
    gate = {"model": "unsecured", "attack": "hit", "epsilon": 0.02, "rank": 10, "above": 0}
    found = rows(directory / "run")
    found = found[(found.attack == "hit") & (found.epsilon == 0.02)]
    percent = 100 * found.hr_after_10.mean()
    assert percent > 0
    lowest = 100 * found.hr_after_10.min()
    gates = f"fail_if={json.dumps([gate, gate | {'above': 99, 'audience': 'targets'}])}"
    ended = advrec("evaluate", "best.yaml", "--out", "run", "--set", gates, cwd=directory)
    said = f"hit on unsecured before targets at epsilon 0.02, rank 10: HR@10 {percent:.1f} % (95 %"
    assert f"gate passed: {said}" in ended.stdout
    assert "bootstrap interval over articles" in ended.stdout
    assert "n = 5 articles); its lower bound is not above 99 %" in ended.stdout
    assert ended.returncode == (4 if lowest > 0 or "gate failed" in ended.stderr else 0)
    again = advrec("evaluate", "best.yaml", "--out", "run", cwd=directory)
    assert again.returncode == 0, again.stderr


def test_a_run_goes_on_with_ranks_of_fewer_articles_and_keeps_what_it_has(ready, done, tmp_path):
    directory, _ = done
    copy = shutil.copytree(directory / "run", tmp_path / "run")
    best_sellers(ready, tmp_path)
    study(ready, tmp_path, ranks_of=1)
    for command in ("evaluate", "report"):
        ended = advrec(command, "best.yaml", "--out", "run", cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
    pd.testing.assert_frame_equal(
        rows(copy, "promotion_ranks"), rows(directory / "run", "promotion_ranks")
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"promoted": 4}, "promoted"),
        ({"ranks": [1, 10]}, "ranks"),
        ({"ranks_of": 4}, "ranks_of = 3, the study says 4; name another --out: ranks are kept as"),
        ({"audience": {"targets": "other.csv"}}, "targets"),
    ],
)
def test_what_would_make_other_rows_is_refused(ready, done, changes, said):
    directory, _ = done
    best = (directory / "best.csv").read_text().splitlines()
    (directory / "other.csv").write_text("\n".join(best[:-1]))
    study(ready, directory, **changes).rename(directory / "changed.yaml")
    ended = advrec("evaluate", "changed.yaml", "--out", "run", cwd=directory)
    study(ready, directory)
    assert ended.returncode == 2
    assert said in ended.stderr


@pytest.mark.parametrize(
    ("evaluation", "csv", "said"),
    [
        ({"promoted": 100}, None, "evaluation.promoted is 100, but the split test has"),
        ({}, "target_name\nnot/there.png\n", "not/there.png is no article of the catalog"),
        ({}, "name\na\n", "has no column target_name"),
        ({}, "target_name,weight\na,-1\n", "line 2: weight is -1"),
        ({}, "target_name\na\na\n", "a stands there twice"),
        ({}, "target_name\n", "names no article"),
        ({}, "target_name,weight\na,1e308\nb,1e308\n", "best.csv: the weights are too large"),
        ({}, "target_name,weight,weight\na,1,2\n", "best.csv: has the column weight twice"),
        ({"audience": {"targets": "gone.csv"}}, None, "gone.csv does not exist"),
        ({"audience": "users"}, None, "no model recommends to any"),
        ({"audience": "user"}, None, "users, {targets: FILE.csv}); did you mean users?"),
        ({"audience": "neighbours"}, None, "belong to the audiences targets and users"),
        ({"attacks": ["minimal-10"]}, None, "needs the share of targets"),
    ],
)
def test_a_wrong_audience_gets_one_sentence(ready, tmp_path, evaluation, csv, said):
    best_sellers(ready, tmp_path, weights=False)
    if csv is not None:
        (tmp_path / "best.csv").write_text(csv)
    shutil.copytree(ready.directory, tmp_path / "run")
    study(ready, tmp_path, **evaluation)
    ended = advrec("evaluate", "best.yaml", "--out", "run", cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


USERS = {"interactions": {"source": "synthetic", "users": 30, "purchases": 5}}
HYBRIDS = {
    "unsecured": {"defense": "none", "epochs": 1},
    "vbpr": {"recommender": "vbpr", "encoder": "unsecured", "factors": 4, "epochs": 3},
    "wide": {"join": ["unsecured", "unsecured"]},
}


def before_users(ready, directory, **evaluation):
    usual = {
        "audience": ["neighbours", "users"],
        "promoted": 6,
        "block": 1,
        "attacks": ATTACKS,
        "epsilons": [0.0, 0.03],
        "ranks": [1, 10],
        "ranks_of": 2,
        "category_attack": {"attack": "fgsm"},
    }
    path = directory / "users.yaml"
    return write_study(path, ready, evaluation=usual | evaluation, models=HYBRIDS, **USERS)


@pytest.fixture(scope="module")
def hybrid(ready, tmp_path_factory):
    """A finished study before users, in this process."""
    directory = tmp_path_factory.mktemp("users")
    shutil.copytree(ready.directory, directory / "run")
    before_users(ready, directory)
    for stage in ("prepare", "train", "evaluate"):
        ended = advrec(stage, "users.yaml", "--out", "run", cwd=directory)
        assert ended.returncode == 0, ended.stderr
    return directory


def test_ranks_before_users_are_what_numpy_alone_recomputes(hybrid):
    run = Run(hybrid / "run")
    bank = {name: array.astype(np.float64) for name, array in load_file(run.bank("vbpr")).items()}
    embeddings = read_embeddings(run, "unsecured", 1280).astype(np.float64)
    scores = (
        bank["item_bias"]
        + bank["user_factors"] @ bank["item_factors"].T
        + bank["user_visual"] @ (bank["projection"] @ embeddings.T)
        + bank["visual_bias"] @ embeddings.T
    )
    competing = scores.copy()
    seen = pq.read_table(run.seen("vbpr")).to_pandas()
    competing[seen.query_id, seen.article_id] = -np.inf
    ranks = rows(run.directory, "promotion_ranks")
    assert len(ranks) == 2 * 2 * 2 * 30
    for row in ranks.itertuples():
        others = np.delete(competing[row.query_id], row.article_id)
        assert row.rank_before == 1 + (others > scores[row.query_id, row.article_id]).sum()
    found = rows(run.directory)
    bought = seen.groupby("article_id").size()
    sizes = 30 - found.article_id.map(bought).fillna(0)
    assert (found.audience_size == sizes).all()
    promoted = pq.read_table(run.promoted).to_pandas()
    assert promoted.cold.is_monotonic_decreasing
    assert not promoted[promoted.cold].article_id.isin(bought.index).any()


def test_a_study_before_users_alone_has_a_report_with_deliveries(ready, hybrid, tmp_path):
    run = shutil.copytree(hybrid / "run", tmp_path / "run")
    for part in ("promotions", "promotion_ranks", "category_attacks", "attacks", "checks"):
        shutil.rmtree(run / part, ignore_errors=True)
    alone = {"audience": ["users"], "delivery": ["float", "png"], "attacks": ["fgsm"]}
    before_users(ready, tmp_path, **alone, promoted=2, epsilons=[0.03], checks=0)
    for stage in ("evaluate", "report"):
        ended = advrec(stage, "users.yaml", "--out", run, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
    assert (run / "report" / "tables" / "delivered.csv").read_text().count("\n") == 1


def test_too_many_promoted_articles_are_refused_before_any_training(ready, hybrid, tmp_path):
    run = shutil.copytree(hybrid / "run", tmp_path / "run")
    for part in ("promotions", "promotion_ranks", "models/vbpr"):
        shutil.rmtree(run / part)
    before_users(ready, tmp_path, promoted=500)
    ended = advrec("train", "users.yaml", "--out", run, cwd=tmp_path)
    assert ended.returncode == 2
    assert "evaluation.promoted is 500, but the split test has" in ended.stderr
    assert not (run / "models" / "vbpr").exists()


PARTS = ("promotions", "promotion_ranks", "category_attacks", "attacks")


@pytest.mark.ray
def test_a_promotion_killed_with_9_goes_on_and_any_actors_give_the_same_rows(
    ready, hybrid, tmp_path
):
    """Two actors are killed, one goes on, and the rows are those of no actor at all: of a hybrid,
    before users and of a whole category; of a joined model, on tuples.
    """
    run = shutil.copytree(hybrid / "run", tmp_path / "run")
    for part in PARTS:
        shutil.rmtree(run / part)
    before_users(ready, tmp_path)
    evaluate = ("evaluate", "users.yaml", "--out", run, "--set")
    blocks = Run(run).promotions
    kill_when(
        lambda: len([*blocks.rglob("block-*.parquet")]) >= 3,
        *evaluate,
        "resources.actors=2",
        cwd=tmp_path,
    )
    made = {path: path.read_bytes() for path in blocks.rglob("block-*.parquet")}
    assert 3 <= len(made) < 12, "the kill came too late to show anything"
    assert advrec(*evaluate, "resources.actors=1", cwd=tmp_path).returncode == 0
    assert all(path.read_bytes() == content for path, content in made.items())
    for part in PARTS:
        pd.testing.assert_frame_equal(rows(run, part), rows(hybrid / "run", part))
