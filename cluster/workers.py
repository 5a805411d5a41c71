"""Hold workers of an autoscaling cluster while a command runs: `python cluster/workers.py 4 python jobs/study.py STUDY.yaml --out DIR`.

A stage divides its work among the processors that are there when it begins, and an autoscaling cluster at rest has none. The workers are
held by a placement group, which Ray gives up with this process, however it ends: they then go when they have been idle for long enough.
"""

import subprocess
import sys

from advrec.distributed.session import session  # isort: skip  (sets Ray's environment before anything imports ray)

import ray
from ray.util import placement_group

from advrec.errors import AdvrecError

WORKER = "advrec_worker"  # every worker of aws.yaml and of the KubeRay files has one
REPORT_S = 60


def main(arguments: list[str]) -> int:
    """Wait for the workers, run the command, return its exit code."""
    if len(arguments) < 2 or not arguments[0].isdecimal() or arguments[0] == "0":
        print("usage: python cluster/workers.py WORKERS COMMAND ...", file=sys.stderr)
        return 2
    wanted, command = int(arguments[0]), arguments[1:]
    with session("auto"):
        held = placement_group([{WORKER: 1}] * wanted)
        while not held.wait(REPORT_S):
            print(f"waiting for {wanted} workers, {ray.cluster_resources().get(WORKER, 0):.0f} are there", flush=True)
        return subprocess.call(command)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AdvrecError as error:
        sys.exit(f"workers: {error}")
