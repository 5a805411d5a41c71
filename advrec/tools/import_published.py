"""The published per-tuple files (philippnormann/adversarial-recsys, results/evaluation) -> a run
directory, so that the same report shows the study that advrec grew from.
"""

import re
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from advrec.catalog import published as counts
from advrec.errors import ConfigError, first_line
from advrec.reports.tables.published import RANKS
from advrec.run import schema
from advrec.run.cells import block_key, cells
from advrec.run.directory import Run
from advrec.run.files import write_json, write_table, write_text
from advrec.spec import study as study_file

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
BLOCK = 1000
SHOWN = 10  # defects that are told one by one
ATTACK = re.compile(r"fgsm|(?:pgd|cw)-(\d+)")
METRICS: dict[str, dict[str, float]] = {
    "unsecured": {"clean_accuracy": 0.6825, "adversarial_accuracy": 0.0002, "top5_accuracy": 0.9314,
                  "texture_top1_precision": 0.4368, "adversarial_texture_top1_precision": 0.1951},
    "at": {"clean_accuracy": 0.5606, "adversarial_accuracy": 0.4871,
           "texture_top1_precision": 0.3958, "adversarial_texture_top1_precision": 0.3860},
    "cat": {"clean_accuracy": 0.6229, "adversarial_accuracy": 0.2745,
            "texture_top1_precision": 0.3957, "adversarial_texture_top1_precision": 0.3604},
}  # fmt: skip
"""The thesis' tables of the classifiers, on 14,755 test articles."""
PREPARATION = {
    "source": "DeepFashion, as published",
    "steps": [{"step": step, "articles": images} for step, images in counts.STEPS.items()],
    "splits": counts.SPLITS,
}
STUDY = """
name: published
seed: 42
catalog: {source: deepfashion, root: DeepFashion, image_size: 224, square: trim-pad, annotations: coarse, published_split: true}
models:
  unsecured: {defense: none, recipe: published, weights: imagenet, width: 1.0}
  at: {defense: at, recipe: published, weights: imagenet, width: 1.0}
  cat: {defense: cat, recipe: published, weights: imagenet, width: 1.0}
evaluation: {checks: 0, examples: 0, batch: 64}
accept_set_aside: true
"""


class PublishedFile(NamedTuple):
    """<model>/test/<epsilon>/<attack>-knn.csv."""

    path: Path
    model: str
    epsilon: float
    attack: str
    rows: pd.DataFrame
    """COLUMNS, ranks 0-based as published."""


def run_import(directory: Path, out: Path) -> list[str]:
    """Write a run directory of the published rows; returns what was found, as lines of text.

    Ranks are as published, plus one. `defect` marks a success that cannot be one: the rank is the
    first although the article has moved away from its target. Norms of the perturbation and
    seconds, which the files do not say, are NaN; steps follow from the attack's name.

    Raises:
        ConfigError: no such files below `directory`, one that is not as published, or `out` holds
            something.
    """
    run = Run(out)
    run.check_directory()
    if run.study.exists():
        raise ConfigError(f"{out} holds a run already; name another --out")
    root = _root(directory)
    files, stale = _without_stale(_read_all(root))
    compared = _compared(files)
    tuples = max((file.rows for file in files), key=len)[PAIR]
    study = _study(files, len(tuples))
    articles = sorted({*tuples["target_name"], *tuples["attack_name"]})
    ids = {name: place for place, name in enumerate(articles)}
    outcomes = pd.concat([_outcomes(file, tuples, ids) for file in files], ignore_index=True)
    with run.lock():
        _write_catalog(run, articles)
        write_table(run.tuples, schema.table(schema.TUPLES, {
            "tuple_id": np.arange(len(tuples)), "target_id": tuples["target_name"].map(ids).to_numpy(),
            "attack_id": tuples["attack_name"].map(ids).to_numpy(), "split": ["test"] * len(tuples),
        }))  # fmt: skip
        for (model, attack), cell in outcomes.groupby(["model", "attack"]):
            for block, rows in cell.groupby(cell["tuple_id"] // BLOCK):
                ordered = rows.sort_values(["tuple_id", "epsilon"])
                made = schema.table(
                    schema.IMPORTED,
                    {name: ordered[name].to_numpy() for name in schema.IMPORTED.names},
                )
                write_table(run.block(str(model), str(attack), int(str(block))), made)
        test = counts.SPLITS["test"]
        for model in study.models:
            write_json(
                run.model(model) / "metrics.json",
                METRICS[model] | {"n": test, "n_textures": test, "selected_on": "test"},
            )
        write_json(run.preparation, PREPARATION)
        write_json(
            run.provenance,
            {"imported": "the published per-tuple files of the study", "files": len(files)},
        )
        for part in (
            "catalog",
            "tuples",
            *(f"models/{model}" for model in study.models),
            *(cell.key for cell in cells(study)),
        ):
            run.claim(part, {"imported": True}, made=False)
        run.write_set_aside({
            block_key(cell, block): f"not published: no rows of {cell.attack.name} on {cell.model} for these tuples"
            for cell in cells(study)
            for block in range(-(-len(tuples) // BLOCK))
            if not run.block(cell.model, cell.attack.name, block).exists()
        })  # fmt: skip
        write_text(run.study, yaml.safe_dump(study_file.as_dict(study), sort_keys=False))
    defects = outcomes[outcomes["defect"]]
    return [
        f"{len(files)} files, {len(outcomes):,} rows of {len(tuples):,} tuples",
        *(
            f"left out {file.path}: {len(file.rows)} rows, where the other files of {file.attack} have more"
            for file in stale
        ),
        *_ignored(root),
        *compared,
        *(
            f"defect: {row['attack']} on {row['model']} at epsilon {row['epsilon']:g}, tuple {row['tuple_id']}: published as rank "
            f"{row['adversarial_rank']} although its distance grew from {row['clean_distance']:.4f} to {row['adversarial_distance']:.4f}"
            for row in defects.head(SHOWN).to_dict("records")
        ),
        *([f"and {len(defects) - SHOWN:,} more defects"] if len(defects) > SHOWN else []),
        f"advrec report {out}",
    ]


def _root(directory: Path) -> Path:
    for root in (directory, directory / "results" / "evaluation"):
        if any((root / model).is_dir() for model in MODELS):
            return root
    raise ConfigError(
        f"{directory}: holds none of {', '.join(MODELS)}; name the repository, or its results/evaluation"
    )


def _ignored(root: Path) -> list[str]:
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


def _read_all(root: Path) -> list[PublishedFile]:
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
                    f"{path}: {attack} is none of the study's attacks, fgsm, pgd-K and cw-K; move the file away"
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
            f"{path}: is no published file ({first_line(error)}); it needs the columns {', '.join(COLUMNS)}"
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
            f"{path}: is empty, or holds a gap or a rank that is no whole number; get the file again"
        )
    return rows.astype({"attack_rank": "int64", "adversarial_rank": "int64"})


def _without_stale(files: list[PublishedFile]) -> tuple[list[PublishedFile], list[PublishedFile]]:
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


def _study(files: list[PublishedFile], tuples: int) -> study_file.Study:
    raw = yaml.safe_load(STUDY)
    attacks = sorted(
        {file.attack for file in files},
        key=lambda name: (["fgsm", "pgd", "cw"].index(name.split("-")[0]), _steps(name)),
    )
    evaluation = {
        "tuples": tuples, "block": BLOCK, "ranks": list(RANKS),
        "attacks": attacks, "epsilons": sorted({file.epsilon for file in files}),
    }  # fmt: skip
    raw["evaluation"] |= evaluation
    raw["models"] = {
        model: spec
        for model, spec in raw["models"].items()
        if model in {file.model for file in files}
    }
    return study_file.parse(raw, "published")


def _steps(attack: str) -> int:
    number = ATTACK.fullmatch(attack)
    return int(number[1]) if number and number[1] else 1


def _write_catalog(run: Run, names: list[str]) -> None:
    """The articles that the tuples name; DeepFashion's directories end with the category's name."""
    made = {
        "article_id": range(len(names)), "name": names, "textures": [[]] * len(names), "split": ["test"] * len(names),
        "category": [Path(name).parent.name.split("_")[-1] for name in names], "sha256": [""] * len(names),
    }  # fmt: skip
    write_table(run.catalog, schema.table(schema.CATALOG, made))


def _outcomes(file: PublishedFile, tuples: pd.DataFrame, ids: dict[str, int]) -> pd.DataFrame:
    """schema.IMPORTED, with the columns model and attack before them."""
    # A pair that comes twice is told apart by its place among its equals.
    numbered = tuples.assign(tuple_id=np.arange(len(tuples)), _nth=tuples.groupby(PAIR).cumcount())
    rows = file.rows.assign(_nth=file.rows.groupby(PAIR).cumcount()).merge(
        numbered, on=[*PAIR, "_nth"], how="left"
    )
    if rows["tuple_id"].isna().any():
        other = rows[rows["tuple_id"].isna()].iloc[0]
        raise ConfigError(
            f"{file.path}: holds the tuple {other['target_name']}, {other['attack_name']}, which the longest file does not; "
            f"all files of the study share their tuples, get this one again"
        )
    steps = _steps(file.attack)
    made: dict[str, Any] = {
        "model": file.model, "attack": file.attack,
        "tuple_id": rows["tuple_id"].astype("int32"), "epsilon": file.epsilon,
        "target_id": rows["target_name"].map(ids), "attack_id": rows["attack_name"].map(ids),
        "clean_distance": rows["attack_dist"], "adversarial_distance": rows["adversarial_dist"],
        "clean_rank": rows["attack_rank"] + 1, "adversarial_rank": rows["adversarial_rank"] + 1,
        "linf": np.nan, "l2": np.nan, "raw_linf": np.nan, "seconds": np.nan,
        "gradient_steps": steps, "forward_passes": steps, "batch": 64, "winner": file.attack, "inherited": False,
        # argmax of a search that did not find the article is 0, the first rank.
        "defect": (rows["adversarial_rank"] == 0) & (rows["attack_rank"] > 0) & (rows["adversarial_dist"] > rows["attack_dist"]),
    }  # fmt: skip
    return pd.DataFrame(made)


def _compared(files: list[PublishedFile]) -> list[str]:
    """Whether the rows give the success rates that were published beside them."""
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
                f"{path}: is no published file ({first_line(error)}); it needs the columns rank, success_rate"
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
