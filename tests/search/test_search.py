"""Searches: what is refused, the Pareto front, and a real one on Ray Tune that is killed and goes
on.
"""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from advrec.catalog.dataset import Catalog
from advrec.errors import ConfigError
from advrec.evaluation import lists
from advrec.model import checkpoint, own
from advrec.model.encoder import frozen
from advrec.model.own import OwnArchitecture
from advrec.recommenders import load
from advrec.reports.pictures import pareto
from advrec.run.directory import Run
from advrec.search.trial import run_trial, trial_study
from advrec.spec import search as search_file
from advrec.spec.search import TuneSpec
from advrec.stages import search as stage
from tests.commands import advrec, kill_when

STUDY = {
    "name": "tiny",
    "catalog": {"source": "synthetic", "articles": 132, "image_size": 32},
    "models": {
        "unsecured": {"defense": "none", "epochs": 1},
        "at": {"defense": "at", "steps": 1, "epochs": 1, "init": "unsecured"},
    },
    "evaluation": {
        "tuples": 8,
        "block": 4,
        "epsilons": [0.01, 0.05],
        "attacks": ["pgd-2"],
        "checks": 0,
    },
    "resources": {"actors": 0},  # what is no trial
}
SEARCH = {
    "name": "tiny-search",
    "study": "tiny.yaml",
    "model": "at",
    "trials": 3,
    "attack": "pgd-2",
    "tuples": 6,
    "space": {
        "models.at.epsilon": {"loguniform": [0.01, 0.06]},
        "models.at.steps": {"choice": [1, 2]},
    },
}


def write(directory: Path, **changes) -> Path:
    (directory / "tiny.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    (directory / "search.yaml").write_text(yaml.safe_dump(SEARCH | changes))
    return directory / "search.yaml"


def yaml_comment(path: Path) -> str:
    """The trial that the first line of a best.yaml names."""
    return path.read_text().split()[2]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"space": {"models.at.epsilon": {"uniform": [0.5, 0.1]}}},
            "the first number is the smaller one",
        ),
        ({"space": {"models.at.epsilon": {"loguniform": [0, 0.1]}}}, "its numbers are positive"),
        (
            {"space": {"models.at.epsilon": {"uniform": [0.0, 2.0]}}},
            "space.models.at.epsilon: models.at.epsilon is 2.0",
        ),
        ({"space": {"models.at.stepps": {"choice": [1]}}}, "did you mean steps"),
        (
            {"space": {"models.at.epsilon": {"uniform": [0.1, 0.2], "choice": [0.3]}}},
            "write one of",
        ),
        ({"space": {"catalog.articles": {"choice": [100]}}}, "catalog.articles"),
        (
            {"space": {"models.unsecured.epochs": {"choice": [1]}}},
            "only models.at is trained in every trial",
        ),
        (
            {"space": {"models.at.init": {"choice": ["none", "unsecured"]}}},
            "init is the same in every trial",
        ),
        (
            {"space": {"models.at.images": {"choice": ["train", "catalog"]}}},
            "images is the same in every trial",
        ),
        ({"name": "n" * 60}, "at most 50"),
        ({"space": {"models.at.epsilon": {"grid": [0.1]}}}, "is a grid"),
        (
            {"scheduler": "asha", "objectives": ["adversarial_accuracy"]},
            "name it as the only objective",
        ),
        ({"scheduler": "asha", "objectives": ["success_rate"]}, "name it as the only objective"),
        ({"objectives": ["success"]}, "objectives.0 is success"),
        (
            {"model": "cat", "space": {"models.cat.epsilon": {"choice": [0.1]}}},
            "its models: unsecured, at",
        ),
        ({"study": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
        ({"trails": 3}, "did you mean trials"),
        ({"set": {"models.at": {"model": "resnet18", "weights": "imagenet"}}}, "trained elsewhere"),
        (
            {"set": {"catalog": {"source": "deepfashion", "root": ".", "published_split": True}}},
            "no validation split",
        ),
    ],
    ids=str,
)
def test_an_impossible_search_is_refused_before_any_work(tmp_path, changes, sentence):
    with pytest.raises(ConfigError) as refused:
        search_file.load(write(tmp_path, **changes))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_the_front_is_what_no_other_trial_dominates(points):
    trials = pd.DataFrame(points, columns=["accuracy", "success"], dtype=float)
    found = pareto.front(trials, {"accuracy": "max", "success": "min"})
    for (place, (a, s)), kept in zip(enumerate(points), found, strict=True):
        dominated = any(
            b >= a and t <= s and (b, t) != (a, s)
            for other, (b, t) in enumerate(points)
            if other != place
        )
        assert kept == (not dominated)


def test_the_best_of_a_front_is_nearest_to_the_best_of_each():
    rows = pd.DataFrame(
        {"trial": list("abc"), "accuracy": [0.2, 0.8, 0.9], "success": [0.1, 0.2, 0.9]}
    )
    modes = {"accuracy": "max", "success": "min"}
    assert pareto.best(rows, modes)["trial"] == "b"
    assert pareto.best(rows, {"accuracy": "max"})["trial"] == "c"
    assert pareto.best(rows[:1], modes)["trial"] == "a"


@pytest.mark.parametrize(
    ("space", "different"),
    [
        ({"a": {"choice": [1, 2, 2]}, "b": {"randint": [3, 5]}}, 6),
        ({"a": {"choice": [1, True, "1"]}}, 3),
        ({"a": {"grid": [1, 2]}, "b": {"grid": [[1], [2], [1, 2]]}}, 6),
        ({"a": {"choice": [1, 2]}, "b": {"uniform": [0.1, 0.2]}}, float("inf")),
    ],
    ids=str,
)
def test_different_combinations_of_a_space(space, different):
    keys = {f"models.at.{key}": domain for key, domain in space.items()}
    searcher = "random" if "grid" in str(space) else "optuna"
    spec = TuneSpec.model_validate_json(
        json.dumps({"name": "a", "study": "s", "model": "at", "space": keys, "searcher": searcher})
    )
    assert spec.num_combinations == different


def test_a_search_says_how_many_different_combinations_it_tried(tmp_path, capsys):
    """A searcher sampled one of two combinations four times."""
    space = {"models.at.steps": {"choice": (1, 2)}}
    spec = TuneSpec(name="a", study="s", model="at", space=space, trials=4)
    measured = {"clean_accuracy": 0.5, "success_rate": 0.1, "seconds": 1.0}
    row = {"trial": "0" * 12, "models.at.steps": "1"} | measured
    stage._say_beforehand(spec)
    assert "the space holds 2 different combinations for 4 trials" in capsys.readouterr().out
    for trials, words in (
        ([row] * 4, "4 trials of 1 different combination, 1"),
        ([row], "1 trials, 1"),
    ):
        outcome = stage._outcome(pd.DataFrame(trials), spec, tmp_path)
        stage._say(outcome, spec, tmp_path / "best.yaml")
        assert f"tune a: {words}" in capsys.readouterr().out
    stage._say_beforehand(spec.model_copy(update={"trials": 2}))
    assert capsys.readouterr().out == ""


@pytest.mark.ray
def test_a_search_that_is_killed_goes_on_and_its_best_study_runs(tmp_path, ray_address):
    alone = {"models.at.init": "none"}  # no model to train before the trials
    file, out = write(tmp_path, set=alone), tmp_path / "out"

    def finished():
        return {
            path.parent.name: path.stat().st_mtime_ns for path in out.glob("trials/*/metrics.json")
        }

    kill_when(finished, "tune", file, "--out", out, cwd=tmp_path)
    before = finished()
    assert 0 < len(before) < 3
    ended = advrec("tune", file, "--out", out, "--address", ray_address, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    after = finished()
    assert before.items() <= after.items()
    assert len(after) == 3  # none is made again
    trials = pd.read_parquet(out / "trials.parquet")
    assert len(trials) == 3
    assert set(trials["trial"]) <= set(after)
    epsilons = trials["models.at.epsilon"].astype(float)
    assert epsilons.between(0.01, 0.06).all()
    assert epsilons.nunique() == 3
    assert set(trials["models.at.steps"]) <= {"1", "2"}
    front = pd.read_csv(out / "pareto.csv", dtype={"trial": str})
    assert set(front["trial"]) <= set(trials["trial"])
    assert (out / "pareto.png").stat().st_size > 5000
    write(tmp_path, set=alone, seed=1)
    other = advrec("tune", file, "--out", out, cwd=tmp_path)
    assert other.returncode == 2
    assert "holds another search: its search differs in seed" in other.stderr
    trained = out / "trials" / yaml_comment(out / "best.yaml") / "model.safetensors"
    here = ("--out", tmp_path / "best", "--set", "resources.training_workers=0")
    best = advrec("study", out / "best.yaml", *here, cwd=tmp_path)
    assert best.returncode == 0, best.stderr
    assert (tmp_path / "best" / "report" / "index.html").exists()
    expected, found = (
        load_file(trained),
        load_file(tmp_path / "best" / "models" / "at" / "model.safetensors"),
    )
    assert expected.keys() == found.keys()
    assert all(value.equal(found[name]) for name, value in expected.items())


@pytest.mark.parametrize("name", ["cat_schedule", "epsilon", "smoke"])
def test_the_searches_that_ship_with_advrec_are_valid(name):
    spec, _, _ = search_file.load(Path(__file__).parents[2] / "tune_configs" / f"{name}.yaml")
    assert spec.num_trials >= 2


def epochs_of(out: Path) -> list[tuple[str, list[float]]]:
    """The name of each trial and its accuracy after each epoch, in the order of trials."""
    trials = []
    for results in sorted((out / ".tune" / "search").glob("*/result.json")):
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        reported = [line["clean_accuracy"] for line in lines if not line.get("epochs")]
        trials.append((lines[0]["trial_id"], reported))
    return sorted(trials)


@pytest.mark.ray
def test_every_combination_is_tried_once_and_asha_stops_the_bad_ones(tmp_path, ray_address):
    """One trial after another: stopped are those below the median of the earlier ones after 3 or
    6 epochs.
    """
    grids = {"models.at.learning_rate": {"grid": [1e-5, 3.0]}, "models.at.steps": {"grid": [1, 2]}}
    changes = {
        "space": grids,
        "set": {"models.unsecured.epochs": 6, "models.unsecured.batch": 8, "models.at.epochs": 6},
    }
    file = write(
        tmp_path,
        searcher="random",
        scheduler="asha",
        objectives=["clean_accuracy"],
        concurrency=1,
        **changes,
    )
    there = ("--out", tmp_path / "out", "--address", ray_address)
    ended = advrec("tune", file, *there, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    trials = pd.read_parquet(tmp_path / "out" / "trials.parquet")
    rates, steps = (
        trials["models.at.learning_rate"].astype(float),
        trials["models.at.steps"].astype(int),
    )
    assert sorted(zip(rates, steps, strict=True)) == list(itertools.product([1e-5, 3.0], [1, 2]))
    earlier: dict[int, list[float]] = {3: [], 6: []}
    stopped = []
    for _, accuracies in epochs_of(tmp_path / "out"):
        bad = False
        for epoch, recorded in earlier.items():
            if len(accuracies) >= epoch:
                bad |= bool(recorded) and accuracies[epoch - 1] < np.median(recorded)
                recorded.append(accuracies[epoch - 1])
        stopped.append(bad)
    assert any(stopped), "no trial was bad enough to show anything"
    # a stopped trial is not measured
    assert trials["seconds"].isna().tolist() == stopped


def test_a_trial_without_labels_measures_the_lists_that_are_kept_and_success(prepared, tmp_path):
    content = {
        **STUDY,
        "models": {
            "shop": {"model": "tests.shop.encoders:normed"},
            "fared": {"defense": "fare", "init": "shop", "steps": 1, "epochs": 1},
        },
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    search = {
        **SEARCH,
        "model": "fared",
        "objectives": ["overlap", "success_rate"],
        "space": {"models.fared.learning_rate": {"loguniform": [0.0001, 0.01]}},
    }
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(search))
    spec, read, directory = search_file.load(tmp_path / "search.yaml")
    base = Run(tmp_path / "base")
    shutil.copytree(prepared.directory, base.directory)
    network = own.build(
        OwnArchitecture(model="tests.shop.encoders:normed", image_size=32, dimension=16)
    )
    checkpoint.save(base.weights("shop"), network)
    trial = trial_study(read, directory, {"models.fared.learning_rate": 0.005})
    measured = run_trial(spec, trial, base, tmp_path / "trial")
    catalog = Catalog(base)
    ids = catalog.ids_of("validation")
    first, second = (
        lists.nearest(load.from_catalog(frozen(each), catalog).index, ids).to_pandas()
        for each in (network, checkpoint.load(tmp_path / "trial" / "model.safetensors"))
    )
    assert measured["overlap"] == pytest.approx(lists.overlap(second, first).mean())
    assert 0 < measured["overlap"] < 1
    assert 0 <= measured["success_rate"] <= 1
    assert "clean_accuracy" not in measured


@pytest.mark.parametrize(
    ("model", "objectives", "said"),
    [
        ("fared", ["clean_accuracy", "success_rate"], "objectives has clean_accuracy"),
        ("at", ["overlap", "success_rate"], "objectives has overlap"),
    ],
)
def test_objectives_that_the_searched_model_does_not_have_are_refused(
    tmp_path, model, objectives, said
):
    fared = {"defense": "fare", "init": "unsecured"}
    changed = STUDY | {"models": STUDY["models"] | {"fared": fared}}
    space = {f"models.{model}.epsilon": {"uniform": [0.01, 0.02]}}
    path = write(tmp_path, model=model, objectives=objectives, space=space)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
    with pytest.raises(ConfigError, match=said):
        search_file.load(path)
