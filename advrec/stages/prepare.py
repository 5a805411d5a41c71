"""Stage 1 of a study: the images that its source lists become catalog.parquet and images/."""

import contextlib
import functools
import shutil
import time
from collections.abc import Callable
from typing import Any

from advrec.catalog import shards
from advrec.catalog.decide import check, decide
from advrec.catalog.listing import Listing
from advrec.catalog.sources import registry, synthetic
from advrec.catalog.summary import summary
from advrec.catalog.write import write
from advrec.distributed.placement import place_preparation
from advrec.distributed.pool import Pool
from advrec.distributed.prepare import draw, prepare_again, prepare_shards, preparers
from advrec.errors import ConfigError
from advrec.run import identity
from advrec.run.directory import Run
from advrec.run.machine import cores
from advrec.run.progress import duration
from advrec.spec.study import Study
from advrec.stages import interactions, plan

SHOWN = 10  # of the images that were set aside
SAMPLE = 32  # images that a dry run prepares, to say how long all of them take


def run_stage(
    run: Run, study: Study, connect: Callable[[], bool], say: Callable[[str], None]
) -> None:
    """Prepare the catalog, unless it is there, and the study's interactions.

    Args:
        connect: connects to Ray, and says whether nodes may join later; called when there is work.
        say: takes a line for the user.

    Raises:
        ConfigError: the source cannot be read, or nothing can be measured on what it holds.
        UnreachableError: its filesystem does not answer.
    """
    interactions.check(run, study)
    _catalog(run, study, connect, say)
    interactions.prepare(run, study, say)


def _catalog(
    run: Run, study: Study, connect: Callable[[], bool], say: Callable[[str], None]
) -> None:
    if run.catalog.exists():
        # A preparation that was killed at its very end left them.
        shutil.rmtree(run.prepared, ignore_errors=True)
        if not _begin_again(run, study, connect, say):
            aside = len(run.images_set_aside())
            see = f"; {aside:,} images are set aside, see `advrec status {run.directory}`"
            say(f"prepare: done before{see if aside else ''}")
            return
    spec = study.catalog
    if spec.drawn:
        spec = spec.model_copy(update={"root": str(run.directory / spec.source)})
    with contextlib.ExitStack() as stack:

        @functools.cache
        def pool() -> Pool:
            """The processes that draw and prepare; a source that cannot be read starts none."""
            return stack.enter_context(preparers(processes(study, connect)))

        if spec.drawn:
            _draw(run, study, pool)
        listing = registry.read(spec, study.seed)
        plan.check_labels(study, labelled=listing.labelled, textured=listing.has_textures)
        for line in listing.summary():
            say(f"prepare: {line}")
        # Shards of a preparation that was stopped are used if the same images would be prepared in
        # the same way.
        shards_identity = _shards_identity(study, listing)
        if run.identities().get("prepared") != shards_identity:
            shutil.rmtree(run.prepared, ignore_errors=True)
        run.claim("prepared", shards_identity, made=False)
        prepare_shards(run, spec, listing, pool())
    decision = decide(spec, listing, shards.read_shards(run))
    check(decision, spec)
    run.claim("catalog", identity.catalog(study), made=False)
    run.write_set_aside(decision.set_aside)
    write(run, decision)
    for line in summary(decision.preparation):
        say(f"prepare: {line}")
    unreadable = decision.set_aside
    for name, reason in list(unreadable.items())[:SHOWN]:
        say(f"prepare: set aside {name}: {reason}")
    if len(unreadable) > SHOWN:
        say(
            f"prepare: set aside {len(unreadable) - SHOWN} more; see {run.directory}/set_aside.json"
        )


def _shards_identity(study: Study, listing: Listing) -> dict[str, Any]:
    return identity.prepared(study, listing_sha256=listing.sha256(), shard=shards.SHARD)


def preview(run: Run, study: Study) -> list[str]:
    """Forecast of a preparation, from the source's listing and a sample of its images; nothing is
    written.

    Raises:
        ConfigError: as `run_stage`.
    """
    interactions.check(run, study)
    return [*_preview(run, study), *(f"          {each}" for each in interactions.line(run, study))]


def _preview(run: Run, study: Study) -> list[str]:
    spec = study.catalog
    if run.catalog.exists():
        return ["prepare   done"]
    if spec.drawn:
        drawings = len(synthetic.plan(spec.articles or 0, study.seed).entries)
        return [f"prepare   to do: {drawings:,} images would be drawn and prepared"]
    listing = registry.read(spec, study.seed)
    plan.check_labels(study, labelled=listing.labelled, textured=listing.has_textures)
    lines = [
        f"prepare   to do: {line}" if not place else f"          {line}"
        for place, line in enumerate(listing.summary())
    ]
    rule = "all are kept"
    if spec.duplicates != "keep":
        rule = (
            f"of images whose perceptual hashes are within {spec.duplicates} of 64 bits "
            "the first is kept"
        )
    total = len(listing.articles)
    if run.identities().get("prepared") == _shards_identity(study, listing):
        left = [
            articles
            for shard, (_, articles) in enumerate(shards.cut(listing, spec.image_size))
            if not run.shard(shard).exists()
        ]
        total = sum(map(len, left))
        lines.append(f"          {len(listing.articles) - total:,} of them were prepared before")
    lines.append(
        f"          each would be made a square of {spec.image_size} pixels ({spec.square}); {rule}"
    )
    return [*lines, f"          {_estimate(spec.image_size, study, listing, total)}"]


def _estimate(size: int, study: Study, listing: Listing, left: int) -> str:
    from advrec.catalog import files, images

    root = files.at(listing.root, listing.base)
    step = max(1, len(listing.articles) // SAMPLE)
    sample = listing.articles[::step][:SAMPLE]
    images.prepare(root, sample[0], size, study.catalog.square)  # imports what it needs
    start = time.monotonic()
    prepared = [images.prepare(root, article, size, study.catalog.square) for article in sample]
    seconds = (time.monotonic() - start) / len(sample)
    sizes = [len(image.png) for image in prepared if isinstance(image, images.Prepared)]
    broken = [
        (article.name, image.reason)
        for article, image in zip(sample, prepared, strict=True)
        if isinstance(image, images.Unreadable)
    ]
    unreadable = ""
    if broken:
        name, reason = broken[0]
        unreadable = (
            f"; of {len(sample)} images tried {len(broken)} cannot be read: {name} {reason}"
        )
    gigabytes = len(listing.articles) * sum(sizes) / max(len(sizes), 1) / 1e9
    return (
        f"about {duration(left * seconds / cores())} and 10 s to start "
        f"on the {cores()} cores of this machine; "
        f"{gigabytes:.2f} GB while it works and as much again for what stays{unreadable}"
    )


def _draw(run: Run, study: Study, pool: Callable[[], Pool]) -> None:
    """Draw the synthetic source, unless images of it are prepared already: then it was whole."""
    root = run.directory / study.catalog.source
    begun = run.identities().get("prepared", {})
    if run.prepared.exists() and {**begun, **identity.drawing(study)} == begun:
        return
    shutil.rmtree(root, ignore_errors=True)
    drawings = synthetic.plan(study.catalog.articles or 0, study.seed)
    draw(root, drawings, pool())
    synthetic.write_annotations(root, drawings)


def processes(study: Study, connect: Callable[[], bool]) -> int:
    """Number of processes that prepare; 0: this one, without Ray."""
    if study.resources.actors == 0:
        return 0
    grows = connect()
    from advrec.distributed.session import nodes

    return place_preparation(study.resources, nodes(), grows=grows)


def _begin_again(
    run: Run, study: Study, connect: Callable[[], bool], say: Callable[[str], None]
) -> bool:
    """Try the images that were set aside. True if the catalog has to be made again, because some of
    them can be read now or are no longer listed.

    Once a model or a tuple was made of the catalog, or where the study accepts what was set aside,
    nothing is tried.
    """
    names = run.images_set_aside()
    used = run.tuples.exists() or any((run.directory / "models").glob("*/model.safetensors"))
    if not names or used or study.accept_set_aside or study.catalog.drawn:
        return False
    try:
        listing = registry.read(study.catalog, study.seed)
    except ConfigError:  # the source has gone; the catalog has not
        return False
    again = [article for article in listing.articles if article.name in names]
    gone = len(names) - len({article.name for article in again})
    readable = 0
    if again:
        rows = prepare_again(listing, again, study.catalog, processes(study, connect))
        readable = rows["reason"].null_count
    if not readable and not gone:
        return False
    say(
        f"prepare: of {len(names)} images that were set aside {readable} can be read now, "
        f"{gone} are gone: the catalog is made again"
    )
    run.catalog.unlink()
    return True
