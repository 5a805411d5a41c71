import errno
import os
import signal
import stat
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from advrec.errors import AdvrecError, ConfigError
from advrec.run import directory, files, schema
from advrec.run.directory import Run


def tuples(n):
    return schema.table(
        schema.TUPLES,
        {"tuple_id": range(n), "target_id": [0] * n, "attack_id": [1] * n, "split": ["test"] * n},
    )


def test_a_table_has_exactly_the_columns_of_its_schema():
    with pytest.raises(ValueError, match="columns"):
        schema.table(schema.TUPLES, {"tuple_id": [0]})
    with pytest.raises(ValueError, match="null"):
        schema.table(
            schema.TUPLES,
            {"tuple_id": [None], "target_id": [0], "attack_id": [1], "split": ["test"]},
        )
    assert tuples(2).schema == schema.TUPLES


def test_a_content_hash_does_not_depend_on_chunks_but_on_every_value():
    whole = tuples(9000)
    parts = pa.concat_tables([whole.slice(0, 17), whole.slice(17)])
    assert schema.content_hash(whole) == schema.content_hash(parts)
    assert schema.content_hash(whole) != schema.content_hash(whole.slice(1))


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "t.parquet"
    files.write_table(path, tuples(3))

    def torn(temporary):
        temporary.write_bytes(b"half")
        raise RuntimeError("stopped in the middle")

    with pytest.raises(RuntimeError):
        files.write_atomically(path, torn)
    assert pq.read_table(path).num_rows == 3
    assert os.listdir(tmp_path) == ["t.parquet"]


def test_a_place_that_cannot_be_written_is_named_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AdvrecError, match="cannot be written") as error:
        files.write_json(tmp_path / "file" / "x.json", {})
    assert error.value.exit_code == 1


def test_a_full_disk_is_said_in_one_sentence(tmp_path):
    def full(temporary):
        with open("/dev/full", "wb", buffering=0) as handle:
            handle.write(b"x")

    with pytest.raises(AdvrecError, match="No space left"):
        files.write_atomically(tmp_path / "x", full)


def test_an_identity_that_differs_is_refused_by_name(tmp_path):
    run = Run(tmp_path)
    run.claim("models/at", {"epsilon": 0.9}, made=False)  # of work that failed: it binds nobody
    run.claim("models/at", {"epsilon": 0.03, "steps": 8}, made=False)
    run.claim("models/at", {"epsilon": 0.03, "steps": 8}, made=True)
    with pytest.raises(
        ConfigError, match=r"models/at made with epsilon = 0.03, the study says 0.05"
    ):
        run.check_identity("models/at", {"epsilon": 0.05, "steps": 8})
    run.check_identity("models/at", {"epsilon": 0.03})
    run.check_identity("models/cat", {"epsilon": 0.05})
    with pytest.raises(ConfigError, match="weights = nothing"):
        run.claim("models/at", {"epsilon": 0.03, "weights": "ab"}, made=True)


def hold(directory):
    code = (
        "import sys, time; from pathlib import Path; from advrec.run.directory import Run\n"
        "with Run(Path(sys.argv[1])).lock():\n    print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_driver_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    process = hold(tmp_path)
    try:
        with pytest.raises(AdvrecError, match=f"process {process.pid}"), Run(tmp_path).lock():
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with Run(tmp_path).lock():
        pass


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL])
def test_a_file_system_without_locks_is_worked_on_and_that_is_said(
    tmp_path, monkeypatch, capsys, code
):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    run = Run(tmp_path)
    with run.lock():
        assert run.driver() is None
    said = capsys.readouterr().out
    assert f"has no locks ({os.strerror(code)}), so start no second advrec" in said


@pytest.mark.parametrize(("code", "held"), [(errno.EACCES, True), (errno.EIO, False)])
def test_a_lock_that_is_refused_for_another_reason_is_not_passed_over(
    tmp_path, monkeypatch, code, held
):
    """CIFS answers EACCES where another has the lock."""

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    run = Run(tmp_path)
    with run.lock():
        monkeypatch.setattr("fcntl.flock", refuse)
        assert bool(run.driver()) == held
        with pytest.raises(AdvrecError if held else OSError) as refused, run.lock():
            pass
    assert held == (f"in use by another advrec (process {os.getpid()}" in str(refused.value))


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_files_are_written_where_directories_cannot_be_synced(tmp_path, monkeypatch, code):
    synced, real = [], os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        synced.append(descriptor)
        real(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    files.write_json(tmp_path / "x.json", {"a": 1})
    assert files.read_json(tmp_path / "x.json") == {"a": 1}
    assert len(synced) == 1


def test_a_disk_that_fails_to_sync_is_no_success(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        files.write_json(tmp_path / "x.json", {})
    assert os.listdir(tmp_path) == []


def test_leftovers_of_a_killed_driver_are_removed(tmp_path):
    run = Run(tmp_path)
    kept = run.block("m", "a", 0)
    files.write_table(kept, tuples(1))
    (kept.parent / f"{files.TEMPORARY}99.block-000001.parquet").write_bytes(b"torn")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("somebody else's")
    directory.remove_leftovers(run)
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    assert (tmp_path / ".git" / "config").exists()


def test_a_directory_of_something_else_is_refused(tmp_path):
    Run(tmp_path).check_directory()
    (tmp_path / "thesis.doc").write_text("")
    with pytest.raises(ConfigError, match="no run of advrec"):
        Run(tmp_path).check_directory()


def test_a_file_can_be_read_by_whom_the_umask_lets(tmp_path):
    plain, weights = tmp_path / "plain", tmp_path / "weights.safetensors"
    plain.touch()
    files.write_atomically(weights, lambda path: save_file({"a": np.zeros(1)}, path))
    assert weights.stat().st_mode == plain.stat().st_mode
