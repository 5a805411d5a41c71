"""Adversarial evaluation of visual recommenders: the public names.

Each is loaded when it is asked for. `import advrec` alone imports neither torch nor Ray nor pandas.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advrec.evaluation.attack import attack
    from advrec.recommenders.recommender import Recommender
    from advrec.spec.study import load as load_study
    from advrec.stages.report import read_results
    from advrec.stages.study import run_study

    __version__: str

_PLACES = {
    "Recommender": "advrec.recommenders.recommender:Recommender",
    "attack": "advrec.evaluation.attack:attack",
    "load_study": "advrec.spec.study:load",
    "read_results": "advrec.stages.report:read_results",
    "run_study": "advrec.stages.study:run_study",
}
__all__ = ["Recommender", "__version__", "attack", "load_study", "read_results", "run_study"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _PLACES:
        module, _, attribute = _PLACES[name].partition(":")
        value = getattr(importlib.import_module(module), attribute)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _version() -> str:
    """The version of the package as installed; unknown where it runs from bare files."""
    metadata = importlib.import_module("importlib.metadata")
    try:
        return str(metadata.version(__name__))
    except metadata.PackageNotFoundError:
        return "unknown"


def __dir__() -> list[str]:
    return sorted(__all__)
