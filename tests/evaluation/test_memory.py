"""Memory grows with the batch, not with the work: measured in processes of their own."""

import subprocess
import sys

import pytest


def peak(tuples: int, epsilons: int, batch: int) -> float:
    command = [
        sys.executable,
        "-m",
        "tests.evaluation.peak_memory",
        *map(str, (tuples, epsilons, batch)),
    ]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.long
def test_peak_memory_grows_with_the_batch_and_not_with_tuples_or_epsilons():
    few, many, large = peak(128, 1, 16), peak(256, 2, 16), peak(128, 1, 128)
    assert large - few > 150  # 112 images more, each with activations of some megabytes
    assert abs(many - few) < (large - few) / 4
