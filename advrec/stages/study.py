"""The stages of a study, in order. The command line, the jobs and Python call these functions.

Every stage does what is missing and nothing else, so a stage run again resumes. Torch and Ray are
imported only when there is work: a finished study is looked through in a moment.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from advrec.attacks import names
from advrec.catalog.dataset import Catalog
from advrec.distributed.placement import cluster_address, place, place_training, this_machine
from advrec.errors import AdvrecError, ConfigError
from advrec.evaluation import cells
from advrec.run import log, provenance, schema
from advrec.run.directory import IMAGES, Run, remove_leftovers
from advrec.run.files import read_json, write_json, write_table, write_text
from advrec.run.fingerprint import fingerprint
from advrec.run.log import say
from advrec.run.tables import read_table
from advrec.spec import study as study_file
from advrec.spec.models import OwnModel, TrainedModel
from advrec.spec.study import Study
from advrec.stages import prepare as prepare_stage
from advrec.stages import status

SHOWN = 10  # of what was set aside
STAGES = ("prepare", "train", "evaluate", "report")


def run_study(
    study: Study,
    out: Path,
    *,
    stages: tuple[str, ...] = STAGES,
    address: str | None = None,
    partial: bool = False,
    other: Run | None = None,
) -> int:
    """Run the given stages of a study in the run directory `out`.

    Returns:
        Exit code of contract 1: 0, or 3 if work was set aside and the study does not accept that.

    Raises:
        ConfigError: the study is impossible, or `out` holds something that another configuration
            made.
        AdvrecError: it could not be done.
    """
    run = Run(out)
    run.check_directory()
    with_code = "train" in stages or "evaluate" in stages
    check(run, study, with_code=with_code)
    if with_code and cluster_address(address) is None:
        check_room(study)
    functions: dict[str, Callable[[], None]] = {
        "prepare": lambda: prepare(run, study, cluster),
        "train": lambda: train(run, study, cluster),
        "evaluate": lambda: evaluate(run, study, cluster),
        "report": lambda: report(run, partial=partial, other=other),
    }
    with run.lock(), log.kept(run.log), _Cluster(address) as cluster:
        check_run(run, study, with_code=with_code)
        remove_leftovers(run)
        write_text(run.study, yaml.safe_dump(study_file.as_dict(study), sort_keys=False))
        for stage in stages:
            functions[stage]()
    return exit_code(run, study)


def exit_code(run: Run, study: Study) -> int:
    return 3 if run.set_aside() and not study.accept_set_aside else 0


def check(run: Run, study: Study, *, with_code: bool = True) -> None:
    """Refuse what cannot be done, before any work: raises ConfigError. Without `with_code`, files
    that the run is not made of any more are not looked at: a report is made from Parquet alone.
    """
    check_attacks(study)
    if with_code:
        check_files(study)
        check_models(run, study)
    check_run(run, study, with_code=with_code)


def check_room(study: Study) -> None:
    """Refuse more processes than this machine has cores for, before any work: raises AdvrecError."""
    resources, nodes = (
        study.resources.model_copy(update={"gpus_per_actor": 0.0}),
        [{"CPU": float(len(os.sched_getaffinity(0)))}],
    )
    place(resources, nodes, grows=False)
    place_training(resources, nodes, grows=False)


def check_files(study: Study) -> None:
    """Refuse a file that is not there, before any work."""
    tuples = study.evaluation.tuples
    files = {} if isinstance(tuples, int) else {"evaluation.tuples": tuples}
    files |= {
        f"models.{name}.weights": spec.weights
        for name, spec in study.models.items()
        if spec.weights not in ("none", "imagenet")
    }
    for key, path in files.items():
        if not Path(path).is_file():
            raise ConfigError(f"{key}: {path} does not exist; name an existing file")


def check_attacks(study: Study) -> None:
    """Refuse an attack that does not exist, before any work."""
    for number, attack in enumerate(study.evaluation.attacks):
        try:
            names.check(attack.attack, restarts=attack.restarts)
        except ConfigError as error:
            raise ConfigError(f"evaluation.attacks.{number}: {error}") from None


def check_models(run: Run, study: Study) -> None:
    """Refuse a model of the user's own that is not there, before any work. Its module is imported
    only where the model was not taken before.
    """
    for name, spec in study.models.items():
        if isinstance(spec, OwnModel):
            try:
                fingerprint(spec)
            except ConfigError as error:
                raise ConfigError(f"models.{name}: {error}") from None
            if not run.weights(name).exists():
                _check_own(name, spec)


def _check_own(name: str, spec: OwnModel) -> None:
    from advrec.model import own

    try:
        own.check(spec)
    except ConfigError as error:
        raise ConfigError(f"models.{name}: {error}") from None


def check_run(run: Run, study: Study, *, with_code: bool = True) -> None:
    """Refuse a run directory that holds something made with another configuration, before any work;
    without `with_code`, files that a model of the user's own comes from are not looked at.
    """
    if run.catalog.exists():
        run.check_identity("catalog", prepare_stage.identity(study))
    for model in study.models:
        if run.weights(model).exists():
            run.check_identity(f"models/{model}", model_identity(study, model, with_code=with_code))
    wanted = study.evaluation.tuples
    if run.tuples.exists() and (isinstance(wanted, int) or Path(wanted).exists()):
        run.check_identity("tuples", tuples_identity(study))
    for cell in status.every_cell(study):
        if cells.is_begun(run, cell):
            run.check_identity(cell.key, cells.identity(study, cell))


def model_identity(study: Study, model: str, *, with_code: bool = True) -> dict[str, Any]:
    """Everything of the study that determines a model's weights, that of its `init` included."""
    spec = study.models[model]
    identity = {**spec.identity(), "seed": study.seed}
    if isinstance(spec, OwnModel):
        return identity | (fingerprint(spec) if with_code else {})
    if identity["init"] != "none":
        identity["init_sha256"] = study_file.canonical_hash(model_identity(study, identity["init"]))
    return identity


def tuples_identity(study: Study) -> dict[str, Any]:
    """What determines the tuples: of a CSV its content, wherever it lies."""
    wanted = study.evaluation.tuples
    known = {"split": study.evaluation.split, "seed": study.seed}
    if isinstance(wanted, int):
        return known | {"tuples": wanted}
    return known | {"tuples": f"a CSV of SHA-256 {provenance.file_hash(Path(wanted))}"}


class _Cluster:
    """Ray, connected when the first stage needs it."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._stack = contextlib.ExitStack()
        self._connected = False

    def __enter__(self) -> "_Cluster":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def connect(self) -> bool:
        """Whether nodes may join later: this machine alone has what it has."""
        if not self._connected:
            from advrec.distributed.session import session

            self._stack.enter_context(session(self._address))
            self._connected = True
        return cluster_address(self._address) is not None


def prepare(run: Run, study: Study, cluster: _Cluster) -> None:
    """Stage 1: images to catalog.parquet and images/."""
    prepare_stage.run_stage(run, study, cluster.connect, say)


def train(run: Run, study: Study, cluster: _Cluster) -> None:
    """Stage 2: every model of the study that is not trained yet, in the study's order."""
    _require(run.catalog, "the catalog is not prepared", "advrec prepare")
    for model, spec in study.models.items():
        if run.weights(model).exists():
            say(f"train {model}: done before")
            continue
        if isinstance(spec, OwnModel):
            _adopt(run, study, model, spec)
            continue
        _check_start(run, study, model, spec)
        identity = model_identity(study, model)
        run.claim(f"models/{model}", identity, made=False)
        grows = not study.resources.trains_here and cluster.connect()
        from advrec.distributed.train import train_model

        train_model(run, study, model, spec, study_file.canonical_hash(identity)[:12], grows=grows)
        metrics = read_json(run.model(model) / "metrics.json")
        selected = (
            "; its best epoch was chosen on the test split too"
            if metrics["selected_on"] == "test"
            else ""
        )
        say(
            f"train {model}: test accuracy {100 * metrics['clean_accuracy']:.1f} % clean, "
            f"{100 * metrics['adversarial_accuracy']:.1f} % under PGD-8 at 0.03 (n = {metrics['n']}{selected})"
        )


def _check_start(run: Run, study: Study, model: str, spec: TrainedModel) -> None:
    """Find out here, not in a worker, that the weights to start from cannot be had or do not fit."""
    if spec.init != "none" or spec.weights != "none":
        from advrec.training.start import initial_network

        try:
            initial_network(run, spec, Catalog(run), study.seed)
        except AdvrecError as error:
            raise type(error)(f"models.{model}: {error}") from None


def _adopt(run: Run, study: Study, model: str, spec: OwnModel) -> None:
    """Take a model of the user's own as it is."""
    from advrec.model import checkpoint, own

    try:
        network = own.adopt(spec, study.catalog.image_size)
    except ConfigError as error:
        raise ConfigError(f"models.{model}: {error}") from None
    run.claim(f"models/{model}", model_identity(study, model), made=False)
    run.forget_measurements(model)
    checkpoint.save(run.weights(model), network)
    try:
        own.check_same(network, checkpoint.load(run.weights(model)), spec.model)
    except ConfigError as error:
        run.weights(model).unlink()
        raise ConfigError(f"models.{model}: {error}") from None
    say(f"model {model}: {spec.model} is taken as it is, {network.dimension} values an embedding")


def evaluate(run: Run, study: Study, cluster: _Cluster) -> None:
    """Stage 3: tuples, embeddings, indexes, and the outcomes of every attack on every model."""
    _require(run.catalog, "the catalog is not prepared", "advrec prepare")
    for model, spec in study.models.items():
        if isinstance(spec, OwnModel) and not run.weights(model).exists():
            _adopt(run, study, model, spec)
        _require(run.weights(model), f"the model {model} is not trained", "advrec train")
    catalog = Catalog(run)
    if not run.tuples.exists():
        made = _make_tuples(study, catalog)
        run.claim("tuples", tuples_identity(study), made=False)
        write_table(run.tuples, made)
    tuples = read_table(run.tuples, schema.TUPLES)
    if not status.missing(run, study, len(tuples)):
        _drop_set_aside(run, study, len(tuples))
        say("evaluate: done before")
        return
    for model, spec in study.models.items():
        if isinstance(spec, OwnModel):
            _check_own(model, spec)  # every process that attacks builds it anew
    grows = study.resources.actors != 0 and cluster.connect()
    from advrec.distributed.evaluate import evaluate_models

    write_json(run.provenance, _provenance(run, study, catalog, tuples.num_rows))
    failed = evaluate_models(run, study, catalog, tuples, status.every_cell(study), grows=grows)
    _drop_set_aside(run, study, len(tuples))
    for key, reason in list(failed.items())[:SHOWN]:
        say(f"evaluate: set aside {key}: {reason}")
    if len(failed) > SHOWN:
        say(f"evaluate: set aside {len(failed) - SHOWN} more; see {run.directory}/set_aside.json")


def _drop_set_aside(run: Run, study: Study, tuples: int) -> None:
    """Forget what has its file by now, or is no longer part of the study."""
    missing = status.missing(run, study, tuples)
    run.write_set_aside(
        {
            key: reason
            for key, reason in run.set_aside().items()
            if key.startswith(IMAGES) or key in missing
        }
    )


def report(run: Run, *, partial: bool = False, other: Run | None = None) -> None:
    """Stage 4: tables, figures and the page, from the run directory alone, beside another run if
    there is one to compare with.
    """
    from advrec.reports import results, terminal
    from advrec.reports.report import write_report
    from advrec.reports.tables.against import compare

    read = results.read(run)
    compared = compare(read, results.read(other)) if other else None
    page = write_report(read, partial=partial, compared=compared)
    say(terminal.comparison_text(read, compared))
    say(f"report: {page}")


def _make_tuples(study: Study, catalog: Catalog) -> Any:
    from advrec.evaluation import tuples

    wanted, split = study.evaluation.tuples, study.evaluation.split
    if isinstance(wanted, str):
        return tuples.read_csv(catalog, split, Path(wanted))
    return tuples.sample(catalog, split, wanted, study.seed)


def _provenance(run: Run, study: Study, catalog: Catalog, tuples: int) -> dict[str, Any]:
    before = read_json(run.provenance, default={})
    return {
        **provenance.describe(),
        # Every evaluation adds rows that its own machine and code made: what made the earlier ones
        # stays.
        "earlier": [*before.pop("earlier", []), before] if before else [],
        "seed": study.seed,
        "tuples": tuples,
        "sha256": {
            "catalog": catalog.sha256,
            "tuples": provenance.file_hash(run.tuples),
            "weights": {model: provenance.file_hash(run.weights(model)) for model in study.models},
        },
    }


def _require(path: Path, what: str, command: str) -> None:
    if not path.exists():
        raise AdvrecError(
            f"{path.parent}: {what} yet; run `{command}` first, or `advrec study` for all stages"
        )


def dry_run(
    run: Run, study: Study, *, stages: tuple[str, ...] = STAGES, address: str | None = None
) -> str:
    """What `run_study` would check and do, as lines of text, and how long its evaluation would
    take; nothing is written.

    Raises:
        ConfigError: as `run_study`.
    """
    run.check_directory()
    check(run, study)
    grows = cluster_address(address) is not None
    if not grows and ("train" in stages or "evaluate" in stages):
        check_room(study)
    lines = [status.overview(run, study, prepare_stage.preview(run, study))]
    if "evaluate" in stages:
        from advrec.stages import forecast

        there = grows and study.resources.actors != 0
        lines += forecast.forecast(
            run, study, _nodes(address) if there else this_machine(), grows=there
        )
    return "\n".join(lines)


def _nodes(address: str | None) -> list[dict[str, float]]:
    from advrec.distributed.session import nodes, session

    with session(address):
        return nodes()
