"""Identities: everything that determines each part of a run, in one place alone.

A run records them in identities.json and never mixes a part with rows of another origin. They
outlive versions: no key and no value of one that is recorded may change.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from advrec.errors import ConfigError
from advrec.run import files, fingerprint
from advrec.run.cells import BEFORE_AUDIENCES, Cell, cells, is_begun
from advrec.run.directory import CHAINS, FUSED, Run, meant
from advrec.run.lineage import Identity, weights_hash
from advrec.run.measured import measured
from advrec.run.provenance import file_hash
from advrec.run.tables import embedding_shards
from advrec.spec import budgets, chains
from advrec.spec import study as study_file
from advrec.spec import yaml as strict_yaml
from advrec.spec.attacks import AUTO, AUTO_1, AttackSpec
from advrec.spec.deliveries import INGEST
from advrec.spec.models import AnyHybrid, JoinedModel, OwnModel, without_paths
from advrec.spec.search import TuneSpec
from advrec.spec.study import Study, as_dict

PROTOCOL = FUSED  # raised whenever the same inputs give other rows
NOT_WEIGHTS = frozenset({"compared"})
"""Keys of a model's entry that determine no weights."""

TRANSFERS = ("di", "ti")
"""Keys of an attack's entry that earlier versions had not, recorded only where they say something.
"""

LATER = ("heads", "ingest")
"""Keys of a model's entry that earlier versions had not, recorded only where they say something."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identities:
    """Parts of a study, the hashes of its files taken once."""

    catalog: Identity
    models: Mapping[str, Identity]
    tuples: Identity | None
    """None where the CSV of the tuples is not there any more."""
    interactions: Identity | None
    """None where the study has none, or their file is not there any more."""
    code: Mapping[str, Identity]
    """Hash of the function's file of each attack of the user's own, by the attack's name."""


def identities(study: Study, *, with_code: bool = True) -> Identities:
    """Determine the parts of a study that begin before any attack, each once.

    Args:
        with_code: whether files that a model or attack of the user's own comes from are hashed. A
            report is made from Parquet alone.

    Raises:
        ConfigError: such a file is not there.
    """
    models: dict[str, Identity] = {}
    unhashed: set[str] = set()
    for name, spec in study.models.items():
        entry = _entry(study, name)
        identity = {**entry, **without_paths(entry), "seed": study.seed}
        if not with_code and (isinstance(spec, OwnModel) or spec.init in unhashed):
            unhashed.add(name)
        elif isinstance(spec, OwnModel):
            try:
                identity |= fingerprint.fingerprint(spec)
            except ConfigError as error:
                raise ConfigError(f"models.{name}: {error}") from None
        elif spec.init != "none":
            identity["init_sha256"] = weights_hash(models[spec.init])
        elif unhashed & {*chains.beneath(spec)}:
            unhashed.add(name)
        elif isinstance(spec, JoinedModel):
            identity["parts_sha256"] = [weights_hash(models[part]) for part in spec.join]
        elif isinstance(spec, AnyHybrid):
            identity["encoder_sha256"] = weights_hash(models[spec.encoder])
        models[name] = identity
    code = {}
    for number, attack in enumerate(study.evaluation.attacks if with_code else ()):
        try:
            code[attack.name] = _code(attack)
        except ConfigError as error:
            raise ConfigError(f"evaluation.attacks.{number}: {error}") from None
    return Identities(
        catalog=catalog(study),
        models=models,
        tuples=_tuples(study),
        interactions=interactions(study),
        code=code,
    )


def _code(attack: AttackSpec) -> Identity:
    """Determine a function of the user's own; nothing for another attack."""
    return dict(fingerprint.code(attack.attack)) if attack.own else {}


def _entry(study: Study, model: str) -> Identity:
    """Keys of a model's entry that determine its weights."""
    entry = study.models[model].model_dump(mode="json", exclude=set(NOT_WEIGHTS))
    return {key: value for key, value in entry.items() if key not in LATER or value is not None}


def catalog(study: Study) -> Identity:
    """Determine the catalog, but for the content of its images.

    Published counts are no part of it: they only refuse a catalog.
    """
    identity = study.catalog.model_dump(mode="json", exclude={"published_counts"})
    identity["seed"] = study.seed
    manifest = study.catalog.manifest
    if manifest and Path(manifest).is_file():
        identity["manifest_sha256"] = file_hash(Path(manifest))
    return identity


def drawing(study: Study) -> Identity:
    """Determine the images of a synthetic source; nothing for another source."""
    if not study.catalog.drawn:
        return {}
    return {"seed": study.seed, "articles": study.catalog.articles}


def prepared(study: Study, *, listing_sha256: str, shard: int) -> Identity:
    """Determine the shards of a preparation, but for the content of its images.

    Args:
        shard: images a file.
    """
    spec = study.catalog
    return {
        "root": spec.root,
        "image_size": spec.image_size,
        "square": spec.square,
        "shard": shard,
        "sha256": listing_sha256,
        **drawing(study),
    }


def _tuples(study: Study) -> Identity | None:
    """Determine the tuples: a CSV by its content, wherever it lies."""
    wanted = study.evaluation.tuples
    if isinstance(wanted, str):
        if not Path(wanted).exists():
            return None
        wanted = f"a CSV of SHA-256 {file_hash(Path(wanted))}"
    return {"split": study.evaluation.split, "seed": study.seed, "tuples": wanted}


def interactions(study: Study) -> Identity | None:
    """Determine the interactions, but for the catalog: a file by its content, wherever it lies."""
    spec = study.interactions
    if spec is None:
        return None
    identity = spec.model_dump(mode="json")
    if spec.file is None:
        return identity | {"seed": study.seed}
    if not Path(spec.file).exists():
        return None
    return identity | {"file": f"a file of SHA-256 {file_hash(Path(spec.file))}"}


def lists_of(study: Study) -> Identity:
    """Determine, beside `Identities.tuples`, those of a catalog without categories: by whose lists
    two articles are apart.
    """
    return {"lists_of": next(iter(study.compared.models))}


def embeddings(study: Study, *, weights: str, catalog: str, articles: int, device: str) -> Identity:
    """Determine a model's embeddings of the catalog.

    Args:
        weights: SHA-256 of its file.
        catalog: SHA-256 of the catalog's content.
        articles: number of them.
        device: cpu or cuda.
    """
    return {
        "weights": weights,
        "catalog": catalog,
        "shard": len(embedding_shards(articles)[0]),
        "cpus_per_actor": study.resources.cpus_per_actor,
        "device": device,
        "protocol": PROTOCOL,
    }


def as_finished(recorded: Identity | None, wanted: Identity) -> Identity:
    """The identity of a part that keeps its protocol: nothing is added to it any more, or what is
    added is made by that protocol.
    """
    return wanted if recorded is None else wanted | {"protocol": meant(recorded)["protocol"]}


def cell(study: Study, cell: Cell) -> Identity:
    """Determine the rows of a cell as far as the study says it; `outcomes` adds the hashes."""
    block = study.evaluation.block
    mere = set() if cell.part in BEFORE_AUDIENCES else {"loss", "share", "goal"}
    entry = cell.attack.model_dump(mode="json", by_alias=True, exclude={"name", *mere})
    return {
        **{key: value for key, value in entry.items() if key not in TRANSFERS or value is not None},
        "through": list(cell.attack.through if _ingests(study, cell) else cell.attack.made_for),
        **measured(study, cell),
        "epsilons": list(cell.epsilons),
        "delivery": list(cell.deliveries),
        "seed": study.seed,
        "block": block,
        "batch": study.evaluation.at_once,
        "cpus_per_actor": study.resources.cpus_per_actor,
        "protocol": CHAINS if cell.deliveries else PROTOCOL,
        # A last block that is cut short would count as done for more tuples.
        "first": cell.first if cell.first is not None and cell.first % block else None,
    }


def _ingests(study: Study, cell: Cell) -> bool:
    """Say whether the model that gradients are of has an ingest; else `through` says none."""
    made_on = cell.attack.sources or (cell.model,)
    return any(chains.ingests(study.models, model) for model in made_on)


def outcomes(
    study: Study,
    of: Cell,
    *,
    weights: Mapping[str, str],
    catalog: str,
    tuples: str,
    device: str,
) -> Identity:
    """Determine the rows of a cell wholly, when the work begins.

    Args:
        weights: SHA-256 of the weights of each model.
        catalog: SHA-256 of the catalog's content.
        tuples: SHA-256 of the tuples' content, or of what stands in their place.
        device: cpu or cuda.
    """
    return (
        cell(study, of)
        | _code(of.attack)
        | {
            "weights": weights[of.model],
            "source_weights": _several([weights.get(source) for source in of.attack.sources]),
            "catalog": catalog,
            "tuples": tuples,
            "device": device,
        }
    )


def _several(hashes: list[str | None]) -> str | list[str | None] | None:
    """One hash as it is, none as None, several as a list."""
    return hashes if len(hashes) > 1 else next(iter(hashes), None)


def continued(run: Run, study: Study) -> Study:
    """The study that goes on with a run: what its file does not say of `through` is as the run's
    rows of that attack were made, blind by a version before 0.3.0. A batch that it does not say is
    that of the run's rows.
    """
    recorded = run.identities()
    begun = [cell for cell in cells(study) if cell.key in recorded and is_begun(run, cell)]
    made: dict[str, Sequence[str]] = {}
    for cell in begun:
        if recorded[cell.key].get("delivery") == list(cell.deliveries):
            name, through = cell.attack.name, meant(recorded[cell.key])["through"]
            said = through if _ingests(study, cell) else made.get(name, cell.attack.through)
            others = [each for each in through if each != INGEST]
            made[name] = [INGEST, *others] if INGEST in said else others
    attacks = tuple(
        attack
        if attack.says_through or attack.name not in made
        else attack.seeing(made[attack.name])
        for attack in study.evaluation.attacks
    )
    evaluation = study.evaluation.model_copy(update={"attacks": attacks})
    batch = next((recorded[cell.key].get("batch") for cell in begun), None)
    if batch is not None and not evaluation.says_batch:
        evaluation = evaluation.with_batch(batch)
    return study.model_copy(update={"evaluation": evaluation})


def recorded_study(run: Run) -> Study:
    """The study of a run directory's study.yaml; `auto` is auto-1 where that made the rows.

    Raises:
        ConfigError: anything in it is not as it should be.
    """
    raw, recorded = strict_yaml.read(run.study, Study.model_fields), run.identities()
    evaluation = raw.get("evaluation")
    for entry in evaluation.get("attacks", ()) if isinstance(evaluation, dict) else ():
        if isinstance(entry, dict) and entry.get("attack") == AUTO:
            name = entry.get("name")
            if any(
                meant(recorded.get(f"attacks/{model}/{name}", {})).get("attack") == AUTO_1
                and any(files.matching(run.block(model, str(name), 0).parent, "block"))
                for model in raw.get("models", ())
            ):
                entry["attack"] = AUTO_1
    return study_file.parse(raw, str(run.study))


def search(spec: TuneSpec, study: Study, models: list[str]) -> Identity:
    """Determine a search: trials of another are not mixed with its own.

    Args:
        models: the searched one and those that it starts from.
    """
    content = as_dict(study)
    return {
        "search": budgets.plain(
            spec.model_dump(mode="json", by_alias=True, exclude={"concurrency", "study"})
        ),
        "study": {key: content[key] for key in ("seed", "catalog")},
        "models": {name: _entry(study, name) for name in models},
        "auto": {"edition": 2},
    }
