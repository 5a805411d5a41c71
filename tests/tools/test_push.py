"""`advrec push`: a finished run is copied whole, any other is refused."""

import os
import shutil

import pytest

from tests.commands import advrec


@pytest.fixture
def run(evaluated, tmp_path):
    return shutil.copytree(evaluated / "results" / "tiny", tmp_path / "run")


def contents(directory):
    return {
        path.relative_to(directory): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_a_finished_run_is_pushed_whole_and_again_to_the_same_place(run, tmp_path):
    away = tmp_path / "away"
    for _ in range(2):
        pushed = advrec("push", run, away.as_uri(), cwd=tmp_path)
        assert pushed.returncode == 0, pushed.stderr
        assert contents(away) == contents(run)
    assert advrec("status", away, cwd=tmp_path).returncode == 0


def test_a_place_that_holds_something_else_or_is_none_is_refused(run, tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    (away / "other.txt").write_text("not of the run")
    alien = advrec("push", run, away.as_uri(), cwd=tmp_path)
    assert alien.returncode == 2
    assert "other.txt" in alien.stderr
    for nowhere in ("", str(run), str(run / "copy")):
        assert advrec("push", run, nowhere, cwd=tmp_path).returncode == 2
    assert not (run / "copy").exists()
    assert advrec("push", run, "nowhere://x", cwd=tmp_path).returncode in (1, 2)


def test_a_page_older_than_the_results_is_made_again_first(run, tmp_path):
    page = run / "report" / "index.html"
    page.parent.mkdir(exist_ok=True)
    page.write_text("an old page")
    assert "report    done" in advrec("status", run, cwd=tmp_path).stdout
    os.utime(page, (0, 0))
    assert "report    to do again" in advrec("status", run, cwd=tmp_path).stdout
    stale = advrec("push", run, (tmp_path / "away").as_uri(), cwd=tmp_path)
    assert stale.returncode == 1
    assert "was made before the last results" in stale.stderr
    assert not (tmp_path / "away").exists()


def test_an_unfinished_run_is_not_pushed(run, tmp_path):
    next((run / "attacks").rglob("*.parquet")).unlink()
    unfinished = advrec("push", run, (tmp_path / "away").as_uri(), cwd=tmp_path)
    assert unfinished.returncode == 1
    assert "is not finished" in unfinished.stderr
    assert not (tmp_path / "away").exists()
