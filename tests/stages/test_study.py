"""The whole way, as a user goes it: a small study that is run, resumed, extended and refused."""

import shutil

import pytest
import yaml

from tests.commands import advrec
from tests.conftest import STUDY
from tests.runs import blocks, rows


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A finished run of STUDY in <place>/results/tiny, from drawing to page."""
    directory = tmp_path_factory.mktemp("study")
    write(directory / "tiny.yaml")
    done = advrec("study", "tiny.yaml", cwd=directory)
    assert done.returncode == 0, done.stderr
    assert "report/index.html" in done.stdout
    return directory


@pytest.fixture
def copied(place, tmp_path):
    """The finished run, to be changed."""
    return shutil.copytree(place, tmp_path / "copied")


def write(path, **changes):
    path.write_text(yaml.safe_dump(STUDY | changes))
    return path


def test_the_run_directory_is_what_the_contract_says(place):
    run = place / "results" / "tiny"
    for name in (
        "study.yaml",
        "provenance.json",
        "catalog.parquet",
        "tuples.parquet",
        "report/index.html",
    ):
        assert (run / name).exists(), name
    for name in ("model.safetensors", "metrics.json", "history.parquet"):
        assert (run / "models" / "unsecured" / name).exists(), name
    assert list((run / "models" / "unsecured" / "tensorboard").glob("events*"))
    table = rows(run)
    assert len(table) == 2 * 12 * 2
    assert set(table.columns) >= {
        "model",
        "attack",
        "tuple_id",
        "epsilon",
        "adversarial_rank",
        "linf",
        "gradient_steps",
    }
    assert not table.duplicated(["model", "attack", "tuple_id", "epsilon"]).any()
    assert (table.linf <= table.epsilon + 1e-8).all()
    assert (table[table.attack == "pgd-2"].gradient_steps == 2).all()


def test_a_second_run_computes_nothing_and_status_says_so(place):
    before = blocks(place / "results" / "tiny")
    again = advrec("study", "tiny.yaml", cwd=place)
    assert again.returncode == 0
    assert again.stdout.count("done before") == 3
    assert blocks(place / "results" / "tiny") == before
    status = advrec("status", "results/tiny", cwd=place)
    assert status.returncode == 0
    assert status.stdout.count("3 of 3 blocks done") == 2


@pytest.mark.ray
def test_a_study_on_ray_gives_the_rows_that_one_process_does_with_its_weights(
    tmp_path, ray_address
):
    """Each stage takes as many processes as there are, as without a word on resources."""
    fare = {"defense": "fare", "init": "unsecured", "steps": 1, "epochs": 1}
    write(tmp_path / "tiny.yaml", resources={}, models=STUDY["models"] | {"unsecured_fare": fare})
    done = advrec("study", "tiny.yaml", "--address", ray_address, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "train unsecured: 2 processes" in done.stdout
    assert "train unsecured_fare: 2 processes" in done.stdout
    run = tmp_path / "results" / "tiny"
    assert (run / "report" / "index.html").exists()
    table = rows(run)
    assert len(table) == 2 * 2 * 12 * 2
    for part in ("attacks", "embeddings", "tuples.parquet"):
        (run / part).rename(tmp_path / part)
    here = ("--set", "resources.actors=0")
    assert advrec("evaluate", "tiny.yaml", *here, cwd=tmp_path).returncode == 0
    assert rows(run).equals(table)


def test_another_attack_computes_only_itself(copied):
    before = blocks(copied / "results" / "tiny")
    write(
        copied / "more.yaml",
        evaluation=STUDY["evaluation"] | {"attacks": ["fgsm", "pgd-2", "cw-2"]},
    )
    assert advrec("evaluate", "more.yaml", cwd=copied).returncode == 0
    after = blocks(copied / "results" / "tiny")
    assert {name: after[name] for name in before} == before
    assert all("attack=cw-2" in name for name in set(after) - set(before))
    assert len(after) == len(before) + 3


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("models.unsecured.epochs=2", "models/unsecured made with epochs = 1, the study says 2"),
        ("catalog.articles=133", "catalog made with articles = 132, the study says 133"),
        ("evaluation.epsilons=[0.01]", "epsilons = [0.01, 0.05], the study says [0.01]"),
        ("evaluation.tuples=11", "tuples = 12, the study says 11"),
        ("seed=1", "seed = 42, the study says 1"),
    ],
)
def test_a_study_that_does_not_match_the_run_is_refused_by_name(place, override, part):
    before = blocks(place / "results" / "tiny")
    refused = advrec("study", "tiny.yaml", "--set", override, cwd=place)
    assert refused.returncode == 2
    assert part in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert blocks(place / "results" / "tiny") == before


@pytest.mark.parametrize(
    ("weights", "code", "part"),
    [
        ("imagenet", 1, "models.other: the ImageNet weights of mobilenet_v2 cannot be loaded"),
        ("{tmp}/gone.pth", 2, "gone.pth does not exist"),
        ("{tmp}/wrong.pth", 2, "models.other: "),
    ],
)
def test_weights_that_cannot_be_had_are_found_before_training(place, tmp_path, weights, code, part):
    """Not in a worker of Ray's: one sentence, whose place is the study's."""
    away = {
        "TORCH_HOME": str(tmp_path),
        "http_proxy": "http://127.0.0.1:1",
        "https_proxy": "http://127.0.0.1:1",
    }
    (tmp_path / "wrong.pth").write_text("no weights")
    models = f"models.other={{defense: none, weights: {weights.format(tmp=tmp_path)}}}"
    refused = advrec("train", "tiny.yaml", "--set", models, cwd=place, env=away)
    assert refused.returncode == code, refused.stderr
    assert part in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (place / "results" / "tiny" / "models" / "other" / "model.safetensors").exists()


def test_a_block_that_was_set_aside_is_tried_again_and_forgotten_once_done(copied):
    run = copied / "results" / "tiny"
    (run / "set_aside.json").write_text(
        '{"attacks/unsecured/pgd-2/1": "its process died (3 attempts)"}'
    )
    (run / "attacks/model=unsecured/attack=pgd-2/block-000001.parquet").unlink()
    status = advrec("status", run, cwd=copied)
    assert status.returncode == 3
    assert "2 of 3 blocks done" in status.stdout
    assert "set aside attacks/unsecured/pgd-2/1: its process died (3 attempts)" in status.stdout
    before = blocks(run)
    assert advrec("evaluate", "tiny.yaml", cwd=copied).returncode == 0
    after = blocks(run)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1
    assert advrec("status", run, cwd=copied).returncode == 0
