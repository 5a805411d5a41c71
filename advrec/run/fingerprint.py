"""Hashes of the files that a user's model or function comes from. Nothing of a user is imported
here, and neither is torch: a finished study is looked through in a moment.
"""

import importlib.machinery
import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

from advrec.errors import ConfigError
from advrec.run.provenance import file_hash
from advrec.spec.models import OwnModel


def fingerprint(spec: OwnModel) -> dict[str, str]:
    """SHA-256 of the weights (`checkpoint_sha256`) and of the source file that names the function
    (`code_sha256`), each where there is such a file.

    Raises:
        ConfigError: a file is not there. That the function can be called is for `own.check`.
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
    if ":" in spec.model:
        source = source_file(spec.model)
        if source is not None:
            hashes["code_sha256"] = file_hash(source)
    return hashes


def source_file(function: str) -> Path | None:
    """The file of the module in package.module:function; None where it has none (built in).

    Raises:
        ConfigError: there is no such module; the sentence is that of importing it.
    """
    import_from_here()
    module = function.partition(":")[0]
    loaded = sys.modules.get(module)
    if loaded is not None:
        file = getattr(loaded, "__file__", None)
        return Path(file) if file else None
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


def import_from_here() -> None:
    """Let modules of the working directory be imported, as `python -m` does."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


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
