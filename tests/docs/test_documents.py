"""The documents are tried: commands, studies, Python and links; and nothing is missing in them."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from advrec import cli
from advrec.arguments import parser
from advrec.errors import GATE_FAILED, SET_ASIDE, AdvrecError, ConfigError
from advrec.evaluation import effort
from advrec.evaluation.checks import KNOWING
from advrec.reports import results
from advrec.run.directory import Run
from advrec.spec import search
from advrec.spec import study as study_file
from docs import generate
from tests.docs import pages
from tests.runs import most_steps

ROOT = pages.ROOT
REFERENCE = ROOT / "results" / "reference"
WHOLE: dict[str, Any] = {
    "name": "whole",
    "catalog": {"source": "synthetic"},
    "models": {"unsecured": {"defense": "none"}},
    "evaluation": {"attacks": ["fgsm"]},
}
"""The study that a fragment is merged into."""


def name(block: pages.Block) -> str:
    return f"{block.page}-{block.text.splitlines()[0][:30]}"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A directory as a reader has it after the demo."""
    for directory in ("jobs", "tune_configs"):
        (tmp_path / directory).symlink_to(ROOT / directory)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "demo").symlink_to(REFERENCE)
    (tmp_path / "studies").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("page", "arguments"), pages.commands(), ids=str)
def test_every_command_on_a_page_is_one(page, arguments):
    if arguments == ["--version"] or arguments == []:
        return
    if len(arguments) == 1:
        assert arguments[0] in generate.subparsers()
    else:
        parser().parse_args(arguments)


def test_commands_are_found():
    assert len(pages.commands()) > 40


def merged(base: Any, change: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    whole = {key: merged(base.get(key), value) for key, value in change.items()}
    return whole | {key: value for key, value in base.items() if key not in whole}


@pytest.mark.parametrize("block", pages.blocks("yaml"), ids=name)
def test_every_yaml_block_is_a_study_or_a_search(block, checkout):
    content = yaml.safe_load(block.text)
    path = checkout / "studies" / "page.yaml"
    path.write_text(block.text)
    if "space" in content:
        spec, _, _ = search.load(path)
        assert spec.name == content["name"]
    elif "fragment" in block.info:
        assert set(content) <= set(study_file.Study.model_fields)
        path.write_text(yaml.safe_dump(merged(WHOLE, content), sort_keys=False))
        study_file.load(path)
    else:
        assert study_file.load(path).name == content["name"]


STUDIES = [
    block
    for block in pages.blocks("yaml")
    if "fragment" not in block.info and "space:" not in block.text
]


@pytest.mark.parametrize("block", STUDIES, ids=name)
def test_a_study_on_a_page_compares_fairly(block, checkout):
    path = checkout / "studies" / "page.yaml"
    path.write_text(block.text)
    study = study_file.load(path)
    undefended = [name for name, spec in study.compared.models.items() if spec.defense == "none"]
    for baseline in undefended[:1]:
        assert effort.trained_longer(study, most_steps(study, 500), baseline) == []


PYTHON = {block.page: block for block in pages.blocks("python")}


@pytest.mark.parametrize("page", PYTHON)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, checkout, capsys):
    space: dict[str, Any] = {"__name__": "page"}
    for block in pages.blocks("python"):
        if block.page == page:
            exec(compile(block.text, page, "exec"), space)


LINKED = [page for page in pages.sources() if not page.startswith("docs/")]


@pytest.mark.parametrize("page", LINKED)
def test_every_file_that_a_page_links_to_is_there(page):
    """Links between pages below docs/ are checked by `mkdocs build --strict`."""
    text = pages.FENCE.sub("", pages.sources()[page])
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    local = [target for target in targets if "://" not in target]
    missing = [target for target in local if not (ROOT / page).parent.joinpath(target).exists()]
    assert missing == []


def test_every_link_of_an_included_page_leads_to_a_page():
    known = {*generate.pages(), *(page.removeprefix("docs/") for page in pages.sources())}
    for page in generate.INCLUDED:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", generate.pages()[page]):
            if "://" not in target:
                assert os.path.normpath(Path(page).parent / target) in known, (page, target)


@pytest.mark.parametrize("page", pages.sources())
def test_sentences_have_at_most_25_words(page):
    long = [text for text in pages.prose(pages.sources()[page]) if len(text.split()) > 25]
    assert long == []


def test_readme_fits_on_a_screen_or_two():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 120] == []


def test_every_check_has_its_paragraph():
    names = {check.name for _, check in results.read(Run(REFERENCE)).checks}
    text = pages.sources()["docs/concepts/checks.md"]
    paragraphs = re.findall(r"^### ([^\n]+)\n\n(.+?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert {title for title, _ in paragraphs} == names | {KNOWING}
    assert [title for title, body in paragraphs if "raised" not in body.lower()] == []


def test_every_exit_code_has_its_row():
    codes = {0, AdvrecError.exit_code, ConfigError.exit_code, cli.INTERRUPTED}
    codes |= {SET_ASIDE, GATE_FAILED}
    text = pages.sources()["docs/reference/exit-codes.md"]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == codes


def test_every_key_of_a_study_and_of_a_search_has_its_meaning():
    for page in ("reference/study-keys.md", "reference/search-keys.md"):
        rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", generate.pages()[page], re.MULTILINE)
        assert len(rows) > 10
        assert [key for key, meaning in rows if not meaning] == []


def test_every_path_of_a_run_is_named(tmp_path):
    run = Run(tmp_path)
    paths = [
        path for path in vars(run).values() if isinstance(path, Path) and path != run.directory
    ]
    text = pages.sources()["docs/reference/run-directory.md"]
    assert [path.name for path in paths if f"`{path.name}" not in text] == []


COMMANDS = {"study", "prepare", "train", "evaluate", "report", "status", "demo", "tune"}
COMMANDS |= {"attack", "recommend", "catalog", "push", "export", "import-published"}


def test_the_page_of_commands_holds_every_command():
    page = generate.pages()["reference/cli.md"]
    assert set(re.findall(r"^## advrec (.+)$", page, re.MULTILINE)) == COMMANDS


def test_the_page_of_tables_holds_every_table_of_a_run():
    page = generate.pages()["reference/tables.md"]
    paths = re.findall(r"^`(\S+\.parquet)`: one row is", page, re.MULTILINE)
    forms = {path: re.sub(r"<\w+>", r"[^/]+", re.escape(path)) for path in paths}
    files = [str(path.relative_to(REFERENCE)) for path in REFERENCE.rglob("*.parquet")]
    shown = {path for file in files for path, form in forms.items() if re.fullmatch(form, file)}
    unknown = [file for file in files if not any(re.fullmatch(f, file) for f in forms.values())]
    assert unknown == []
    assert len(shown) > 5
