"""Ratios of sides that took turns, with their spread, for people and as JSON."""

import argparse
import json
import statistics
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any


def arguments(sizes: Collection[int]) -> argparse.Namespace:
    """The command line of a benchmark that alternates: size (one of `sizes`), rounds, json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("size", type=int, nargs="?", choices=sorted(sizes), default=64)
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("--json", type=Path, help="a file for the ratios")
    return parser.parse_args()


def of(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """The ratio of two sides, each a number a round: median, lowest and highest."""
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    return {
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "rounds": len(ratios),
    }


def text(found: dict[str, Any]) -> str:
    """A ratio with its spread."""
    spread = f"{found['low']:.2f} to {found['high']:.2f}"
    return f"{found['ratio']:.2f} ({spread}, {found['rounds']} rounds)"


def pairs(rates: dict[str, list[float]], *named: tuple[str, str]) -> dict[str, dict[str, Any]]:
    """Print the ratio of each pair of sides, and return them by `first / second`."""
    found = {f"{a} / {b}": of(rates[a], rates[b]) for a, b in named}
    for name, ratio in found.items():
        print(f"{name}: {text(ratio)}", flush=True)
    return found


def write(path: Path | None, found: Any) -> None:
    """Write what was found as JSON, where a file is named."""
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n")
