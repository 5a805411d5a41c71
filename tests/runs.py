"""A run that is ready to be evaluated, made in a moment and without Ray: a drawn catalog and a
network with random weights. And what a test asks of a run.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset as ds
import yaml

from advrec.catalog.dataset import Catalog
from advrec.evaluation import effort
from advrec.model import checkpoint
from advrec.run.directory import Run
from advrec.spec.defenses import CurriculumAdversarialTraining
from advrec.spec.models import OwnModel
from advrec.spec.study import Study
from tests.conftest import STUDY, draw_catalog, random_network

EVALUATION: dict[str, Any] = STUDY["evaluation"]


def write_study(path: Path, run: Run, *, evaluation: dict[str, Any], **sections: Any) -> Path:
    """Write a study of the run's catalog and network; its name is that of the file."""
    study = {
        "name": path.stem,
        "catalog": {
            "source": "deepfashion",
            "root": str(run.directory / "synthetic"),
            "image_size": 32,
        },
        "models": {"unsecured": {"defense": "none", "epochs": 1}},
        "evaluation": EVALUATION | evaluation,
        "resources": STUDY["resources"],
    }
    path.write_text(yaml.safe_dump(study | sections))
    return path


def ready_run(directory: Path) -> Run:
    """Make a run that has everything but tuples, embeddings and outcomes."""
    run = Run(directory)
    with run.lock():  # whose file says that this directory is a run
        draw_catalog(run)
    catalog = Catalog(run)
    checkpoint.save(
        run.weights("unsecured"), random_network(len(catalog.categories), len(catalog.textures))
    )
    return run


def most_steps(study: Study, articles: int) -> dict[str, int]:
    """Optimizer steps of a study's models on so many articles, if curricula take all they may."""
    epochs = {
        name: spec.epochs * (len(spec.ks) if isinstance(spec, CurriculumAdversarialTraining) else 1)
        for name, spec in study.models.items()
        if not isinstance(spec, OwnModel)
    }
    return effort.optimizer_steps(study, epochs, articles)


def blocks(run: Path) -> dict[str, int]:
    """The blocks of outcomes that a run holds, and when each was written."""
    return {
        str(path.relative_to(run)): path.stat().st_mtime_ns
        for path in sorted(run.glob("attacks/*/*/block-*.parquet"))
    }


def rows(run: Path) -> pd.DataFrame:
    """Every row of a run's outcomes, in one order, but for its seconds."""
    table = ds.dataset(run / "attacks", partitioning="hive").to_table().to_pandas()
    return (
        table.drop(columns="seconds")
        .sort_values(["model", "attack", "tuple_id", "epsilon"])
        .reset_index(drop=True)
    )
