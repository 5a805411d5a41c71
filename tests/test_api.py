"""The public names, as a user finds them."""

import importlib
import importlib.metadata
import subprocess
import sys

import pytest

import advrec
from advrec import cli
from advrec.errors import ConfigError
from tests.reports.conftest import Maker


def test_importing_advrec_imports_nothing_heavy():
    code = "import sys, advrec; print(*(m for m in sys.modules if m in {'torch', 'ray', 'pandas'}))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "\n"


NAMES = {"Recommender", "attack", "load_study", "read_results", "run_study"}


def test_the_public_names_are_these():
    assert {*advrec.__all__} == {*dir(advrec)} == {*NAMES, "__version__"}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_public_name_is_loaded_from_where_it_lies(name):
    module, _, attribute = advrec._PLACES[name].partition(":")
    assert getattr(advrec, name) is getattr(importlib.import_module(module), attribute)


def test_a_name_that_is_none_is_refused_as_of_any_module():
    with pytest.raises(AttributeError, match="has no attribute 'atack'"):
        advrec.atack  # noqa: B018


def test_the_version_is_that_of_the_package(capsys):
    assert advrec.__version__ == importlib.metadata.version("advrec")
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"advrec {advrec.__version__}\n"


def test_without_the_package_s_metadata_commands_run_and_the_version_is_unknown(
    tmp_path, monkeypatch, capsys
):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    run = Maker(tmp_path)()
    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.delitem(vars(advrec), "__version__", raising=False)
    assert advrec.__version__ == "unknown"
    assert cli.main(["status", str(run.directory)]) == 0
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out.endswith("advrec unknown\n")
    del advrec.__version__  # another test asks anew


def test_results_are_the_rows_of_the_study(tmp_path):
    run = Maker(tmp_path)()
    rows = advrec.read_results(str(run.directory))
    assert list(rows.columns[:2]) == ["model", "attack"]
    keys = ["model", "attack", "tuple_id", "epsilon"]
    assert len(rows) == len(rows[keys].drop_duplicates()) == 3 * 2 * 20 * 2
    assert rows["adversarial_rank"].min() >= 1
    with pytest.raises(ConfigError, match="is not a run directory"):
        advrec.read_results(tmp_path / "nowhere")


def test_a_study_is_loaded_with_what_overrides_it(tmp_path):
    run = Maker(tmp_path)()
    assert advrec.load_study(str(run.study)).seed == 7
    assert advrec.load_study(run.study, ["seed=8"]).seed == 8
