"""Stage 3 of a study: tuples, embeddings, indexes, and the outcomes of every attack."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from advrec.catalog.dataset import Catalog
from advrec.run import identity, provenance, schema
from advrec.run.directory import IMAGES, UNKNOWN, Run
from advrec.run.files import read_json, write_json, write_table
from advrec.run.identity import Identities
from advrec.run.log import say
from advrec.run.tables import read_table
from advrec.spec.models import JoinedModel, OwnModel
from advrec.spec.study import Study
from advrec.stages import category_attack, plan
from advrec.stages.train import adopt, join

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
        if isinstance(spec, JoinedModel) and not run.weights(model).exists():
            join(run, model, spec, parts.models[model], study.seed)
        run.require_weights(model)
    catalog = Catalog(run)
    if not run.tuples.exists():
        _draw_tuples(run, study, parts, catalog, connect)
    todo = plan.make(run, study)
    earlier = (IMAGES, UNKNOWN)
    set_aside = {key: why for key, why in todo.set_aside.items() if key.startswith(earlier)}
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
    for line in category_attack.left_out(study):
        say(f"evaluate: {line}")
    grows = study.resources.actors != 0 and connect()
    from advrec.distributed.evaluate import evaluate_models
    from advrec.evaluation import promoted

    tuples = read_table(run.tuples, schema.TUPLES)
    write_json(run.provenance, _provenance(run, study, catalog, len(tuples)))
    failed = evaluate_models(
        run,
        study,
        catalog,
        tuples,
        promoted.draw(run, study, catalog),
        todo.unfinished,
        todo.unexamined,
        grows=grows,
    )
    for key, reason in list(failed.items())[:SHOWN]:
        say(f"evaluate: set aside {key}: {reason}")
    if len(failed) > SHOWN:
        say(f"evaluate: set aside {len(failed) - SHOWN} more; see {run.directory}/set_aside.json")
    return failed


def _draw_tuples(
    run: Run, study: Study, parts: Identities, catalog: Catalog, connect: Callable[[], bool]
) -> None:
    """Write the tuples: a CSV's, pairs of different categories, or pairs that are apart by the
    first model's lists.
    """
    from advrec.evaluation import tuples

    assert parts.tuples is not None, "their CSV was there a moment ago"
    wanted, split, drawn_by = study.evaluation.tuples, study.evaluation.split, {}
    if isinstance(wanted, str):
        drawn = tuples.read_csv(catalog, split, Path(wanted))
    elif catalog.labelled:
        drawn = tuples.sample(catalog, split, wanted, study.seed)
    else:
        from advrec.distributed import evaluate
        from advrec.recommenders import load

        drawn_by = identity.lists_of(study)
        model = drawn_by["lists_of"]
        evaluate.embed(run, study, catalog, model, grows=study.resources.actors != 0 and connect())
        index = load.from_run(run, model, catalog).index
        drawn = tuples.sample_apart(index, catalog.ids_of(split), split, wanted, study.seed, model)
        say(f"tuples: of articles of which neither stands in the other's list of ten by {model}")
    run.claim("tuples", parts.tuples | drawn_by, made=False)
    write_table(run.tuples, drawn)


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
            "weights": {
                **{model: provenance.file_hash(run.weights(model)) for model in study.encoders},
                **{model: provenance.file_hash(run.bank(model)) for model in study.hybrids},
            },
        },
    }
