"""One trial of a search: train one model, and measure on the validation split what it is searched
for. One process; it knows no Ray.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from advrec.catalog.dataset import Catalog
from advrec.errors import ConfigError
from advrec.evaluation import lists, tuples
from advrec.evaluation.block import block_of, method_of
from advrec.evaluation.changes import changes
from advrec.evaluation.harness import evaluate_block
from advrec.model import checkpoint
from advrec.model.arithmetic import exact_arithmetic
from advrec.model.checkpoint import Network
from advrec.model.encoder import frozen
from advrec.model.fashionnet import FashionNet
from advrec.model.memory import keep_freed
from advrec.recommenders import load
from advrec.recommenders.bank import Ids
from advrec.recommenders.recommender import Recommender
from advrec.run.cells import Cell
from advrec.run.directory import Run
from advrec.run.files import read_json, write_json
from advrec.spec import accuracy
from advrec.spec import search as search_file
from advrec.spec import study as study_file
from advrec.spec.attacks import AttackSpec
from advrec.spec.label_free import LabelFree, original
from advrec.spec.models import AnyTraining
from advrec.spec.search import TuneSpec
from advrec.spec.study import Study
from advrec.training import data, quality, state
from advrec.training.loop import fit
from advrec.training.start import initial_network
from advrec.training.state import Epoch

THREADS = 1  # of a trial
MEASURED = (
    "clean_accuracy",
    "adversarial_accuracy",
    "n",
    "success_rate",
    "tuples",
    "epochs",
    "training_seconds",
    "seconds",
)


def trial_study(content: dict[str, Any], directory: Path, values: dict[str, Any]) -> Study:
    """The study of a trial.

    Args:
        content: of the study file, whose paths are relative to `directory`.
        values: of the space, by key.
    """
    return study_file.resolve(search_file.assigned(content, values), "this trial", directory)


def run_trial(
    spec: TuneSpec,
    study: Study,
    base: Run,
    directory: Path,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> dict[str, Any]:
    """Train, or go on, and measure; what is measured is kept in `directory` and not measured again.

    Args:
        base: holds the catalog, and the models that the searched one starts from.
        directory: of this trial.

    Returns:
        MEASURED: the objectives as fractions 0..1, their n, and seconds.
    """
    known, saved = directory / "metrics.json", directory / "state.safetensors"
    if known.exists():
        found: dict[str, Any] = read_json(known)
        return found
    for epoch in state.read_history(saved):
        on_epoch(epoch)
    start = time.monotonic()
    torch.set_num_threads(THREADS)
    keep_freed()
    model = study.models[spec.model]
    assert isinstance(model, AnyTraining), "refused before"
    catalog = Catalog(base)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = initial_network(base, model, catalog, study.seed).to(device)
    seed, source = study.seed, data.source(base, model, catalog)
    history = fit(
        network, model, catalog, seed=seed, source=source, checkpoint=saved, on_epoch=on_epoch
    ).history
    checkpoint.save(directory / "model.safetensors", network)
    copied = frozen(network).to(device)
    with exact_arithmetic(THREADS):
        recommender = load.from_catalog(copied, catalog, device)
    ids = catalog.ids_of("validation")
    if isinstance(model, LabelFree):
        kept = {
            "overlap": _overlap(
                base, original(study.models, spec.model), catalog, recommender, device
            )
        }
    else:
        kept = _accuracies(copied, catalog, ids)
    measured = {
        **kept,
        "n": len(ids),
        "success_rate": _success(spec, study, base, catalog, recommender),
        "tuples": spec.tuples,
        "epochs": len(history),
        "training_seconds": sum(epoch.seconds for epoch in history),
        "seconds": time.monotonic() - start,
    }
    write_json(known, measured)
    saved.unlink(missing_ok=True)  # another trial of the same values may have done it
    return measured


def _accuracies(network: Network, catalog: Catalog, ids: Ids) -> dict[str, float]:
    """Accuracies of a frozen classifier on articles (n,), fractions 0..1."""
    assert isinstance(network, FashionNet)
    clean = quality.count(network, catalog, ids)
    attacked = quality.count(
        network, catalog, ids, attacks=(quality.PUBLISHED,), epsilon=accuracy.EPSILON
    )
    return {
        "clean_accuracy": float(clean[1] / clean[0]),
        "adversarial_accuracy": float(attacked[1] / attacked[0]),
    }


def _overlap(
    base: Run, model: str, catalog: Catalog, recommender: Recommender, device: str
) -> float:
    """The share, 0..1, of the validation articles' lists of ten that `model` has too."""
    first = frozen(checkpoint.load(base.weights(model))).to(device)
    ids = catalog.ids_of("validation", lists.QUERIES)
    with exact_arithmetic(THREADS):
        items = load.from_catalog(first, catalog, device).bank.items
    made = changes(recommender.bank.items, items, ids)
    return float(np.mean(made["overlap"].to_numpy()))


def _success(
    spec: TuneSpec, study: Study, base: Run, catalog: Catalog, recommender: Recommender
) -> float:
    """The share of tuples, 0..1, that a recommender loses to the search's attack."""
    entry = AttackSpec.named(spec.attack)
    entry = entry.model_copy(update={"stop": "rank-1", "nested": False})
    drawn = _tuples(spec, study, base, catalog)
    block = block_of(study, Cell("search", spec.model, entry, (spec.epsilon,)), drawn, catalog)
    with exact_arithmetic(THREADS):
        ranks = evaluate_block(recommender, method_of(entry), block).rows["adversarial_rank"]
    return float(np.mean(ranks.to_numpy() <= spec.rank))


def _tuples(spec: TuneSpec, study: Study, base: Run, catalog: Catalog) -> pa.Table:
    """The tuples of all trials; without categories they are apart by the original's lists."""
    if catalog.labelled:
        return tuples.sample(catalog, "validation", spec.tuples, study.seed)
    first, ids = original(study.models, spec.model), catalog.ids_of("validation")
    with exact_arithmetic(THREADS):
        index = load.from_run(base, first, catalog).index
    return tuples.sample_apart(index, ids, "validation", spec.tuples, study.seed, first)


def check(spec: TuneSpec, study: Study, base: Run) -> None:
    """Refuse, before any trial, more tuples than the catalog has: raises ConfigError."""
    try:
        _tuples(spec, study, base, Catalog(base))
    except ConfigError as error:
        raise ConfigError(f"tuples: {error}") from None
