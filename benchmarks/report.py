"""The report of a large run: python -m benchmarks.report DIR.

The run has 1,050,000 rows (3 models, 7 attacks, 5 budgets, 10,000 tuples) with examples, embeddings
and lists of 2,000 articles. Prints seconds and memory of `advrec report`; exit code 1 beyond 60 s
or 2 GiB.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

from tests.reports.conftest import Maker

ATTACKS = ["fgsm", "pgd-8", "pgd-32", "pgd-128", "cw-50", "apgd-20", "auto"]
EPSILONS = [0.01, 0.02, 0.03, 0.04, 0.05]


def main(directory: Path) -> None:
    run = Maker(directory)(
        "large",
        attacks=ATTACKS,
        epsilons=EPSILONS,
        tuples=10_000,
        block=256,
        articles=2_000,
        trained=True,
    )
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "advrec.cli", "report", str(run.directory)], check=True)
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    size = (run.report / "index.html").stat().st_size / 1e6
    print(
        f"report of 1,050,000 rows: {seconds:.0f} s, {peak:.2f} GiB at its peak, "
        f"a page of {size:.1f} MB"
    )
    sys.exit(seconds > 60 or peak > 2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
