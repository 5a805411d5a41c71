"""Stage 2 of a study: every model that is not trained yet, in the study's order."""

from collections.abc import Callable

from advrec.catalog.dataset import Catalog
from advrec.errors import AdvrecError, ConfigError
from advrec.run.directory import Run
from advrec.run.files import read_json
from advrec.run.identity import Identities, Identity
from advrec.run.log import say
from advrec.spec import accuracy
from advrec.spec.defenses import TrainedModel
from advrec.spec.models import OwnModel
from advrec.spec.study import Study, canonical_hash


def run_stage(run: Run, study: Study, parts: Identities, connect: Callable[[], bool]) -> None:
    """Train the models, or take them as they are; those that are there are left alone.

    Args:
        connect: connects to Ray, and says whether nodes may join later; called when there is work.

    Raises:
        ConfigError: a model cannot be built.
        AdvrecError: there is no catalog yet, or training failed.
    """
    run.require_catalog()
    for model, spec in study.models.items():
        if run.weights(model).exists():
            say(f"train {model}: done before")
        elif isinstance(spec, OwnModel):
            adopt(run, study, model, spec, parts.models[model])
        else:
            _train(run, study, model, spec, parts.models[model], connect)


def adopt(run: Run, study: Study, model: str, spec: OwnModel, identity: Identity) -> None:
    """Take a model of the user's own as it is.

    Raises:
        ConfigError: it is no model, or its state dict does not determine it.
    """
    from advrec.model import adoption, checkpoint

    try:
        adopted = adoption.adopt(spec, study.catalog.image_size)
    except ConfigError as error:
        raise ConfigError(f"models.{model}: {error}") from None
    network = adopted.network
    run.claim(f"models/{model}", identity, made=False)
    run.forget_measurements(model)
    checkpoint.save(run.weights(model), network)
    say(f"model {model}: {spec.model} is taken as it is, {network.dimension} values an embedding")
    if adopted.taken:
        say(f"model {model}: {spec.checkpoint}: {adopted.taken}")
    if adopted.slower:
        reasons = "; ".join(dict.fromkeys(adopted.slower.values()))
        say(f"model {model}: attacked {network.architecture.form}, for a faster form {reasons}")


def _train(
    run: Run,
    study: Study,
    model: str,
    spec: TrainedModel,
    identity: Identity,
    connect: Callable[[], bool],
) -> None:
    _check_start(run, study, model, spec)
    run.claim(f"models/{model}", identity, made=False)
    grows = not study.resources.trains_here and connect()
    from advrec.distributed.train import train_model

    train_model(run, study, model, spec, canonical_hash(identity)[:12], grows=grows)
    metrics = read_json(run.model(model) / "metrics.json")
    selected = ""
    if metrics["selected_on"] == "test":
        selected = "; its best epoch was chosen on the test split too"
    say(
        f"train {model}: test accuracy {100 * metrics['clean_accuracy']:.1f} % clean, "
        f"{100 * metrics['adversarial_accuracy']:.1f} % under "
        f"{accuracy.PUBLISHED} at {accuracy.EPSILON:g} "
        f"(n = {metrics['n']}{selected})"
    )


def _check_start(run: Run, study: Study, model: str, spec: TrainedModel) -> None:
    """Find out here, not in a worker, that the weights to start from cannot be had."""
    if spec.init != "none" or spec.weights != "none":
        from advrec.training.start import initial_network

        def on_taken(taken: str) -> None:
            say(f"train {model}: {spec.weights}: {taken}")

        try:
            initial_network(run, spec, Catalog(run), study.seed, on_taken)
        except AdvrecError as error:
            raise type(error)(f"models.{model}: {error}") from None
