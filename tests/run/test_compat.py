"""Light imports leave the real packages whole; that of imagededup is tested beside its hashes."""

import subprocess
import sys

import pytest


def printed(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    ).stdout


@pytest.mark.long
def test_the_attacker_does_not_import_what_only_compilers_need():
    said = printed(
        "import sys; from advrec.distributed import session, attacker;"
        "print(sys.modules.keys() & {'torch._dynamo', 'sympy'})"
    )
    assert said == "set()\n"


TRAINED = """
from advrec.run.compat import light_torchvision
torchvision = light_torchvision()
import torch
network = torchvision.models.resnet18()
optimizer = torch.optim.AdamW(network.parameters())
network(torch.rand(2, 3, 32, 32)).sum().backward()
optimizer.step()
import torch._dynamo
print(torch._dynamo.utils.is_compile_supported)
"""


@pytest.mark.long
def test_networks_train_and_compilers_work_after_the_light_import():
    assert "<function is_compile_supported" in printed(TRAINED)
