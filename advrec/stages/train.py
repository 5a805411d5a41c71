"""Stage 2 of a study: every model that is not trained yet, in the study's order."""

import shutil
from collections.abc import Callable, Mapping
from typing import Any

from advrec.catalog.dataset import Catalog
from advrec.errors import AdvrecError
from advrec.evaluation import promoted
from advrec.run.directory import Run
from advrec.run.files import read_json
from advrec.run.identity import Identities
from advrec.run.lineage import Identity, beneath, images_beneath, weights_hash
from advrec.run.log import say
from advrec.spec import accuracy
from advrec.spec.defenses import TrainedModel
from advrec.spec.label_free import LabelFree
from advrec.spec.models import AnyTraining, JoinedModel, OwnModel
from advrec.spec.study import Study
from advrec.stages import photographs

EXCEEDED = 0.05
"""Share of test images above rho from which on it is said that the constraint does not hold."""


def run_stage(run: Run, study: Study, parts: Identities, connect: Callable[[], bool]) -> None:
    """Train the models, or take them as they are; those that are there are left alone.

    Args:
        connect: connects to Ray, and says whether nodes may join later; called when there is work.

    Raises:
        ConfigError: a model cannot be built.
        AdvrecError: there is no catalog yet, or training failed.
    """
    run.require_catalog()
    promoted.draw(run, study, Catalog(run))  # what cannot be promoted is said before hours of work
    trained, joined = [], {}
    for model, spec in study.models.items():
        if run.is_trained(model):
            photographs.refuse_changed(run, study, model)
            shutil.rmtree(run.training(model), ignore_errors=True)  # of a driver that was killed
            say(f"train {model}: done before")
        elif isinstance(spec, OwnModel):
            adopt(run, study, model, spec, parts.models[model])
        elif isinstance(spec, JoinedModel):
            joined[model] = spec
        elif isinstance(spec, AnyTraining):
            _check_start(run, study, model, spec)
            trained.append(model)
    if trained:
        _train(run, study, {model: parts.models[model] for model in trained}, connect)
    for model, spec in joined.items():
        join(run, model, spec, parts.models[model], study.seed)
    if hybrids := [model for model in study.hybrids if not run.is_trained(model)]:
        from advrec.stages.hybrids import train

        for model in hybrids:
            train(run, study, model, parts.models[model], connect)


def adopt(run: Run, study: Study, model: str, spec: OwnModel, identity: Identity) -> None:
    """Take a model of the user's own as it is.

    Raises:
        ConfigError: it is no model, or its state dict does not determine it.
        AdvrecError: its weights cannot be had.
    """
    from advrec.model import adoption, checkpoint
    from advrec.model.guarded import door_of

    try:
        adopted = adoption.adopt(spec, study.catalog.image_size)
    except AdvrecError as error:
        raise type(error)(f"models.{model}: {error}") from None
    network = adopted.network
    network.behind(door_of(spec.ingest, study.seed))
    named = network.architecture.named
    loaded = {"loaded": named.weights} if named is not None and named.weights else {}
    run.claim(f"models/{model}", identity | loaded, made=False)
    run.forget_measurements(model)
    checkpoint.save(run.weights(model), network)
    weights = f" with its weights {loaded['loaded']}" if loaded else ""
    say(
        f"model {model}: {spec.shown} is taken as it is{weights}, {network.dimension} values an "
        "embedding"
    )
    if adopted.taken:
        say(f"model {model}: {spec.checkpoint}: {adopted.taken}")
    if adopted.slower:
        reasons = "; ".join(dict.fromkeys(adopted.slower.values()))
        say(f"model {model}: attacked {network.architecture.form}, for a faster form {reasons}")


def join(run: Run, model: str, spec: JoinedModel, identity: Identity, seed: int) -> None:
    """Make a joined model of its parts, which are there.

    Args:
        seed: of the study.

    Raises:
        AdvrecError: one is not.
    """
    from advrec.model import checkpoint
    from advrec.model.guarded import door_of
    from advrec.model.joined import JoinedArchitecture, JoinedNetwork

    for part in spec.join:
        run.require_weights(part)
    parts = [checkpoint.load(run.weights(part)) for part in spec.join]
    assert spec.weights is not None, "study.load resolves it"
    architecture = JoinedArchitecture(
        parts=tuple(part.architecture for part in parts),
        weights=spec.weights,
        door=door_of(spec.ingest, seed),
    )
    network = JoinedNetwork(architecture, parts)
    run.claim(f"models/{model}", identity | beneath(run, spec), made=False)
    run.forget_measurements(model)
    checkpoint.save(run.weights(model), network)
    say(f"model {model}: {' + '.join(spec.join)}, {network.dimension} values an embedding")


def _train(
    run: Run, study: Study, identities: Mapping[str, Identity], connect: Callable[[], bool]
) -> None:
    identities = {
        model: identity | photographs.prepared(run, study, model, connect)
        for model, identity in identities.items()
    }
    known = run.identities() | {f"models/{model}": made for model, made in identities.items()}
    identities = {
        model: made | images_beneath(study, model, known) for model, made in identities.items()
    }
    for model, identity in identities.items():
        for line in photographs.remarks(run, study, model):
            say(f"train {line}")
        run.claim(f"models/{model}", identity, made=False)
    grows = not study.resources.trains_here and connect()
    from advrec.distributed.train import train_models

    names = {model: weights_hash(identity)[:12] for model, identity in identities.items()}
    train_models(run, study, names, lambda model: _say_measured(run, study, model), grows=grows)


def _say_measured(run: Run, study: Study, model: str) -> None:
    metrics = read_json(run.model(model) / "metrics.json")
    if "drift_median" in metrics:
        say(
            f"train {model}: clean embeddings of test images moved by "
            f"{100 * metrics['drift_median']:.1f} % of their length from those of "
            f"{study.models[model].init}, under its own attack by "
            f"{100 * metrics['attacked_drift_median']:.1f} % (medians, n = {metrics['n']})"
        )
        if metrics.get("above_rho", 0.0) > EXCEEDED:
            say(f"train {model}: WARNING: {_exceeded(metrics)}")
        return
    if metrics["clean_accuracy"] is None:
        say(
            f"train {model}: test precision of the first texture "
            f"{100 * metrics['texture_top1_precision']:.1f} % clean, "
            f"{100 * metrics['adversarial_texture_top1_precision']:.1f} % under "
            f"{accuracy.PUBLISHED} at {accuracy.EPSILON:g} (n = {metrics['n_textures']})"
        )
        return
    selected = ""
    if metrics["selected_on"] == "test":
        selected = "; its best epoch was chosen on the test split too"
    say(
        f"train {model}: test accuracy {100 * metrics['clean_accuracy']:.1f} % clean, "
        f"{100 * metrics['adversarial_accuracy']:.1f} % under "
        f"{accuracy.PUBLISHED} at {accuracy.EPSILON:g} "
        f"(n = {metrics['n']}{selected})"
    )


def _exceeded(metrics: Mapping[str, Any]) -> str:
    """Say that the constraint of lore does not hold."""
    return (
        f"rho is {metrics['rho']:g}, and {100 * metrics['above_rho']:.0f} % of {metrics['n']} test "
        f"images moved by more than {100 * metrics['rho']:.3g} % of their embeddings' length "
        f"(median {100 * metrics['drift_median']:.3g} %, of 95 % at most "
        f"{100 * metrics['drift_95']:.3g} %): the constraint does not hold; a smaller rho keeps "
        "more of the lists, a larger one is safer"
    )


def _check_start(run: Run, study: Study, model: str, spec: AnyTraining) -> None:
    """Find out here, not in a worker, that the weights to start from cannot be had."""
    from advrec.training import start

    def on_taken(taken: str) -> None:
        say(f"train {model}: {spec.weights}: {taken}")

    try:
        if spec.init != "none" and not run.weights(spec.init).exists():
            first = study.models[spec.init]  # is trained before
            if isinstance(spec, LabelFree):
                return
            assert isinstance(first, TrainedModel), "a study starts from no other"
            both = [(each.backbone, each.width, each.heads) for each in (first, spec)]
            if both[0] != both[1]:
                raise start.other_architecture(spec)
        elif spec.init != "none" or spec.weights != "none":
            start.initial_network(run, spec, Catalog(run), study.seed, on_taken)
    except AdvrecError as error:
        raise type(error)(f"models.{model}: {error}") from None
