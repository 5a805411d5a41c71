"""The short form of chaos.py: one evaluation whose driver, an actor and a node are killed. The long
one is marked slow.
"""

import subprocess
import sys

import pytest

from benchmarks.chaos import Chaos

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_an_evaluation_disturbed_on_two_nodes_loses_and_doubles_nothing(
    tmp_path,
):
    """Driver, actor and node are killed; the rows are those of an undisturbed one on one node."""
    chaos = Chaos(tmp_path, seed=1)
    try:
        chaos.round(0, ["actor", "driver", "node"])
    finally:
        chaos.close()


def test_twenty_five_disturbances():
    subprocess.run([sys.executable, "-m", "benchmarks.chaos"], check=True)
