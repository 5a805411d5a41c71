"""Stage 3 of a study: tuples, embeddings, indexes, and the outcomes of every attack."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from advrec.catalog.dataset import Catalog
from advrec.run import provenance, schema
from advrec.run.directory import IMAGES, Run
from advrec.run.files import read_json, write_json, write_table
from advrec.run.identity import Identities
from advrec.run.log import say
from advrec.run.tables import read_table
from advrec.spec.models import OwnModel
from advrec.spec.study import Study
from advrec.stages import plan
from advrec.stages.train import adopt

SHOWN = 10  # lines about what was set aside


def run_stage(run: Run, study: Study, parts: Identities, connect: Callable[[], bool]) -> None:
    """Attack what is not attacked yet.

    Args:
        connect: connects to Ray, and says whether nodes may join later; called when there is work.

    Raises:
        AdvrecError: an earlier stage is missing, or it could not be done.
    """
    run.require_catalog()
    for model, spec in study.models.items():
        if isinstance(spec, OwnModel) and not run.weights(model).exists():
            adopt(run, study, model, spec, parts.models[model])
        run.require_weights(model)
    catalog = Catalog(run)
    if not run.tuples.exists():
        tuples = _draw_tuples(study, catalog)
        assert parts.tuples is not None, "their CSV was there a moment ago"
        run.claim("tuples", parts.tuples, made=False)
        write_table(run.tuples, tuples)
    todo = plan.make(run, study)
    set_aside = {key: why for key, why in todo.set_aside.items() if key.startswith(IMAGES)}
    if todo.missing:
        set_aside |= _evaluate(run, study, catalog, todo, connect)
    else:
        say("evaluate: done before")
    run.write_set_aside(set_aside)


def _evaluate(
    run: Run, study: Study, catalog: Catalog, todo: plan.Plan, connect: Callable[[], bool]
) -> dict[str, str]:
    """Do what is missing; returns the reason of each block that was given up on, by key."""
    for model, spec in study.models.items():
        if isinstance(spec, OwnModel):
            plan.check_own(model, spec)  # every process that attacks builds it anew
    grows = study.resources.actors != 0 and connect()
    from advrec.distributed.evaluate import evaluate_models

    tuples = read_table(run.tuples, schema.TUPLES)
    write_json(run.provenance, _provenance(run, study, catalog, len(tuples)))
    failed = evaluate_models(
        run, study, catalog, tuples, todo.unfinished, todo.unexamined, grows=grows
    )
    for key, reason in list(failed.items())[:SHOWN]:
        say(f"evaluate: set aside {key}: {reason}")
    if len(failed) > SHOWN:
        say(f"evaluate: set aside {len(failed) - SHOWN} more; see {run.directory}/set_aside.json")
    return failed


def _draw_tuples(study: Study, catalog: Catalog) -> pa.Table:
    from advrec.evaluation import tuples

    wanted, split = study.evaluation.tuples, study.evaluation.split
    if isinstance(wanted, str):
        return tuples.read_csv(catalog, split, Path(wanted))
    return tuples.sample(catalog, split, wanted, study.seed)


def _provenance(run: Run, study: Study, catalog: Catalog, tuples: int) -> dict[str, Any]:
    """Describe this machine and its code, before what made the earlier rows.

    Why: every evaluation adds rows that its own machine and code made.
    """
    before = read_json(run.provenance, default={})
    return {
        **provenance.describe(),
        "earlier": [*before.pop("earlier", []), before] if before else [],
        "seed": study.seed,
        "tuples": tuples,
        "sha256": {
            "catalog": catalog.sha256,
            "tuples": provenance.file_hash(run.tuples),
            "weights": {model: provenance.file_hash(run.weights(model)) for model in study.models},
        },
    }
