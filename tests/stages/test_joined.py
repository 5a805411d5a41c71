"""Joined models of a study: made of their parts, attacked, and refused, as a user sees it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from advrec.catalog.dataset import Catalog
from advrec.model import checkpoint
from advrec.reports import results
from advrec.reports.page.joined import joined_table
from advrec.reports.tables.every import all_tables
from advrec.run.directory import Run
from advrec.run.tables import read_embeddings
from advrec.spec import chains
from advrec.spec import study as study_file
from tests.commands import advrec
from tests.conftest import random_network, study
from tests.runs import rows

MODELS = {
    "trained": {"defense": "none", "epochs": 1},
    "shop": {"model": "shop.encoders:normed"},
    "both": {"join": ["trained", "shop"], "weights": [1, 2]},
    "twice": {"join": ["trained", "trained"]},
}


@pytest.fixture(scope="module")
def joined(tmp_path_factory, prepared):
    """A directory with study.yaml, whose run in results/study is done."""
    directory = tmp_path_factory.mktemp("joined")
    shutil.copytree(Path(__file__).parents[1] / "shop", directory / "shop")
    write(directory, prepared, MODELS)
    run = Run(directory / "results" / "study")
    with run.lock():
        shutil.copytree(prepared.directory, run.directory, dirs_exist_ok=True)
    catalog = Catalog(run)
    network = random_network(len(catalog.categories), len(catalog.textures))
    checkpoint.save(run.weights("trained"), network)
    done = advrec("evaluate", "study.yaml", cwd=directory)
    assert done.returncode == 0, done.stderr
    assert "model both: trained + shop, 1296 values an embedding" in done.stderr + done.stdout
    return directory


def write(directory, prepared, models):
    content = {
        "name": "study",
        "catalog": {
            "source": "deepfashion",
            "root": str(prepared.directory / "synthetic"),
            "image_size": 32,
        },
        "models": models,
        "evaluation": {
            **{"tuples": 6, "epsilons": [0.02], "attacks": ["pgd-2"]},
            **{"checks": 0, "examples": 1},
        },
        "resources": {"actors": 0},
    }
    (directory / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def test_it_embeds_as_its_parts_do_side_by_side(joined):
    run = Run(joined / "results" / "study")
    both = read_embeddings(run, "both", 1280 + 16)
    trained = read_embeddings(run, "trained", 1280)

    np.testing.assert_allclose(np.linalg.norm(both[:, :1280], axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(both[:, 1280:], axis=1), 2.0, atol=1e-5)
    units = trained / np.linalg.norm(trained, axis=1, keepdims=True)
    np.testing.assert_allclose(both[:, :1280], units, atol=1e-6)


def test_10_a_model_joined_with_itself_has_the_rows_of_it_alone(joined):
    found = rows(joined / "results" / "study")
    alone, twice = (
        found[found["model"] == name].reset_index(drop=True) for name in ("trained", "twice")
    )

    assert len(alone) == 6
    assert (alone["clean_rank"] == twice["clean_rank"]).all()
    np.testing.assert_allclose(
        twice["adversarial_distance"], alone["adversarial_distance"], atol=1e-4
    )


def test_10_it_ranks_by_the_mean_of_its_parts_cosines(joined):
    run = Run(joined / "results" / "study")
    found = rows(run.directory)
    row = found[found["model"] == "both"].iloc[0]
    cosines = []
    for model, values in (("trained", 1280), ("shop", 16)):
        part = read_embeddings(run, model, values).astype(np.float64)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
        cosines.append(part @ part[row["target_id"]])

    scores = (cosines[0] + 4.0 * cosines[1]) / 5.0

    mine = scores[row["attack_id"]]
    others = np.delete(scores, [row["target_id"], row["attack_id"]])
    assert row["clean_rank"] == 1 + (others > mine).sum()
    assert row["clean_distance"] == pytest.approx(1.0 - mine, abs=1e-5)


def test_nothing_is_made_again_and_other_weights_of_a_part_are_refused(joined, tmp_path, prepared):
    run = shutil.copytree(joined / "results", tmp_path / "results") / "study"
    shutil.copytree(joined / "shop", tmp_path / "shop")
    shutil.copy(joined / "study.yaml", tmp_path)
    again = advrec("evaluate", "study.yaml", cwd=tmp_path)
    assert (again.returncode, "done before" in again.stdout) == (0, True), again.stderr

    write(tmp_path, prepared, MODELS | {"both": MODELS["both"] | {"weights": [1, 3]}})
    other = advrec("evaluate", "study.yaml", cwd=tmp_path)
    write(tmp_path, prepared, MODELS)
    catalog = Catalog(Run(run))
    network = random_network(len(catalog.categories), len(catalog.textures), seed=1)
    checkpoint.save(Run(run).weights("trained"), network)
    trained_again = advrec("evaluate", "study.yaml", cwd=tmp_path)

    assert other.returncode == 2
    assert "models/both made with weights = [1.0, 2.0], the study says [1.0, 3.0]" in other.stderr
    assert trained_again.returncode == 2
    assert "models/both made with weights of trained = " in trained_again.stderr


def test_commands_take_it_as_any_model_but_export_which_says_why(joined):
    name = Catalog(Run(joined / "results" / "study")).names[0]
    words = ["study.yaml", "--model", "both"]

    listed = advrec("recommend", *words, name, cwd=joined)
    exported = advrec("export", "results/study", "--model", "both", "both.pt", cwd=joined)

    assert listed.returncode == 0, listed.stderr
    assert exported.returncode == 2
    assert "--model is both, which joins trained and shop" in exported.stderr


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"join": ["trained"]}, "models.new.join"),
        ({"join": ["trained", "shp"]}, "models.new.join.1 is shp, which is not a model above it"),
        ({"join": ["trained", "new"]}, "models.new.join.1 is new, which is not a model above it"),
        ({"join": ["trained", "shop"], "weights": [1]}, "weights has 1 numbers for 2 models"),
        ({"join": ["trained", "shop"], "weights": [1, 0]}, "models.new.weights.1 is 0"),
        ({"join": ["trained", "shop"], "epochs": 3}, "models.new.epochs is not a known key"),
        ({"defense": "fare", "init": "both"}, "models.new.init is both, a joined model"),
        ({"defense": "at", "init": "both"}, "models.new.init is both, a joined model"),
        ({}, "a joined one join"),
    ],
)
def test_what_cannot_be_joined_is_refused_in_a_sentence(tmp_path, prepared, entry, said):
    write(tmp_path, prepared, MODELS | {"new": entry})

    refused = advrec("study", "study.yaml", "--dry-run", cwd=tmp_path)

    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_joined_model_may_be_joined_and_stands_for_its_parts_defense(tmp_path, prepared):
    models = {
        "one": {"defense": "at"},
        "two": {"defense": "at", "init": "one"},
        "both": {"join": ["one", "two"]},
        "all": {"join": ["both", "shop"]},
        "said": {"join": ["one", "two"], "defense": "cat"},
    }
    models = {"shop": MODELS["shop"]} | models
    write(tmp_path, prepared, models)

    read = study_file.load(tmp_path / "study.yaml")

    defenses = {name: spec.defense for name, spec in read.models.items()}
    assert defenses["both"] == "at"
    assert defenses["all"] == "none"
    assert defenses["said"] == "cat"
    assert read.models["all"].weights == (1.0, 1.0)
    assert len(chains.parts(read.models, "all")) == 3
    assert study_file.parse(study_file.as_dict(read), "it") == read


def test_a_batch_has_room_for_the_activations_of_all_parts():
    models = {"one": {"defense": "none"}, "two": {"defense": "none"}}
    catalog = {"source": "synthetic", "articles": 132, "image_size": 128}

    alone, joined = (
        study(catalog=catalog, models=models | more).evaluation.at_once
        for more in ({}, {"both": {"join": ["one", "two"]}})
    )

    assert (alone, joined) == (64, 32)


def test_the_table_holds_it_against_each_part_on_the_same_tuples(joined):
    run = Run(joined / "results" / "study")
    read = results.read(run)
    table = all_tables(read)["joined"]
    assert set(zip(table["model"], table["part"], strict=True)) == {
        ("both", "trained"),
        ("both", "shop"),
        ("twice", "trained"),
    }
    found = rows(run.directory).set_index(["model", "tuple_id"])["adversarial_rank"]
    succeeded = table[(table["model"] == "both") & (table["quantity"] == "success")]
    assert len(succeeded) == 2 * len(read.study.evaluation.ranks)
    for row in succeeded.to_dict("records"):
        own, other = (100.0 * (found[name] <= row["rank"]).mean() for name in ("both", row["part"]))
        assert row["percent"] == pytest.approx(own)
        assert row["part_percent"] == pytest.approx(other)
        assert row["difference_points"] == pytest.approx(own - other)
        assert row["low_points"] < own - other < row["high_points"]
        assert row["n"] == 6

    lists = table[(table["quantity"] == "same_category") & (table["part"] == "shop")].iloc[0]
    category = read.labels["category"]
    shares = [
        np.mean([category[query] == category[other] for other in neighbours])
        for name in ("both", "shop")
        for query, neighbours in read.lists[name].itertuples(index=False)
    ]
    each = np.array(shares).reshape(2, -1)
    assert lists["n"] == each.shape[1]
    assert lists["difference_points"] == pytest.approx(100.0 * (each[0] - each[1]).mean())
    same = table[(table["model"] == "twice") & (table["quantity"] != "success")]
    assert (same["difference_points"] == 0.0).all()
    assert len(same) == 2
    assert joined_table(read).columns[4:6] == ["Joined (%)", "Part (%)"]
