"""The plan of a study: what its run directory holds and what is missing; and what is refused.

Evaluation, status, dry run and push read one plan. Free of torch and Ray: answers are quick.
"""

import csv
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq

from advrec.attacks import names
from advrec.delivery import codecs
from advrec.distributed.placement import cluster_address, place, place_training
from advrec.errors import ConfigError, StudyError
from advrec.evaluation import probes
from advrec.evaluation.tuples import COLUMNS
from advrec.run import cells, identity, lineage, strangers
from advrec.run.cells import Cell
from advrec.run.directory import PROTOCOLS, Run
from advrec.run.files import numbered, read_json
from advrec.run.identity import Identities
from advrec.run.lineage import Identity
from advrec.run.machine import cores
from advrec.spec import delimited
from advrec.spec.defenses import TrainedModel
from advrec.spec.label_free import EVERY, TRAIN, LabelFree
from advrec.spec.models import OwnModel
from advrec.spec.names import alike, taken_for
from advrec.spec.study import Study
from advrec.stages import category_attack


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    catalog: bool
    """The catalog is there."""
    shards: int
    """Shards of images that an unfinished preparation has left."""
    untrained: tuple[str, ...]
    """Models that are not there."""
    hybrids: tuple[str, ...]
    """The hybrids among them: whoever draws tuples has trained the others."""
    tuples: int | None
    """Number of tuples; None: those of a CSV that is not there."""
    drawn: bool
    """The tuples are there."""
    blocks: Mapping[Cell, tuple[int, ...]]
    """Missing blocks of every cell, [] where all are there; no cell where `tuples` is None."""
    unexamined: tuple[str, ...]
    """Models without the measurements that the checks need."""
    set_aside: Mapping[str, str]
    """Work that was given up on, by key, with the reason."""

    @property
    def unfinished(self) -> dict[Cell, tuple[int, ...]]:
        """Cells with missing blocks, and the numbers of these."""
        return {cell: numbers for cell, numbers in self.blocks.items() if numbers}

    @property
    def missing(self) -> set[str]:
        """Keys of what the evaluation has still to do: blocks, and examinations of models."""
        blocks = {
            cells.block_key(cell, number)
            for cell, numbers in self.blocks.items()
            for number in numbers
        }
        return blocks | {cells.health_key(model) for model in self.unexamined}

    @property
    def is_finished(self) -> bool:
        """Say whether all is done but for what was set aside."""
        return self.drawn and not self.hybrids and self.missing <= self.set_aside.keys()


def every_cell(study: Study) -> list[Cell]:
    """List what the study asks for, and what the evaluation measures about itself."""
    return [*cells.cells(study), *probes.cells(study)]


def make(run: Run, study: Study) -> Plan:
    """Look through a run directory.

    Raises:
        AdvrecError: it holds a stranger.
    """
    strangers.refuse(run)
    tuples = _count_tuples(run, study)
    return Plan(
        catalog=run.catalog.exists(),
        shards=0 if run.catalog.exists() else len(numbered(run.prepared, "shard")),
        untrained=tuple(model for model in study.models if not run.is_trained(model)),
        hybrids=tuple(model for model in study.hybrids if not run.is_trained(model)),
        tuples=tuples,
        drawn=run.tuples.exists(),
        blocks={}
        if tuples is None
        else {
            cell: tuple(cells.missing_blocks(run, study, cell, tuples))
            for cell in every_cell(study)
        },
        unexamined=tuple(
            model
            for model in study.compared.models
            if study.evaluation.checks and not run.health(model).exists()
        ),
        set_aside=run.set_aside(),
    )


def _count_tuples(run: Run, study: Study) -> int | None:
    wanted = study.evaluation.tuples
    if run.tuples.exists():
        return int(pq.read_metadata(run.tuples).num_rows)
    if isinstance(wanted, int):
        return wanted
    if not Path(wanted).is_file():
        return None
    try:
        return sum(1 for _ in delimited.read(Path(wanted).read_bytes(), COLUMNS).rows)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{wanted}: is not a CSV in UTF-8 ({error})") from None


def refuse(run: Run, study: Study, parts: Identities, *, evaluates: bool = True) -> None:
    """Refuse a run directory that holds a part which this study would make otherwise.

    Args:
        parts: compared with the identities that the run records.
        evaluates: whether blocks that are missing will be made.

    Raises:
        ConfigError: a part that has a file differs; the message names the first.
        AdvrecError: the run holds a stranger.
    """
    strangers.refuse(run)
    if run.catalog.exists():
        # an imported run has no preparation
        known = read_json(run.preparation, default={})
        check_labels(
            study,
            labelled=bool(known.get("categories", True)),
            textured=bool(known.get("textures", True)),
        )
        category_attack.check_categories(study, known.get("categories", ()))
    wanted: dict[str, Identity] = {}
    if run.catalog.exists():
        wanted["catalog"] = parts.catalog
    for model in study.models:
        if run.is_trained(model):
            own = dict.fromkeys(identity.LATER) | parts.models[model]  # unsaid is unrecorded
            wanted[f"models/{model}"] = lineage.recorded(run, study, model, own)
    if run.tuples.exists() and parts.tuples is not None:
        wanted["tuples"] = parts.tuples
        if "lists_of" in run.identities().get("tuples", {}):
            wanted["tuples"] |= identity.lists_of(study)
    if run.interactions.exists() and parts.interactions is not None:
        wanted["interactions"] = parts.interactions
    recorded = run.identities()
    tuples = _count_tuples(run, study) or 0
    for cell in every_cell(study):
        if not cells.is_begun(run, cell):
            continue
        now = identity.cell(study, cell) | parts.code.get(cell.attack.name, {})
        kept = identity.as_finished(recorded.get(cell.key), now)
        strange = kept["protocol"] not in PROTOCOLS
        grows = strange and evaluates and cells.missing_blocks(run, study, cell, tuples)
        wanted[cell.key] = now if grows else kept
    for part in wanted:
        reason = run.difference(part, recorded.get(part), wanted[part])
        if reason is not None:
            raise ConfigError(reason)


# Refused for what the study says or names, wherever it runs.


def check(run: Run, study: Study, *, with_code: bool = True) -> Identities:
    """Refuse what cannot be done, before any work.

    Args:
        with_code: whether files that the study names are looked at. A report is made from Parquet
            alone.

    Returns:
        The identities of the study's parts, for which its files were hashed.

    Raises:
        ConfigError: an attack, a file, a model or a codec is not there, or a name is no good.
    """
    _check_new(run, study)
    _check_attacks(study)
    if with_code:
        _check_deliveries(study)
        _check_files(run, study)
    parts = identity.identities(study, with_code=with_code)
    if with_code:
        for name, spec in study.models.items():
            if isinstance(spec, OwnModel) and not run.weights(name).exists():
                check_own(name, spec)
        _rehearse(run, study)
    return parts


def check_labels(study: Study, *, labelled: bool, textured: bool) -> None:
    """Refuse what needs labels, on a catalog that has none: raises StudyError.

    Args:
        labelled: the catalog has categories.
        textured: it has textures.
    """
    if not labelled and study.interactions is not None and study.interactions.drawn:
        raise StudyError(
            "interactions.source is synthetic, which draws tastes for categories, and the catalog "
            "has none; name a file of purchases, or give the images categories"
        )
    for name, spec in study.models.items():
        if isinstance(spec, TrainedModel) and not spec.on_categories and not textured:
            raise StudyError(
                f"models.{name}: heads is [texture], and the catalog has no textures; leave heads "
                "out, or give the images textures"
            )
        if isinstance(spec, TrainedModel) and not labelled and spec.on_categories:
            raise StudyError(
                f"models.{name}: defense {spec.defense} trains on categories, and the catalog has "
                "none; take a model that was trained elsewhere, or give the images categories"
            )


def check_own(name: str, spec: OwnModel) -> None:
    """Refuse a model of the user's own that cannot be built; its module is imported."""
    from advrec.model import own

    try:
        own.check(spec)
    except ConfigError as error:
        raise StudyError(f"models.{name}: {error}") from None


def _rehearse(run: Run, study: Study) -> None:
    """Refuse an attack of the user's own that is new and cannot be called, or returns no images."""
    for number, attack in enumerate(study.evaluation.attacks):
        own = [cell for cell in cells.cells(study) if cell.attack == attack]
        if attack.own and not all(cells.is_begun(run, cell) for cell in own):
            from advrec.attacks.own import rehearse

            try:
                rehearse(attack.attack, study.catalog.image_size)
            except ConfigError as error:
                raise StudyError(f"evaluation.attacks.{number}: {error}") from None


def check_room(study: Study, address: str | None) -> None:
    """Refuse more processes than this machine has cores for.

    Nothing is refused on a cluster: its nodes are known when it is connected to.

    Raises:
        AdvrecError: they have no room.
    """
    if cluster_address(address) is not None:
        return
    resources = study.resources.model_copy(update={"gpus_per_actor": 0.0})
    nodes = [{"CPU": float(cores())}]
    place(resources, nodes, grows=False)
    place_training(resources, nodes, grows=False)


def check_address(study: Study, address: str | None) -> None:
    """Refuse a cluster that is named and that no stage would use: raises ConfigError."""
    if address is not None and study.resources.actors == 0 and study.resources.trains_here:
        raise ConfigError(
            f"--address is {address}, but resources.actors is 0, so this process does all the "
            "work; leave one of them out"
        )


def _check_new(run: Run, study: Study) -> None:
    """Refuse what runs of earlier versions may hold, and what is made now may not."""
    duplicates = study.catalog.duplicates
    if duplicates in (1, 3) and not run.catalog.exists():
        raise StudyError(
            f"catalog.duplicates is {duplicates} (allowed: 0, 2, 4 or 'keep'): perceptual hashes "
            f"differ in even numbers of bits, so {duplicates} is {int(duplicates) - 1}; write that"
        )
    models = [model for model in study.models if run.is_trained(model)]
    _check_names("models", list(study.models), models)
    begun = [part.split("/")[2] for part in run.identities() if part.startswith("attacks/")]
    attacks = [attack.name for attack in study.evaluation.attacks]
    _check_names("evaluation.attacks", attacks, begun)


def _check_names(key: str, names: list[str], known: list[str]) -> None:
    """Refuse names that readers of result files misread.

    Args:
        key: of the study, whose names they are.
        known: those that the run has already, and keeps.
    """
    for name in names:
        kind = taken_for(name)
        if kind is not None and name not in known:
            raise StudyError(
                f"{key}: readers of the result files take the name {name} for {kind}; "
                f"give it another one, as {key[:-1].rpartition('.')[2]}-{name}"
            )
    new = [group for group in alike(names) if not {*group} <= {*known}]
    if new:
        raise StudyError(
            f"{key}: {' and '.join(new[0])} differ in case alone, and some filesystems take them "
            "for one; give one of them another name"
        )


def _check_attacks(study: Study) -> None:
    for number, attack in enumerate(study.evaluation.attacks):
        try:
            names.check(attack.attack, restarts=attack.restarts)
        except ConfigError as error:
            raise StudyError(f"evaluation.attacks.{number}: {error}") from None
    category_attack.check_attack(study)


def _check_deliveries(study: Study) -> None:
    try:
        codecs.check(study.evaluation.delivery)
    except ConfigError as error:
        raise StudyError(f"evaluation.delivery: {error}") from None


def _check_files(run: Run, study: Study) -> None:
    tuples = study.evaluation.tuples
    files = {} if isinstance(tuples, int) else {"evaluation.tuples": tuples}
    files |= {
        f"models.{name}.weights": spec.weights
        for name, spec in study.models.items()
        if isinstance(spec, TrainedModel) and spec.weights not in ("none", "imagenet")
    }
    for key, path in files.items():
        if not Path(path).is_file():
            raise StudyError(f"{key}: {path} does not exist; name an existing file")
    for name, spec in study.models.items():
        folder = spec.folder if isinstance(spec, LabelFree) else None
        made = run.weights(name).exists() or folder is None or "://" in folder
        if not made and not Path(str(folder)).is_dir():
            raise StudyError(
                f"models.{name}.images: {folder} is not a directory; name a folder of images, or "
                f"write {TRAIN} or {EVERY}"
            )
