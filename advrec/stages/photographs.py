"""The images that defenses without labels train on: of folders, prepared as the catalog's are."""

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from advrec.catalog import files, shards
from advrec.catalog.dataset import MEASURED, Catalog
from advrec.catalog.decide import Decision, decide
from advrec.catalog.files import RefusedError
from advrec.catalog.listing import Listing
from advrec.catalog.sources import folder, registry
from advrec.catalog.write import write
from advrec.distributed.prepare import prepare_shards, preparers
from advrec.errors import ConfigError, StudyError
from advrec.run import identity, lineage
from advrec.run.directory import Run
from advrec.run.files import read_json, write_json
from advrec.run.log import say
from advrec.spec.base import SPLITS
from advrec.spec.catalog import CatalogSpec
from advrec.spec.label_free import EVERY, LabelFree
from advrec.spec.study import Study
from advrec.stages import prepare

STAMPS = "files.json"
MOMENT_S = 2.0
"""Seconds that a file system's times of change may be coarse by."""
FEW = 1000
"""Images below which it is said that they are few."""


def prepared(run: Run, study: Study, model: str, connect: Callable[[], bool]) -> lineage.Identity:
    """Prepare the folder that a model trains on, unless that is done.

    Args:
        connect: connects to Ray, and says whether nodes may join later; called when there is work.

    Returns:
        The hash of the prepared images, which enters the identity of the weights; nothing where
        they are the catalog's.

    Raises:
        ConfigError: there is no such folder, or no usable image in it.
        UnreachableError: its filesystem does not answer.
    """
    place = _folder(study, model)
    if place is None:
        return {}
    there, spec = run.training_images(place), _spec(study, place)
    listing = _listed(place, model)
    stamps, wanted = _stamps(listing), _identity(study, listing)
    if there.identities().get("prepared") != wanted:
        shutil.rmtree(there.directory, ignore_errors=True)
        there.claim("prepared", wanted, made=False)
    _remember(there, stamps)
    if not there.catalog.exists():
        with preparers(prepare.processes(study, connect)) as pool:
            prepare_shards(there, spec, listing, pool)
        decision = decide(spec, listing, shards.read_shards(there))
        _say(decision, place, model)
        there.write_set_aside(decision.set_aside)
        write(there, decision)
    return {lineage.IMAGES: read_json(there.preparation)["catalog_sha256"]}


def refuse_changed(run: Run, study: Study, model: str) -> None:
    """Refuse a folder that holds other images than a model was trained on, wherever it lies. One
    that is gone is no change. Where names, sizes and times of change are the same, no image is
    read.

    Raises:
        StudyError: it does.
    """
    place = _folder(study, model)
    there = None if place is None else _trained_on(run, model, place)
    is_local = place is not None and "://" not in place
    if place is None or there is None or (is_local and not Path(place).is_dir()):
        return
    try:
        listing = _listed(place, model)
    except ConfigError:
        if is_local and there.directory != run.training_images(place).directory:
            raise
        return
    stamps = _stamps(listing)
    if stamps is not None and stamps == read_json(there.directory / STAMPS, default=None):
        return
    recorded = there.identities().get("prepared", {})
    if _content(recorded) != _content(_identity(study, listing)):
        raise StudyError(
            f"models.{model}.images: {place} holds other images than {model} was trained on; "
            "name another --out, or another folder for a model of another name"
        )
    _remember(there, stamps)


def _trained_on(run: Run, model: str, place: str) -> Run | None:
    """The prepared images that a model was trained on, of this folder or of one that lay elsewhere;
    None where they are not there.
    """
    own = run.training_images(place)
    sha256 = run.identities().get(f"models/{model}", {}).get(lineage.IMAGES)
    if sha256 is None:
        return own if own.catalog.exists() else None
    others = sorted(own.directory.parent.glob("*"))
    for there in (own, *map(Run, others)):
        if read_json(there.preparation, default={}).get("catalog_sha256") == sha256:
            return there
    return None


def _content(prepared: lineage.Identity) -> lineage.Identity:
    """Whatever determines prepared images, but for the place of their folder."""
    return {key: value for key, value in prepared.items() if key != "root"}


def remarks(run: Run, study: Study, model: str) -> list[str]:
    """Return what is to be known of a model's images before it is trained, as lines of text."""
    spec = study.models[model]
    if not isinstance(spec, LabelFree):
        return []
    count, lines = _count(run, study, spec, model), []
    if spec.images == EVERY:
        lines.append("trains on all splits: what is measured is of images that it saw")
    elif seen := _seen(run, spec):
        lines.append(f"WARNING: {seen}")
    if count is not None and count < FEW:
        has_rho = "rho" in type(spec).model_fields
        advice = (
            "a smaller rho keeps more of the lists, a larger one is safer"
            if has_rho
            else "lore with a small rho keeps more of the lists"
        )
        lines.append(f"WARNING: {count:,} images are few (fewer than {FEW:,}); {advice}")
    return [f"{model}: {line}" for line in lines]


def _seen(run: Run, spec: LabelFree) -> str:
    """Words about images of a folder that the catalog measures on; nothing where none is, or
    either is not prepared.
    """
    if spec.folder is None or not run.catalog.exists():
        return ""
    there = run.training_images(spec.folder)
    if not there.catalog.exists():
        return ""
    images, catalog = Catalog(there), Catalog(run)
    seen = catalog.seen_in(images.hashes_of(images.ids_of("train")))
    if not any(seen.values()):
        return ""
    counts = " and ".join(
        f"{seen[f'{split}_images_seen']:,} of the {len(catalog.ids_of(split)):,} images of the "
        f"{split} split"
        for split in MEASURED
    )
    return (
        f"{spec.folder} holds {counts}: what is measured on these is of images that the training "
        "saw; take them out, or train on the training split (images: train)"
    )


def _count(run: Run, study: Study, spec: LabelFree, model: str) -> int | None:
    """Images that a model trains on; None: not known before there is a catalog."""
    there = run if spec.folder is None else run.training_images(spec.folder)
    if there.catalog.exists():
        splits: dict[str, int] = read_json(there.preparation)["splits"]
    elif spec.folder is None and study.catalog.drawn:
        return None
    else:
        listing = (
            registry.read(study.catalog, study.seed)
            if spec.folder is None
            else _listed(spec.folder, model)
        )
        listed = [article.split for article in listing.articles]
        splits = {split: listed.count(split) for split in SPLITS}
    return sum(splits.values()) if spec.images == EVERY else splits["train"]


def _folder(study: Study, model: str) -> str | None:
    spec = study.models[model]
    return spec.folder if isinstance(spec, LabelFree) else None


def _listed(place: str, model: str) -> Listing:
    """The images of a folder. Raises StudyError where there are none."""
    try:
        return folder.below(place)
    except ConfigError as error:
        raise StudyError(f"models.{model}.images: {error}") from None


def _spec(study: Study, place: str) -> CatalogSpec:
    """The folder as a catalog, whose images become squares by the study's rules."""
    rules = study.catalog.model_dump(include={"image_size", "square", "duplicates"})
    return CatalogSpec(source="folder", root=place, **rules)


def _identity(study: Study, listing: Listing) -> dict[str, Any]:
    """Determine the prepared images: by the names of the files, and what is in local ones."""
    catalog = study.model_copy(update={"catalog": _spec(study, listing.root)})
    source, digest = files.at(listing.root), hashlib.sha256()
    for image in listing.articles:
        digest.update(repr(image.name).encode())
        if "://" not in listing.root:
            try:
                digest.update(hashlib.sha256(source.read(image.name)).digest())
            except RefusedError as error:
                digest.update(str(error).encode())
    made = identity.prepared(catalog, listing_sha256=digest.hexdigest(), shard=shards.SHARD)
    return made | {"duplicates": study.catalog.duplicates}


def _stamps(listing: Listing) -> dict[str, str] | None:
    """Names, sizes and times of change of local files, as a hash. None: they tell nothing, for the
    files are not local, or one changed a moment ago and may change once more within one time.
    """
    if "://" in listing.root:
        return None
    digest, newest = hashlib.sha256(), 0.0
    for image in listing.articles:
        try:
            found = (Path(listing.root) / image.name).lstat()
        except (OSError, ValueError):
            return None
        digest.update(repr((image.name, found.st_size, found.st_mtime_ns)).encode())
        newest = max(newest, found.st_mtime)
    return None if newest > time.time() - MOMENT_S else {"sha256": digest.hexdigest()}


def _remember(there: Run, stamps: dict[str, str] | None) -> None:
    """Keep what tells that the files of a folder are those that were hashed."""
    if stamps is not None:
        write_json(there.directory / STAMPS, stamps)


def _say(decision: Decision, place: str, model: str) -> None:
    """Say what became of the images: raises StudyError where none can be used."""
    aside, listed = decision.set_aside, decision.listing.num_rows
    used = decision.preparation["splits"]["train"]
    first = [f"{key.partition('/')[2]}: {reason}" for key, reason in aside.items()]
    if not used:
        raise StudyError(
            f"models.{model}.images: {place} holds no usable image ({listed:,} were set aside; "
            f"{first[0]})"
        )
    say(
        f"train {model}: {used:,} images of {place} ({listed:,} listed; left out: "
        f"{listed - used - len(aside):,} as duplicates, {len(aside):,} that cannot be read)"
    )
    for line in first[: prepare.SHOWN]:
        say(f"train {model}: set aside {line}")
    if len(first) > prepare.SHOWN:
        say(f"train {model}: set aside {len(first) - prepare.SHOWN:,} more")
