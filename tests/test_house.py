"""The rules of the house that a linter does not know."""

import importlib
import pkgutil
from pathlib import Path

import advrec

ROOT = Path(advrec.__file__).parent


def test_every_module_imports():
    for module in pkgutil.walk_packages([str(ROOT)], "advrec."):
        importlib.import_module(module.name)


def test_no_module_is_longer_than_350_lines():
    assert [
        str(path) for path in ROOT.rglob("*.py") if len(path.read_text().splitlines()) > 350
    ] == []


def test_init_files_are_empty_but_for_the_package_s_own():
    files = [path for path in ROOT.rglob("__init__.py") if path.read_text().strip()]
    assert files == [ROOT / "__init__.py"]


def test_architecture_names_every_module():
    text = (ROOT.parent / "ARCHITECTURE.md").read_text()
    modules = [
        path.name
        for path in ROOT.rglob("*.py")
        if path.name != "__init__.py" and path.parent.name != "reports"
    ]
    assert [name for name in modules if name not in text] == []
