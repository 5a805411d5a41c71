"""`auto` at several budgets against that of another version, by the same weights:

python -m benchmarks.budgets RUN --against DIR [--json FILE] [--models NAME ...] [--epsilons E ...]

RUN is a finished run whose models both versions read, as the demo of version 0.1.0. DIR is a
worktree of the other version; it runs with this Python. Each side evaluates copies of the run, one
model at a time, the sides in turn. Passes and successes come from the rows; the same rows come out
each time, so there is one round, and seconds are those of one process.

Prints and writes, by model: passes a tuple, the share of the other side's, seconds, and successes
at ranks 1, 3, 10 and 100 at every budget.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset as ds
import yaml

ROOT = Path(__file__).resolve().parents[1]
RANKS = (1, 3, 10, 100)
LEFT_OUT = ("attacks", "checks", "examples", "report", "set_aside.json", "advrec.log")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--against", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--models", nargs="+", help="by default all of RUN")
    parser.add_argument("--epsilons", type=float, nargs="+", default=[0.01, 0.02, 0.03, 0.04, 0.05])
    parsed = parser.parse_args()
    sides = {"new": ROOT, "old": parsed.against.resolve()}
    study = yaml.safe_load((parsed.run / "study.yaml").read_text())
    result: dict[str, Any] = {}
    for model in parsed.models or study["models"]:
        measured = {side: _measure(parsed, model, directory) for side, directory in sides.items()}
        result[model] = measured | {
            "passes_ratio": measured["new"]["passes"] / measured["old"]["passes"],
            "difference": _differences(measured),
        }
        _show(model, result[model])
    if parsed.json:
        parsed.json.write_text(json.dumps(result, indent=1) + "\n")


def _measure(parsed: argparse.Namespace, model: str, version: Path) -> dict[str, Any]:
    """Passes and seconds a tuple, and successes {epsilon: [at each of RANKS]}, of one model."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(parsed.run, run, ignore=shutil.ignore_patterns(*LEFT_OUT))
        study = yaml.safe_load((run / "study.yaml").read_text())
        kept = {model: study["models"][model]}
        while (start := next(iter(kept.values())).get("init", "none")) != "none":
            kept = {start: study["models"][start], **kept}
        study["models"] = kept
        evaluation = study["evaluation"]
        evaluation |= {
            "epsilons": parsed.epsilons,
            "attacks": ["auto"],
            "checks": 0,
            "examples": 0,
        }
        (Path(folder) / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
        command = [sys.executable, "-m", "advrec.cli", "evaluate", "study.yaml", "--out", str(run)]
        environment = os.environ | {"PYTHONPATH": str(version)}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{version}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        rows = ds.dataset(run / "attacks", partitioning="hive").to_table().to_pandas()
    rows = rows[rows["model"].astype(str) == model]
    return {
        "passes": float(rows["forward_passes"].sum() / rows["tuple_id"].nunique()),
        "seconds": float(rows["seconds"].sum()),
        "successes": {
            f"{epsilon:g}": [int((cell["adversarial_rank"] <= rank).sum()) for rank in RANKS]
            for epsilon, cell in rows.groupby("epsilon")
        },
    }


def _differences(measured: dict[str, Any]) -> dict[str, int]:
    """The worst cell, new less old, and the sum of all."""
    new, old = (pd.DataFrame(measured[side]["successes"]).to_numpy() for side in ("new", "old"))
    return {"worst": int((new - old).min()), "sum": int((new - old).sum())}


def _show(model: str, result: dict[str, Any]) -> None:
    new, old = result["new"], result["old"]
    print(
        f"{model}: passes a tuple {new['passes']:.0f}, there {old['passes']:.0f}, ratio "
        f"{result['passes_ratio']:.3f}; seconds {new['seconds']:.0f}, there {old['seconds']:.0f}; "
        f"worst cell {result['difference']['worst']:+d}, sum {result['difference']['sum']:+d}"
    )
    for epsilon, counts in new["successes"].items():
        print(f"  {epsilon}: {counts}, there {old['successes'][epsilon]}", flush=True)


if __name__ == "__main__":
    main()
