"""Outside packages, imported without what they drag along and nothing here needs: seconds and
hundreds of MiB of every process.

Each is imported while stand-ins take the place of the modules that are not wanted, which then make
room for the real ones.
"""

import contextlib
import functools
import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any


@functools.cache
def light_torchvision() -> Any:
    """torchvision without torch._dynamo: its roi_align, which no network here has, takes one
    function from there. That function alone costs a process 76 MiB and 2 s.

    Whoever needs torch._dynamo afterwards, as optimizers do, imports the real one.
    """
    if not sys.modules.keys() & {"torchvision", "torch._dynamo"}:
        importlib.import_module("torch")  # before the stand-ins, so that they hide nothing from it
        compilers = {name: ModuleType(name) for name in ("torch._dynamo", "torch._dynamo.utils")}
        compilers["torch._dynamo.utils"].__dict__["is_compile_supported"] = lambda device: False
        with _standing_in(compilers):
            try:
                importlib.import_module("torchvision")
            except ImportError:  # a version that takes more from there
                for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
                    del sys.modules[name]
    return importlib.import_module("torchvision")


@functools.cache
def imagededup_phash() -> Any:
    """imagededup's PHash without what its packages import beside it: torch and matplotlib cost a
    process four seconds and 600 MiB. Its modules are imported below empty packages.
    """
    root = Path(importlib.import_module("imagededup").__path__[0])
    packages = {
        f"imagededup.{name}": ModuleType(f"imagededup.{name}")
        for name in ("methods", "utils")
        if f"imagededup.{name}" not in sys.modules
    }
    for name, package in packages.items():
        package.__path__ = [str(root / name.rpartition(".")[2])]
    with _standing_in(packages):
        return importlib.import_module("imagededup.methods.hashing").PHash(verbose=False)


@contextlib.contextmanager
def _standing_in(modules: Mapping[str, ModuleType]) -> Iterator[None]:
    """Let imports find these modules in place of the real ones."""
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
