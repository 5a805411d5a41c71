"""Names of models and attacks that readers of result files misread: new runs refuse them, and old
runs with them are read as text. Thresholds of PHash that are none likewise.
"""

import re
import shutil

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
import yaml

import advrec as library
from advrec.errors import ConfigError
from advrec.run.directory import Run
from advrec.run.files import read_json, write_json, write_table
from advrec.spec.names import alike, taken_for
from advrec.stages import plan
from tests.commands import advrec
from tests.conftest import STUDY, study

NUMBERS = ("1", "01", "0x10", "1e3", "1_000", "inf", "Infinity", "0b1")
NOTHING = ("null", "NaN", "NA", "None")
DATES = ("2024-01-01", "2024-01", "20240101T10")
TEXT = ("pgd-8", "a1", "1st", "v2-0", "resnet18", "x10", "truely", "no", "from-1", "1-copy")
MODEL = {"defense": "none", "epochs": 1}


@pytest.mark.parametrize("name", [*NUMBERS, *NOTHING, *DATES, "true", "False"])
def test_a_new_run_refuses_a_name_that_a_reader_misreads(tmp_path, name):
    for changes, key in (
        ({"models": {name: MODEL}}, "models"),
        ({"evaluation": {"attacks": [{"attack": "fgsm", "name": name}]}}, "evaluation.attacks"),
    ):
        with pytest.raises(ConfigError, match=f"{key}: readers of the result files") as refused:
            plan.check(Run(tmp_path), study(**changes))
        assert re.search(rf"name {name} for a .*; give it another one, as \w+-{name}", str(refused))


@pytest.mark.parametrize("name", TEXT)
def test_other_names_are_text_to_everyone(tmp_path, name):
    plan.check(Run(tmp_path), study(models={name: MODEL}))
    assert taken_for(name) is None
    assert guessed(tmp_path, name) == name


@pytest.mark.parametrize("name", ["1", "01", "0x10"])
def test_a_guessing_reader_does_take_digits_for_a_number(tmp_path, name):
    assert guessed(tmp_path, name) == int(name, 16 if "x" in name else 10)
    assert taken_for(name) == "a number"


def guessed(directory, name):
    """A name as a partition, read by pyarrow without a schema."""
    write_table(directory / f"model={name}" / "block.parquet", pa.table({"rank": [1]}))
    return ds.dataset(directory, partitioning="hive").to_table()["model"][0].as_py()


def test_names_that_differ_in_case_alone_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="models: M and m differ in case alone"):
        plan.check(Run(tmp_path), study(models={"M": MODEL, "m": MODEL}))


def test_a_run_of_an_older_version_keeps_its_names_which_are_read_as_text(evaluated, tmp_path):
    """Two models whose names are one number stay two."""
    run = tmp_path / "results" / "tiny"
    shutil.copytree(evaluated / "results" / "tiny", run)
    for part in ("attacks", "examples", "embeddings", "models"):
        old = "unsecured" if part == "models" else "model=unsecured"
        for name in ("1", "01"):
            shutil.copytree(run / part / old, run / part / old.replace("unsecured", name))
        shutil.rmtree(run / part / old)
    made = read_json(run / "identities.json")
    for part in [part for part in made if "unsecured" in part]:
        identity = made.pop(part)
        made |= {part.replace("unsecured", name): identity for name in ("1", "01")}
    write_json(run / "identities.json", made)
    resolved = yaml.safe_load((run / "study.yaml").read_text())
    resolved["models"] = {name: resolved["models"]["unsecured"] for name in ("1", "01")}
    (run / "study.yaml").write_text(yaml.safe_dump(resolved))
    rows = library.read_results(run)
    assert rows.groupby("model").size().to_dict() == {"1": 48, "01": 48}
    shutil.copy(run / "study.yaml", tmp_path / "tiny.yaml")
    assert advrec("study", "tiny.yaml", "--dry-run", cwd=tmp_path).returncode == 0
    more = ("--set", "models.007={defense: none, epochs: 1}")
    refused = advrec("study", "tiny.yaml", "--dry-run", *more, cwd=tmp_path)
    assert refused.returncode == 2
    assert "takes the name 007" not in refused.stderr
    assert "take the name 007 for a number" in refused.stderr


@pytest.mark.parametrize(("threshold", "means"), [(1, 0), (3, 2)])
def test_a_new_catalog_has_a_threshold_that_hashes_can_have(tmp_path, threshold, means):
    changed = study(catalog=STUDY["catalog"] | {"duplicates": threshold})
    with pytest.raises(ConfigError, match=f"duplicates is {threshold}.* so {threshold} is {means}"):
        plan.check(Run(tmp_path), changed)
    (tmp_path / "catalog.parquet").touch()  # of an older version
    plan.check(Run(tmp_path), changed)
    for allowed in (0, 2, 4, "keep"):
        spec = {"source": "synthetic", "duplicates": allowed}
        plan.check(Run(tmp_path / "new"), study(catalog=spec))


def test_all_groups_of_names_that_are_one_to_some_filesystems_are_found():
    assert alike(["A", "b", "a", "B", "c", "e\u0301", "\xe9"]) == [
        ["A", "a"],
        ["b", "B"],
        ["e\u0301", "\xe9"],
    ]
