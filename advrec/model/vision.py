"""torchvision, imported without torch._dynamo: its roi_align, which no network here has, takes one
function from there. That function alone costs a process 76 MiB and 2 s. Whoever needs torch._dynamo
afterwards, as optimizers do, imports the real one.
"""

import importlib
import sys
import types

STAND_INS = ("torch._dynamo", "torch._dynamo.utils")

if not sys.modules.keys() & {"torchvision", "torch._dynamo"}:
    import torch  # noqa: F401  (before the stand-ins, so that they hide nothing from it)

    for name in STAND_INS:
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torch._dynamo.utils"].is_compile_supported = lambda device: False  # type: ignore[attr-defined]
    try:
        importlib.import_module("torchvision")
    except ImportError:  # a version that takes more from there
        for loaded in [
            module for module in sys.modules if module.partition(".")[0] == "torchvision"
        ]:
            del sys.modules[loaded]
    finally:
        for name in STAND_INS:
            del sys.modules[name]

import torchvision as torchvision  # noqa: E402
