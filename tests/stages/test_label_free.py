"""A shop's own encoder is defended without labels, evaluated and reported, as a user does it."""

import itertools
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from advrec.catalog.dataset import Catalog
from advrec.distributed import evaluate, train
from advrec.model import checkpoint
from advrec.model.own import OwnNetwork
from advrec.reports.tables.rows import DASH
from advrec.run.directory import Run
from advrec.run.tables import read_embeddings
from advrec.spec import study as study_file
from tests.commands import advrec

SHOP = {"model": "shop.encoders:normed"}
FARE = {"defense": "fare", "init": "shop", "epsilon": 0.03, "steps": 1, "epochs": 2}


@pytest.fixture(scope="module")
def defended(tmp_path_factory, prepared):
    """A directory with study.yaml, whose run in results/study is done: an own encoder, and the
    same defended by fare and by lore.
    """
    directory = tmp_path_factory.mktemp("defended")
    shutil.copytree(Path(__file__).parents[1] / "shop", directory / "shop")
    study = {
        "name": "study",
        "catalog": {
            "source": "deepfashion",
            "root": str(prepared.directory / "synthetic"),
            "image_size": 32,
        },
        "models": {
            "shop": SHOP,
            "fared": FARE,
            "held": FARE | {"defense": "lore", "init": "fared", "rho": 0.1},
        },
        "evaluation": {
            **{"tuples": 4, "epsilons": [0.02], "attacks": ["fgsm"]},
            **{"checks": 0, "examples": 1},
        },
        "resources": {"actors": 0},
    }
    (directory / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    run = Run(directory / "results" / "study")
    with run.lock():
        shutil.copytree(prepared.directory, run.directory, dirs_exist_ok=True)
    done = advrec("train", "study.yaml", cwd=directory)
    assert done.returncode == 0, done.stderr
    evaluated = advrec("evaluate", "study.yaml", cwd=directory)
    assert evaluated.returncode == 0, evaluated.stderr
    return directory, run, done


@pytest.fixture
def importable(defended, monkeypatch):
    """The shop's module can be imported by the test itself."""
    monkeypatch.syspath_prepend(defended[0])
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]


@pytest.mark.usefixtures("importable")
def test_an_encoder_of_the_shops_own_is_defended_and_evaluated_as_any_model_is(defended):
    _, run, done = defended
    assert "clean embeddings of test images moved by" in done.stdout + done.stderr
    for model in ("fared", "held"):
        network = checkpoint.load(run.weights(model))
        assert isinstance(network, OwnNetwork)
        assert network.architecture == checkpoint.load(run.weights("shop")).architecture
        metrics = json.loads((run.model(model) / "metrics.json").read_text())
        assert 0 < metrics["drift_median"] <= metrics["drift_95"]
        assert not any("accuracy" in name for name in metrics)
        assert list(run.block(model, "fgsm", 0).parent.glob("block-*"))
        history = pd.read_parquet(run.history(model))
        assert len(history) == 2
        assert not any("accuracy" in name for name in history)
        assert history["validation_drift"].notna().all()


def test_what_is_done_is_left_alone_and_reported_without_the_shops_module(defended):
    directory, run, _ = defended
    again = advrec("train", "study.yaml", cwd=directory)
    assert again.returncode == 0
    assert "train fared: done before" in again.stdout + again.stderr
    shutil.move(directory / "shop", directory / "gone")
    reported = advrec("report", "study.yaml", cwd=directory)
    shutil.move(directory / "gone", directory / "shop")
    assert reported.returncode == 0, reported.stderr
    training = pd.read_csv(run.report / "tables" / "training.csv")
    assert training["validation_drift"].notna().all()
    changed = pd.read_csv(run.report / "tables" / "changes.csv").set_index("model")
    assert changed["original"].to_dict() == {"fared": "shop", "held": "shop"}
    for model, original in changed["original"].items():
        lists = [pd.read_parquet(run.lists(each)) for each in (model, original)]
        shares = [
            len({*own} & {*theirs}) / 10
            for own, theirs in zip(*(each["neighbours"] for each in lists), strict=True)
        ]
        assert changed.loc[model, "overlap_percent"] == pytest.approx(100 * np.mean(shares))
        assert changed.loc[model, "same_category_percent"] > 0
    embeddings = {
        model: read_embeddings(run, model, 16).astype(float) for model in ("shop", "held")
    }
    drifts = [
        np.linalg.norm(embeddings["held"][article] - embeddings["shop"][article])
        / np.linalg.norm(embeddings["shop"][article])
        for article in pd.read_parquet(run.changes("held"))["article_id"]
    ]
    assert changed.loc["held", "drift_median"] == pytest.approx(np.median(drifts), rel=1e-4)
    page = (run.report / "index.html").read_text()
    assert "with those of <b>shop</b>" in page
    assert "Quality of each model" not in page  # nothing is labelled
    assert "Time that the training of each model took" in page
    held = changed.loc["held"]
    (table,) = re.findall(r'<div id="changed">(.*?)</div>', page, re.DOTALL)
    (row,) = [each for each in table.split("<tr>") if "held" in each]
    shown = [
        *(f"{held['overlap_percent']:.1f}", f"{held['same_category_percent']:.1f}"),
        *(f"{100 * held[f'drift_{what}']:.1f} %" for what in ("median", "95")),
        *(f"median rank {held[f'{which}_query_rank_median']:g}" for which in ("new", "old")),
    ]
    assert [text for text in shown if text not in row] == []
    (drift,) = [line for line in reported.stdout.splitlines() if line.startswith("drift, median")]
    of_length = f"{100 * held['drift_median']:.1f} (of 95 % at most {100 * held['drift_95']:.1f})"
    assert "% of length" in drift
    assert of_length in drift
    (old,) = [line for line in reported.stdout.splitlines() if line.startswith("old index finds")]
    assert f"{held['new_query_found_percent']:.1f} (median rank " in old
    assert DASH in old  # of the original
    assert "Which models to choose from" in page
    assert pd.read_csv(run.report / "figures" / "comparison.csv")["overlap_percent"].all()
    table = (Path(__file__).parents[2] / "docs/reference/report-tables.md").read_text()
    common, further = table.split("\n## ")[1:3]
    (explained,) = [line for line in further.splitlines() if line.startswith("| `changes` |")]
    known = re.findall(r"`(\w+)`", common + explained)
    assert {"model", *changed} <= set(known), {*changed} - {*known}


def test_a_training_that_died_goes_on_to_the_same_weights(defended, tmp_path, monkeypatch):
    directory, run, _ = defended
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    again = Run(tmp_path / "results" / "study")
    shutil.rmtree(again.model("fared"))
    shutil.rmtree(again.model("held"))
    save = train.state.save

    def dies(path, state):
        save(path, state)
        raise KeyboardInterrupt

    monkeypatch.setattr("advrec.training.loop.state.save", dies)
    assert advrec("train", "study.yaml", cwd=tmp_path).returncode == 130
    monkeypatch.undo()
    ended = advrec("train", "study.yaml", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "train fared: goes on after epoch 1/2" in ended.stdout + ended.stderr
    for model in ("fared", "held"):
        assert again.weights(model).read_bytes() == run.weights(model).read_bytes()


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ({"m": {"defense": "fare"}}, ["models.m.init"]),
        ({"m": {"defense": "fare", "init": "none"}}, ["fare defends a model", "init"]),
        ({"m": FARE | {"init": "shp"}}, ["models.m.init is shp", "did you mean shop"]),
        ({"m": FARE | {"rho": 0.1}}, ["rho"]),
        ({"m": FARE | {"trainable": 0}}, ["models.m.trainable", "write all, or 1, 2, ..."]),
        ({"m": FARE | {"trainable": "last"}}, ["models.m.trainable", "write all, or 1, 2, ..."]),
        ({"m": FARE, "at": {"defense": "at", "init": "m"}}, ["models.at.init is m", "trained"]),
        ({"m": {"defense": "act", "init": "shop"}}, ["init is shop", "fare or lore or act-fare"]),
    ],
    ids=str,
)
def test_what_cannot_be_defended_is_refused(defended, tmp_path, models, said):
    directory, *_ = defended
    study = yaml.safe_load((directory / "study.yaml").read_text())
    (tmp_path / "s.yaml").write_text(
        yaml.safe_dump(study | {"models": {"shop": SHOP} | models}, sort_keys=False)
    )
    refused = advrec("train", "s.yaml", cwd=tmp_path)
    assert refused.returncode == 2
    assert all(word in refused.stderr for word in said), refused.stderr


@pytest.mark.usefixtures("importable")
def test_lists_above_the_limit_are_of_the_whole_split(defended, tmp_path, monkeypatch):
    """Not of its first articles, which are of the first categories of a folder."""
    directory, run, _ = defended
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    again = Run(tmp_path / "results" / "study")
    again.lists("held").unlink()
    again.changes("held").unlink()
    again.index("held").unlink()
    test = Catalog(again).ids_of("test").tolist()
    limit = len(test) // 3
    monkeypatch.setattr("advrec.evaluation.lists.QUERIES", limit)
    monkeypatch.setattr("advrec.distributed.models.RECALL_QUERIES", limit)
    evaluate.embed(again, study_file.read(again.study), Catalog(again), "held", grows=False)
    evenly = test[:: -(-len(test) // limit)]
    assert 2 < len(evenly) <= limit
    assert evenly[-1] >= test[-4]
    for path in (again.lists("held"), again.changes("held")):
        made = pd.read_parquet(path).set_index("article_id")
        assert made.index.tolist() == evenly
        before = run.lists("held") if path == again.lists("held") else run.changes("held")
        column = made.columns[0]
        whole = pd.read_parquet(before).set_index("article_id").loc[evenly]
        assert all(np.array_equal(*both) for both in zip(made[column], whole[column], strict=True))
    assert json.loads(again.index("held").read_text())["queries"] == len(evenly)


@pytest.mark.parametrize("most", [1, 5, 19, 20, 21, 1000])
def test_articles_of_a_split_up_to_a_limit_are_at_even_distances(catalog, most):
    every = catalog.ids_of("test").tolist()
    some = catalog.ids_of("test", most).tolist()
    if len(every) <= most:
        assert some == every
    else:
        assert len(some) <= most
        places = [every.index(each) for each in some]
        assert places[0] == 0
        assert len({after - before for before, after in itertools.pairwise(places)}) < 2
        assert len(every) - places[-1] <= -(-len(every) // most)
