"""Strangers: a copy of a file among a run's tables is named by every command, and read by none."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import advrec as library
from advrec.errors import AdvrecError
from advrec.run import strangers
from advrec.run.directory import Run
from advrec.run.tables import read_embeddings, read_outcomes
from tests.commands import advrec

CELL = "attacks/model=unsecured/attack=pgd-2"
COPIES = ("block-000000 (1).parquet", "block-000000 copy.parquet", "copy.parquet")


@pytest.fixture
def run(evaluated, tmp_path):
    shutil.copy(evaluated / "tiny.yaml", tmp_path)
    return Path(shutil.copytree(evaluated / "results" / "tiny", tmp_path / "results" / "tiny"))


@pytest.mark.parametrize("name", COPIES)
def test_every_command_names_a_copy_of_a_block_file(run, tmp_path, name):
    shutil.copy(run / CELL / "block-000000.parquet", run / CELL / name)
    for command in (
        ("report", run),
        ("report", "tiny.yaml"),
        ("report", run, "--partial"),
        ("evaluate", "tiny.yaml"),
        ("study", "tiny.yaml", "--dry-run"),
        ("status", run),
        ("push", run, tmp_path / "away"),
        ("recommend", "tiny.yaml", "--model", "unsecured", "0"),
    ):
        refused = advrec(*command, cwd=tmp_path)
        assert refused.returncode == 1, command
        assert f"{CELL}/{name}" in refused.stderr
    with pytest.raises(AdvrecError, match="no stage of advrec"):
        library.read_results(run)
    assert not (tmp_path / "away").exists()
    (run / CELL / name).unlink()
    assert advrec("status", run, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    "path",
    [
        "checks/model=m/attack=fgsm/block-000000.bak",
        "embeddings/model=unsecured/part-000000 copy.parquet",
        "embeddings/part-000000.parquet",
        "examples/model=unsecured/attack=pgd-2 copy/block-000000.parquet",
        "images/part-000000 (1).parquet",
        "prepared/shard-000000-1.parquet",
    ],
)
def test_no_room_of_tables_holds_what_no_stage_wrote(run, path):
    strangers.refuse(Run(run))
    for harmless in (".DS_Store", "._block-000000.parquet", "_SUCCESS"):
        (run / CELL / harmless).touch()
    strangers.refuse(Run(run))
    stranger = run / path
    stranger.parent.mkdir(parents=True, exist_ok=True)
    stranger.touch()
    with pytest.raises(AdvrecError, match="no stage of advrec") as refused:
        strangers.refuse(Run(run))
    assert path in str(refused.value)


def test_files_of_one_size_that_differ_are_no_copies(run):
    cell = run / CELL
    for number, content in (
        (101, b"a" * 9000),
        (102, b"b" + b"a" * 8999),
        (103, b"a" * 8999 + b"b"),
    ):
        (cell / f"block-{number:06}.parquet").write_bytes(content)
    strangers.refuse(Run(run))
    (cell / "block-000104.parquet").write_bytes(b"a" * 9000)
    with pytest.raises(AdvrecError, match=r"000104\.parquet is a copy of block-000101\.parquet"):
        strangers.refuse(Run(run))


def test_readers_pass_copies_over(run):
    rows, vectors = read_outcomes(run / "attacks"), read_embeddings(Run(run), "unsecured", 1280)
    assert rows.num_rows == 2 * 12 * 2
    shutil.copy(run / CELL / "block-000000.parquet", run / CELL / "block-000000 copy.parquet")
    shards = run / "embeddings" / "model=unsecured"
    shutil.copy(shards / "part-000000.parquet", shards / "part-000000 copy.parquet")
    assert read_outcomes(run / "attacks").equals(rows)
    assert np.array_equal(read_embeddings(Run(run), "unsecured", 1280), vectors)


def test_a_copy_that_bears_the_number_of_another_file_is_refused(run, tmp_path):
    shutil.copy(run / CELL / "block-000000.parquet", run / CELL / "block-000007.parquet")
    shards = run / "embeddings" / "model=unsecured"
    shutil.copy(shards / "part-000000.parquet", shards / "part-000001.parquet")
    for command in (("report", run), ("evaluate", "tiny.yaml"), ("status", run)):
        refused = advrec(*command, cwd=tmp_path)
        assert refused.returncode == 1, command
        assert f"{CELL}/block-000007.parquet is a copy of block-000000.parquet" in refused.stderr
    pq.write_table(
        pq.read_table(run / CELL / "block-000007.parquet"), run / CELL / "block-000007.parquet"
    )  # the same rows in other bytes
    (shards / "part-000001.parquet").write_bytes(b"")
    refused = advrec("report", run, cwd=tmp_path)
    assert refused.returncode == 1
    assert "twice, as tuple 0 at epsilon 0.01" in refused.stderr
    shutil.copy(shards / "part-000000.parquet", shards / "part-000001.parquet")
    with pytest.raises(AdvrecError, match="other articles"):
        read_embeddings(Run(run), "unsecured", 1280)
