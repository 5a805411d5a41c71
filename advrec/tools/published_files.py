"""The published per-tuple files: <model>/test/<epsilon>/<attack>-knn.csv."""

import re
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from advrec.errors import ConfigError, first_line

MODELS = {
    "normal-24-epochs": "unsecured",
    "adversarial-24-epochs": "at",
    "curriculum-adversarial-8-k": "cat",
}
COLUMNS = [
    "target_name",
    "attack_name",
    "attack_rank",
    "attack_dist",
    "adversarial_rank",
    "adversarial_dist",
]
PAIR = ["target_name", "attack_name"]
ATTACK = re.compile(r"fgsm|(?:pgd|cw)-(\d+)")


class PublishedFile(NamedTuple):
    """<model>/test/<epsilon>/<attack>-knn.csv."""

    path: Path
    model: str
    epsilon: float
    attack: str
    rows: pd.DataFrame
    """COLUMNS, ranks 0-based as published."""


def root(directory: Path) -> Path:
    """Find results/evaluation; raises ConfigError where it is not there."""
    for root in (directory, directory / "results" / "evaluation"):
        if any((root / model).is_dir() for model in MODELS):
            return root
    raise ConfigError(
        f"{directory}: holds none of {', '.join(MODELS)}; "
        "name the repository, or its results/evaluation"
    )


def ignored(root: Path) -> list[str]:
    """Directories that hold such files and are none of the study's models."""
    counts = {
        path.name: sum(1 for _ in path.glob("test/*/*-knn.csv"))
        for path in sorted(root.iterdir())
        if path.name not in MODELS
    }
    return [
        f"ignored {name}: {count} files of a model that is none of {', '.join(MODELS)}"
        for name, count in counts.items()
        if count
    ]


def read_all(root: Path) -> list[PublishedFile]:
    """Read every file; raises ConfigError where one is not as published."""
    files = []
    for directory, model in MODELS.items():
        for path in sorted((root / directory / "test").glob("*/*-knn.csv")):
            try:
                epsilon = float(path.parent.name)
            except ValueError:
                raise ConfigError(f"{path.parent}: is not named by an epsilon, as 0.05") from None
            attack = path.name.removesuffix("-knn.csv")
            if not ATTACK.fullmatch(attack):
                raise ConfigError(
                    f"{path}: {attack} is none of the study's attacks, fgsm, pgd-K and cw-K; "
                    "move the file away"
                )
            files.append(PublishedFile(path, model, epsilon, attack, _read(path)))
    if not files:
        raise ConfigError(f"{root}: holds no <model>/test/<epsilon>/<attack>-knn.csv")
    return files


def _read(path: Path) -> pd.DataFrame:
    types = {name: "str" if name in PAIR else "float64" for name in COLUMNS}
    try:
        rows = pd.read_csv(path, usecols=COLUMNS, dtype=types)
    except ValueError as error:  # pandas' own errors of parsing are ValueErrors too
        raise ConfigError(
            f"{path}: is no published file ({first_line(error)}); "
            f"it needs the columns {', '.join(COLUMNS)}"
        ) from None
    numbers = rows[COLUMNS[2:]]
    ranks = rows[["attack_rank", "adversarial_rank"]]
    whole = (
        np.isfinite(numbers).all(axis=None)
        and (ranks >= 0).all(axis=None)
        and (ranks % 1 == 0).all(axis=None)
    )
    if rows.empty or rows[PAIR].isna().any(axis=None) or not whole:
        raise ConfigError(
            f"{path}: is empty, or holds a gap or a rank that is no whole number; "
            "get the file again"
        )
    return rows.astype({"attack_rank": "int64", "adversarial_rank": "int64"})


def without_stale(files: list[PublishedFile]) -> tuple[list[PublishedFile], list[PublishedFile]]:
    """The files that count, and those with fewer rows than others of their attack on their model:
    left over from an earlier evaluation.
    """
    most: dict[tuple[str, str], int] = {}
    for file in files:
        most[file.model, file.attack] = max(most.get((file.model, file.attack), 0), len(file.rows))
    whole = [len(file.rows) == most[file.model, file.attack] for file in files]
    return list(compress(files, whole)), [
        file for file, keep in zip(files, whole, strict=True) if not keep
    ]


def steps(attack: str) -> int:
    """Steps that an attack's name says; 1 of fgsm."""
    number = ATTACK.fullmatch(attack)
    return int(number[1]) if number and number[1] else 1


def compared(files: list[PublishedFile]) -> list[str]:
    """Compare the success rates of the rows with those that were published beside them."""
    equal = total = 0
    others = []
    for file in files:
        path = file.path.with_name(f"{file.attack}-knn-success.csv")
        if not path.exists():
            continue
        try:
            rates = pd.read_csv(path, usecols=["rank", "success_rate"], dtype="float64")
        except ValueError as error:
            raise ConfigError(
                f"{path}: is no published file ({first_line(error)}); "
                "it needs the columns rank, success_rate"
            ) from None
        for rank, published in zip(rates["rank"], rates["success_rate"], strict=True):
            own = 100.0 * float((file.rows["adversarial_rank"] <= rank - 1).mean())
            total += 1
            equal += abs(own - published) < 1e-9
            if abs(own - published) >= 1e-9:
                others.append(
                    f"{path}: says {published:g} % at rank {rank:g}, its rows give {own:g} %"
                )
    return [
        *(
            [f"{equal:,} of {total:,} published success rates are those of the rows, exactly"]
            if total
            else []
        ),
        *others,
    ]
