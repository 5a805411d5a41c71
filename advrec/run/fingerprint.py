"""Hashes of the files that a user's model or function comes from.

`fingerprint` imports nothing of a user, nor torch: a finished study is looked through in a moment.
"""

import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from advrec.errors import AdvrecError, ConfigError, first_line
from advrec.run.provenance import file_hash
from advrec.spec.models import OwnModel
from advrec.spec.study import canonical_hash

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
"""Files that transformers writes beside weights."""
WEIGHTS = ("*.safetensors", "*.bin", "*.index.json")
"""Names of files of weights in a folder of transformers."""


class _Loaded(NamedTuple):
    """A loaded module of a user, as it was met first."""

    spec: ModuleSpec | None
    """Another one after a reload."""
    sha256: str
    """The hash of its file."""


_loaded: dict[str, _Loaded] = {}
"""Modules of this process by name."""


def fingerprint(spec: OwnModel) -> dict[str, str]:
    """SHA-256 of the weights (`checkpoint_sha256`) and of the source file that names the function
    (`code_sha256`), each where there is such a file.

    Raises:
        ConfigError: a file is not there, or the source file is not the one that this process has
            imported. That the function can be called is for `own.check`.
    """
    hashes = {}
    if spec.checkpoint is not None:
        try:
            hashes["checkpoint_sha256"] = file_hash(Path(spec.checkpoint))
        except OSError as error:
            raise ConfigError(
                f"checkpoint {spec.checkpoint} cannot be read ({error.strerror}); "
                "name the file of the weights"
            ) from None
    hashes |= _folder_hashes(spec)
    is_function = spec.named is None and ":" in spec.model
    return hashes | (code(spec.model) if is_function else {})


def code(function: str) -> dict[str, str]:
    """SHA-256 (`code_sha256`) of the source file of package.module:function, where there is one.

    Raises:
        ConfigError: there is no such module, or its file is not the one that this process has
            imported.
    """
    source = source_file(function)
    if source is None:
        return {}
    sha256 = file_hash(source)
    module = sys.modules.get(function.partition(":")[0])
    if module is not None and _remember(module, source) != sha256:
        raise ConfigError(
            f"{function}: {source} has changed since it was imported; start Python again"
        )
    return {"code_sha256": sha256}


def _folder_hashes(spec: OwnModel) -> dict[str, str]:
    """SHA-256 of all that a folder of transformers says of a model (`folder_sha256`)."""
    if spec.named is None or spec.named.library != "hf":
        return {}
    names, folder = [CONFIG, PROCESSOR], None
    if spec.named.is_folder:
        folder = Path(spec.named.name)
        names += sorted(path.name for each in WEIGHTS for path in folder.glob(each))
    elif spec.checkpoint is not None:
        folder = Path(spec.checkpoint).parent
    if folder is None:
        return {}
    found = {name: file_hash(folder / name) for name in names if (folder / name).is_file()}
    return {"folder_sha256": canonical_hash(found)} if found else {}


def source_file(function: str) -> Path | None:
    """The file of the module in package.module:function; None where it has none (built in).

    Raises:
        ConfigError: there is no such module; the sentence is that of importing it.
    """
    import_from_here()
    module = function.partition(":")[0]
    loaded = sys.modules.get(module)
    if loaded is not None:
        return _file_of(loaded)
    try:
        found = _find(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{function} raised ModuleNotFoundError: {error}; "
            f"run advrec where {function.partition('.')[0]} can be imported"
        ) from None
    except ValueError as error:  # a name that no module can have
        raise ConfigError(f"{function} raised ValueError: {error}") from None
    return Path(found.origin) if found.has_location and found.origin else None


def import_module(function: str) -> ModuleType:
    """Import the module of package.module:function, and remember which file it came from."""
    import_from_here()
    module = importlib.import_module(function.partition(":")[0])
    source = _file_of(module)
    if source is not None:
        _remember(module, source)
    return module


def import_from_here() -> None:
    """Let modules of the working directory be imported, as `python -m` does."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def _remember(module: ModuleType, source: Path) -> str:
    """The hash of a module's file when the module was first met loaded."""
    first = _loaded.get(module.__name__)
    if first is None or first.spec is not module.__spec__:
        first = _Loaded(module.__spec__, file_hash(source))
        _loaded[module.__name__] = first
    return first.sha256


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file) if file else None


def _find(module: str) -> ModuleSpec:
    """The spec of a module, without importing the packages that it lies in.

    Why: importlib.util.find_spec would run them, and a package of models imports torch.

    Raises:
        ModuleNotFoundError: there is none.
    """
    top, *below = module.split(".")
    found, name = importlib.util.find_spec(top), top
    for part in below:
        if found is None:
            break
        if found.submodule_search_locations is None:
            raise ModuleNotFoundError(f"No module named '{name}.{part}'; '{name}' is not a package")
        name = f"{name}.{part}"
        found = importlib.machinery.PathFinder.find_spec(
            name, list(found.submodule_search_locations)
        )
    if found is None:
        raise ModuleNotFoundError(f"No module named '{name}'")
    return found


@contextlib.contextmanager
def blamed_on(function: str) -> Iterator[None]:
    """Whatever a user's code raises becomes one sentence that names it."""
    try:
        yield
    except AdvrecError:
        raise
    except (Exception, SystemExit) as error:
        hint = (
            f"; run advrec where {function.partition('.')[0]} can be imported"
            if isinstance(error, ImportError)
            else ""
        )
        raise ConfigError(
            f"{function} raised {type(error).__name__}: {first_line(error)}{hint}"
        ) from error
