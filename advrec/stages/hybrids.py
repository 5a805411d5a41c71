"""Training of a study's hybrid recommenders, a part of its stage 2: each after its encoder has
embedded the catalog, in this process.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import torch

from advrec.catalog import interactions as purchases_of
from advrec.catalog.dataset import Catalog
from advrec.catalog.interactions import Interactions
from advrec.distributed import evaluate
from advrec.errors import AdvrecError, first_line
from advrec.evaluation import features, utility
from advrec.model import checkpoint
from advrec.recommenders.bank import Bank, Floats, Seen
from advrec.recommenders.hybrid import Factors
from advrec.recommenders.purchases import Purchases
from advrec.run import schema
from advrec.run.directory import Run
from advrec.run.files import write_json, write_table
from advrec.run.interactions import SEEN
from advrec.run.lineage import Identity, beneath
from advrec.run.log import say
from advrec.run.progress import Progress
from advrec.run.tables import read_embeddings
from advrec.spec.models import AnyHybrid
from advrec.spec.study import Study, canonical_hash
from advrec.training import hybrid, state

STATE = "state.safetensors"  # below the training's directory


def train(
    run: Run,
    study: Study,
    model: str,
    identity: Identity,
    connect: Callable[[], bool],
) -> None:
    """Train a hybrid, or go on with its training, and write models/<model>/ of it.

    bank.safetensors comes last: its presence says that all is there.

    Args:
        identity: what determines its factors, as far as the study says it.
        connect: connects to Ray, and says whether nodes may join later.

    Raises:
        AdvrecError: its encoder is not trained or cannot embed, there are no interactions, or its
            training diverges.
    """
    spec, catalog = study.hybrids[model], Catalog(run)
    run.require_weights(spec.encoder)
    known = purchases_of.read(run, len(catalog))
    embeddings = _embed(run, study, catalog, spec.encoder, connect)
    identity = identity | beneath(run, spec) | {"catalog_sha256": catalog.sha256}
    run.claim(f"models/{model}", identity, made=False)
    storage = run.training(model) / canonical_hash(identity)[:12]
    try:
        factors = _fit(model, spec, embeddings, known, study.seed, storage)
        bank = factors.centred(embeddings).bank(embeddings, Seen(*known.seen()))
    except (FloatingPointError, ValueError) as error:
        raise AdvrecError(
            f"models.{model}: its training diverges ({first_line(error)}); lower learning_rate, "
            f"which is {spec.learning_rate:g}"
        ) from None
    _write(run, study, model, factors, bank, embeddings, known)
    shutil.rmtree(run.training(model), ignore_errors=True)


def _embed(
    run: Run, study: Study, catalog: Catalog, encoder: str, connect: Callable[[], bool]
) -> Floats:
    """Raw embeddings (N, D) of the catalog, as the evaluation has them."""
    grows = study.resources.actors != 0 and connect()
    evaluate.embed(run, study, catalog, encoder, grows=grows)
    return read_embeddings(run, encoder, checkpoint.load(run.weights(encoder)).dimension)


def _fit(
    model: str,
    spec: AnyHybrid,
    embeddings: Floats,
    known: Interactions,
    seed: int,
    storage: Path,
) -> Factors:
    """The factors of a training on embeddings (N, D); it goes on from what `storage` holds."""
    users, articles = known.training()
    purchases = Purchases(
        users, articles, num_users=known.num_users, num_articles=known.num_articles
    )
    file, threads = storage / STATE, torch.get_num_threads()
    done, total = len(state.read_history(file)), spec.total_epochs
    torch.set_num_threads(1)  # sums of any number of threads differ in their last bits
    try:
        with Progress(f"train {model}", total, "epochs", done=done) as progress:
            trained = hybrid.fit(
                spec,
                embeddings,
                purchases,
                seed=seed,
                checkpoint=file,
                on_epoch=lambda epoch: progress.advance(1, f"loss {epoch.train_loss:.3f}"),
            )
    finally:
        torch.set_num_threads(threads)
    return trained.factors()


def _write(
    run: Run,
    study: Study,
    model: str,
    factors: Factors,
    bank: Bank,
    embeddings: Floats,
    known: Interactions,
) -> None:
    """Write what a hybrid needs without the training set, and its metrics; the bank last."""
    users, articles = known.training()
    rows = utility.utility(bank, known)
    changes = features.relative_changes(factors, embeddings, known, seed=study.seed)
    metrics = {"n": int(known.held_out.sum()), "utility": rows, "feature_attacks": changes}
    run.forget_measurements(model)
    write_table(run.seen(model), schema.table(SEEN, {"query_id": users, "article_id": articles}))
    write_table(run.users_of(model), pq.read_table(run.users))
    write_json(run.model(model) / "metrics.json", metrics)
    factors.save(run.bank(model))
    for row in rows:
        if (row["by"], row["articles"], row["quantity"]) == ("model", "all", "auc"):
            say(
                f"train {model}: AUC of held-out purchases {row['value']:.3f} "
                f"({row['low']:.3f} to {row['high']:.3f}, n = {row['n']:,})"
            )
