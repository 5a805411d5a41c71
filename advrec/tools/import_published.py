"""The published per-tuple files (philippnormann/adversarial-recsys, results/evaluation) -> a run
directory, so that the same report shows the study that advrec grew from.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from advrec.catalog import published as counts
from advrec.errors import ConfigError
from advrec.reports.tables.published import RANKS
from advrec.run import schema
from advrec.run.cells import block_key, cells, missing_blocks
from advrec.run.directory import Run
from advrec.run.files import write_json, write_table, write_text
from advrec.spec import study as study_file
from advrec.tools import published_files
from advrec.tools.published_files import PAIR, PublishedFile

BLOCK = 1000
SHOWN = 10  # defects that are told one by one
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
catalog:
  source: deepfashion
  root: DeepFashion
  image_size: 224
  square: trim-pad
  annotations: coarse
  published_split: true
models:
  unsecured: {defense: none, recipe: published, weights: imagenet, width: 1.0}
  at: {defense: at, recipe: published, weights: imagenet, width: 1.0}
  cat: {defense: cat, recipe: published, weights: imagenet, width: 1.0}
evaluation: {checks: 0, examples: 0, batch: 64}
accept_set_aside: true
"""


class Import(NamedTuple):
    """Contents of the run directory, before anything is written."""

    study: study_file.Study
    files: list[PublishedFile]
    stale: list[PublishedFile]
    """Files that are left out: others of their attack on their model have more rows."""
    articles: list[str]
    """Names, in the order of their ids."""
    tuples: pd.DataFrame
    """PAIR, in the order of their ids."""
    outcomes: pd.DataFrame
    """schema.IMPORTED, with the columns model and attack before them."""


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
    root = published_files.root(directory)
    imported = _plan(published_files.read_all(root))
    found = [
        *_left_out(imported.stale),
        *published_files.ignored(root),
        *published_files.compared(imported.files),
    ]
    with run.lock():
        _write(run, imported)
    return [
        f"{len(imported.files)} files, {len(imported.outcomes):,} rows "
        f"of {len(imported.tuples):,} tuples",
        *found,
        *_defects(imported.outcomes),
        f"advrec report {out}",
    ]


def _plan(read: list[PublishedFile]) -> Import:
    files, stale = published_files.without_stale(read)
    tuples = max((file.rows for file in files), key=len)[PAIR]
    articles = sorted({*tuples["target_name"], *tuples["attack_name"]})
    ids = {name: place for place, name in enumerate(articles)}
    outcomes = pd.concat([_outcomes(file, tuples, ids) for file in files], ignore_index=True)
    return Import(_study(files, len(tuples)), files, stale, articles, tuples, outcomes)


def _write(run: Run, imported: Import) -> None:
    """Write every part of the run; study.yaml, which says that it is one, comes last."""
    study = imported.study
    _write_catalog(run, imported.articles)
    _write_tuples(run, imported)
    _write_blocks(run, imported.outcomes)
    test = counts.SPLITS["test"]
    for model in study.models:
        write_json(
            run.model(model) / "metrics.json",
            METRICS[model] | {"n": test, "n_textures": test, "selected_on": "test"},
        )
    write_json(run.preparation, PREPARATION)
    origin = {
        "imported": "the published per-tuple files of the study",
        "files": len(imported.files),
    }
    write_json(run.provenance, origin)
    for part in (
        "catalog",
        "tuples",
        *(f"models/{model}" for model in study.models),
        *(cell.key for cell in cells(study)),
    ):
        run.claim(part, {"imported": True}, made=False)
    run.write_set_aside(_unpublished(run, study, len(imported.tuples)))
    write_text(run.study, yaml.safe_dump(study_file.as_dict(study), sort_keys=False))


def _write_catalog(run: Run, names: list[str]) -> None:
    """Write the articles that the tuples name; their directories end with the category."""
    columns = {
        "article_id": range(len(names)),
        "name": names,
        "textures": [[]] * len(names),
        "split": ["test"] * len(names),
        "category": [Path(name).parent.name.split("_")[-1] for name in names],
        "sha256": [""] * len(names),
    }
    write_table(run.catalog, schema.table(schema.CATALOG, columns))


def _write_tuples(run: Run, imported: Import) -> None:
    tuples = imported.tuples
    ids = {name: place for place, name in enumerate(imported.articles)}
    columns = {
        "tuple_id": np.arange(len(tuples)),
        "target_id": tuples["target_name"].map(ids).to_numpy(),
        "attack_id": tuples["attack_name"].map(ids).to_numpy(),
        "split": ["test"] * len(tuples),
    }
    write_table(run.tuples, schema.table(schema.TUPLES, columns))


def _write_blocks(run: Run, outcomes: pd.DataFrame) -> None:
    for (model, attack), cell in outcomes.groupby(["model", "attack"]):
        for block, rows in cell.groupby(cell["tuple_id"] // BLOCK):
            ordered = rows.sort_values(["tuple_id", "epsilon"])
            columns = {name: ordered[name].to_numpy() for name in schema.IMPORTED.names}
            write_table(
                run.block(str(model), str(attack), int(str(block))),
                schema.table(schema.IMPORTED, columns),
            )


def _unpublished(run: Run, study: study_file.Study, tuples: int) -> dict[str, str]:
    """Blocks without rows, by key, with the reason: they count as set aside."""
    return {
        block_key(cell, block): (
            f"not published: no rows of {cell.attack.name} on {cell.model} for these tuples"
        )
        for cell in cells(study)
        for block in missing_blocks(run, study, cell, tuples)
    }


def _left_out(stale: list[PublishedFile]) -> list[str]:
    return [
        f"left out {file.path}: {len(file.rows)} rows, "
        f"where the other files of {file.attack} have more"
        for file in stale
    ]


def _defects(outcomes: pd.DataFrame) -> list[str]:
    defects = outcomes[outcomes["defect"]]
    lines = [
        f"defect: {row['attack']} on {row['model']} at epsilon {row['epsilon']:g}, "
        f"tuple {row['tuple_id']}: published as rank {row['adversarial_rank']} although its "
        f"distance grew from {row['clean_distance']:.4f} to {row['adversarial_distance']:.4f}"
        for row in defects.head(SHOWN).to_dict("records")
    ]
    if len(defects) > SHOWN:
        lines.append(f"and {len(defects) - SHOWN:,} more defects")
    return lines


def _study(files: list[PublishedFile], tuples: int) -> study_file.Study:
    raw = yaml.safe_load(STUDY)
    attacks = sorted(
        {file.attack for file in files},
        key=lambda name: (
            ["fgsm", "pgd", "cw"].index(name.split("-")[0]),
            published_files.steps(name),
        ),
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
            f"{file.path}: holds the tuple {other['target_name']}, {other['attack_name']}, "
            "which the longest file does not; all files of the study share their tuples, "
            "get this one again"
        )
    steps = published_files.steps(file.attack)
    # argmax of a search that did not find the article is 0, the first rank.
    first = (rows["adversarial_rank"] == 0) & (rows["attack_rank"] > 0)
    columns: dict[str, Any] = {
        "model": file.model, "attack": file.attack,
        "tuple_id": rows["tuple_id"].astype("int32"), "epsilon": file.epsilon,
        "target_id": rows["target_name"].map(ids), "attack_id": rows["attack_name"].map(ids),
        "clean_distance": rows["attack_dist"], "adversarial_distance": rows["adversarial_dist"],
        "clean_rank": rows["attack_rank"] + 1, "adversarial_rank": rows["adversarial_rank"] + 1,
        "linf": np.nan, "l2": np.nan, "raw_linf": np.nan, "seconds": np.nan,
        "gradient_steps": steps, "forward_passes": steps, "batch": 64,
        "winner": file.attack, "inherited": False,
        "defect": first & (rows["adversarial_dist"] > rows["attack_dist"]),
    }  # fmt: skip
    return pd.DataFrame(columns)
