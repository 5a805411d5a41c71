"""Fingerprints of a user's models: equal to the hashes of the files that importing would load,
without importing any.
"""

import hashlib
import importlib
import subprocess
import sys

import pytest

from advrec.errors import ConfigError
from advrec.run.fingerprint import fingerprint, import_module
from advrec.spec.models import OwnModel


def spec(model, **keys):
    return OwnModel.model_validate({"model": model, **keys})


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that must not be imported, a module in it, and one in a directory without
    __init__.py.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for directory in ("my_shop/nets", "my_space"):
        (tmp_path / directory).mkdir(parents=True)
    for file in ("my_shop/__init__.py", "my_shop/nets/__init__.py", "my_shop/nets/deep.py"):
        (tmp_path / file).write_text(f"raise SystemExit('{file} is imported')\n")
    (tmp_path / "my_space" / "plain.py").write_text("raise SystemExit('imported')\n")
    yield tmp_path
    for module in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[module]


@pytest.mark.parametrize(
    ("function", "file"),
    [
        ("my_shop:model", "my_shop/__init__.py"),
        ("my_shop.nets:model", "my_shop/nets/__init__.py"),
        ("my_shop.nets.deep:model", "my_shop/nets/deep.py"),
        ("my_space.plain:model", "my_space/plain.py"),
    ],
)
def test_the_code_is_the_file_of_the_module_which_is_not_imported(package, function, file):
    assert fingerprint(spec(function)) == {"code_sha256": sha256(package / file)}


def test_changed_weights_and_changed_code_are_told_apart(package):
    weights, code = package / "w.pt", package / "my_shop" / "nets" / "deep.py"
    weights.write_bytes(b"weights")
    mine = spec("my_shop.nets.deep:model", checkpoint=str(weights))
    before = fingerprint(mine)
    assert before == {"checkpoint_sha256": sha256(weights), "code_sha256": sha256(code)}
    weights.write_bytes(b"others")
    changed = fingerprint(mine)
    assert changed["checkpoint_sha256"] != before["checkpoint_sha256"]
    assert changed["code_sha256"] == before["code_sha256"]
    code.write_text("# changed\n")
    assert fingerprint(mine)["code_sha256"] == sha256(code)


@pytest.mark.parametrize(
    ("function", "missing"),
    [
        ("my_gone:model", "No module named 'my_gone'; run advrec where my_gone"),
        ("my_space.gone.deep:model", "No module named 'my_space.gone'; run advrec where my_space"),
        ("my_space.plain.deep:model", "'my_space.plain' is not a package; run advrec where"),
    ],
)
def test_a_module_that_is_not_there_is_refused_as_importing_it_would_be(package, function, missing):
    (package / "my_space" / "plain.py").write_text("")
    with pytest.raises(ConfigError, match=f"{function} raised ModuleNotFoundError: .*{missing}"):
        fingerprint(spec(function))
    with pytest.raises(ModuleNotFoundError) as imported:
        __import__(function.partition(":")[0])
    with pytest.raises(ConfigError) as refused:
        fingerprint(spec(function))
    assert str(imported.value) in str(refused.value)


def test_a_built_in_module_and_a_network_of_torchvision_have_no_file(tmp_path):
    assert fingerprint(spec("sys:exit")) == {}
    with pytest.raises(ConfigError, match=r"gone\.pt cannot be read \(No such file"):
        fingerprint(spec("resnet18", checkpoint=str(tmp_path / "gone.pt")))


def test_it_imports_no_torch():
    code = (
        "import sys; from advrec.run.fingerprint import fingerprint;"
        "from advrec.spec.models import OwnModel;"
        "print(fingerprint(OwnModel(model='tests.shop.resnet:resnet18')).keys(),"
        " 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout == "dict_keys(['code_sha256']) False\n"


def test_a_file_that_changed_after_its_import_is_refused_until_it_is_loaded_again(package):
    code = package / "my_plain.py"
    code.write_text("width = 1\n")
    module = import_module("my_plain:model")
    assert module.width == 1
    assert fingerprint(spec("my_plain:model")) == {"code_sha256": sha256(code)}
    code.write_text("width = 1000\n")
    with pytest.raises(ConfigError, match=r"plain\.py has changed since it was imported; start"):
        fingerprint(spec("my_plain:model"))
    importlib.reload(module)
    assert module.width == 1000
    assert fingerprint(spec("my_plain:model")) == {"code_sha256": sha256(code)}
    code.write_text("width = 10\n")
    del sys.modules["my_plain"]
    assert fingerprint(spec("my_plain:model")) == {"code_sha256": sha256(code)}


def test_a_module_that_a_user_imported_is_known_from_the_first_look_at_it(package):
    code = package / "my_mine.py"
    code.write_text("width = 1\n")
    sys.path.insert(0, str(package))
    importlib.import_module("my_mine")
    first = fingerprint(spec("my_mine:model"))
    code.write_text("width = 1000\n")
    with pytest.raises(ConfigError, match="has changed since it was imported"):
        fingerprint(spec("my_mine:model"))
    code.write_text("width = 1\n")
    assert fingerprint(spec("my_mine:model")) == first
