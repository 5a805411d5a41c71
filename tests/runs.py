"""A run that is ready to be evaluated, made in a moment and without Ray: a drawn catalog and a
network with random weights.
"""

from pathlib import Path
from typing import Any

import yaml

from advrec.catalog.dataset import Catalog
from advrec.model import checkpoint
from advrec.run.directory import Run
from tests.conftest import draw_catalog, random_network

EVALUATION = {
    "tuples": 12,
    "block": 4,
    "epsilons": [0.01, 0.05],
    "attacks": ["fgsm", "pgd-2"],
    "examples": 2,
    "checks": 0,
}


def write_study(path: Path, run: Run, *, evaluation: dict[str, Any], **sections: Any) -> Path:
    """A study of the run's catalog and network, as a file."""
    study = {
        "name": path.stem,
        "catalog": {
            "source": "deepfashion",
            "root": str(run.directory / "synthetic"),
            "image_size": 32,
        },
        "models": {"unsecured": {"defense": "none", "epochs": 1}},
        "evaluation": EVALUATION | evaluation,
        "resources": {"actors": 2},
    }
    path.write_text(yaml.safe_dump(study | sections))
    return path


def ready_run(directory: Path) -> Run:
    """Everything but tuples, embeddings and outcomes."""
    run = Run(directory)
    with run.lock():  # whose file says that this directory is a run
        draw_catalog(run)
    catalog = Catalog(run)
    checkpoint.save(
        run.weights("unsecured"), random_network(len(catalog.categories), len(catalog.textures))
    )
    return run
