"""The rules of the house that a linter does not know."""

import ast
import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import advrec

ROOT = Path(advrec.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
MODULE_LINES, FUNCTION_LINES, SENTENCE_WORDS = 350, 60, 25
ARRAYS = re.compile(r"\b(Tensor|NDArray|ndarray|Floats|Doubles|Ids|Rows|Pixels)\b")
SHAPE = re.compile(r"\([A-Za-z0-9_+*\- ]+(,[A-Za-z0-9_+*\- ]*)+\)")
DANGLING = re.compile(r"(What|Of|By|Where|Whether|How|Than|As)\b")
PARAGRAPH = re.compile(r"\n\s*\n|\n\s*(?=[\w*]+( \([^)]*\))?: )|\n\s*(?=- )")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def broken_rules(source: str) -> Iterator[str]:
    """The places of a module that break a rule of text, each as a line and what stands there."""
    if (lines := len(source.splitlines())) > MODULE_LINES:
        yield f"1: the module has {lines} lines"
    for number, line in enumerate(source.splitlines(), 1):
        if (comment := re.search(r"(?:^|\s)# (.*)", line)) and DANGLING.match(comment[1]):
            yield f"{number}: a comment begins with {comment[1].split()[0]}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{node.lineno}: {node.name} has {lines} lines"
            if names_no_shape(node):
                yield f"{node.lineno}: {node.name} is about arrays, its docstring names no shape"
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = str(node.value.value).strip()
            if DANGLING.match(text):
                yield f"{node.lineno}: a docstring begins with {text.split()[0]}"
            for sentence in sentences(text):
                if len(sentence.split()) > SENTENCE_WORDS:
                    yield f"{node.lineno}: a sentence is too long: {sentence}"


def names_no_shape(function: Function) -> bool:
    """Whether a public function is about arrays, and its docstring says no shape, as (N, D)."""
    annotations = [node.annotation for node in ast.walk(function.args) if isinstance(node, ast.arg)]
    types = " ".join(ast.unparse(node) for node in [*annotations, function.returns] if node)
    public = not function.name.startswith("_")
    return bool(
        public and ARRAYS.search(types) and not SHAPE.search(ast.get_docstring(function) or "")
    )


def sentences(text: str) -> Iterator[str]:
    """The sentences of a docstring, code as one word."""
    for paragraph in PARAGRAPH.split(re.sub(r"``.*?``|`[^`]*`", "x", text)):
        yield from re.split(r"(?<=[.!?;:])\s+", " ".join((paragraph or "").split()))


@pytest.mark.parametrize(
    "room", sorted({path.parent for path in MODULES}), ids=lambda room: room.name
)
def test_text_keeps_the_rules(room):
    found = {path.name: list(broken_rules(path.read_text())) for path in room.glob("*.py")}
    assert {name: places for name, places in found.items() if places} == {}


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("pass\n" * 351, "1: the module has 351 lines"),
        ("def f():\n" + "    pass\n" * 60, "1: f has 61 lines"),
        ("def f(x: Tensor):\n    'Scale it.'", "1: f is about arrays"),
        ("def f() -> NDArray:\n    'Draw (0, 1).'\ndef g(*, x: Ids): ...", "3: g is about arrays"),
        ("x = 1  # Of it", "1: a comment begins with Of"),
        ("'What it holds.'", "1: a docstring begins with What"),
        ("'Short. " + "long " * 25 + "end.'", "1: a sentence is too long"),
    ],
)
def test_a_broken_rule_is_seen(source, place):
    (found,) = broken_rules(source)
    assert found.startswith(place)


def test_every_module_imports():
    for module in pkgutil.walk_packages([str(ROOT)], "advrec."):
        importlib.import_module(module.name)


def test_init_files_are_empty_but_for_the_package_s_own():
    files = [path for path in MODULES if path.name == "__init__.py" and path.read_text().strip()]
    assert files == [ROOT / "__init__.py"]


def test_architecture_names_every_module():
    """Each in the part about its own room, for other rooms may have a module of that name."""
    text = (ROOT.parent / "ARCHITECTURE.md").read_text()
    rooms = re.compile(r"^(\w+)/.*\n(?: .*\n)*", re.MULTILINE)
    names = {match[1]: re.findall(r"\w+\.py", match[0]) for match in rooms.finditer(text)}
    names[""] = re.findall(r"^\w+\.py", text, re.MULTILINE)
    unnamed = []
    for path in MODULES:
        room, _, name = str(path.relative_to(ROOT)).rpartition("/")
        if name != "__init__.py" and name not in names.get(room.partition("/")[0], []):
            unnamed.append(str(path))
    assert unnamed == []


def test_the_floors_hold_new_modules_too(tmp_path):
    """A module on no floor and an import of ray outside distributed/ each break a contract."""
    shutil.copytree(ROOT, tmp_path / "advrec", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT.parent / "pyproject.toml", tmp_path)
    (tmp_path / "advrec" / "attic.py").touch()
    (tmp_path / "advrec" / "run" / "cluster.py").write_text("import ray\n")
    lint = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert lint.returncode == 1
    assert "advrec.attic" in lint.stdout
    assert "advrec.run.cluster -> ray" in lint.stdout
