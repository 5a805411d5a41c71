"""The last part of stage 1: who has bought what, from a file or drawn; and a line about it."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from advrec.catalog import bought, interactions, purchases, synthetic_interactions
from advrec.catalog.dataset import Catalog
from advrec.run import identity
from advrec.run.directory import UNKNOWN, Run
from advrec.run.files import read_json
from advrec.spec.study import Study


def check(run: Run, study: Study) -> None:
    """Refuse a file of purchases that cannot be read, before any work: raises ConfigError."""
    spec = study.interactions
    if spec is not None and spec.file is not None and not _is_done(run):
        purchases.read(spec.file)


def prepare(run: Run, study: Study, say: Callable[[str], None]) -> None:
    """Write the interactions of the prepared catalog, unless they are there.

    Raises:
        ConfigError: the file cannot be read, or names no article; or none can be drawn.
    """
    if study.interactions is None or _is_done(run):
        return
    catalog = Catalog(run)
    run.interactions.unlink(missing_ok=True)
    determined = identity.interactions(study) or {}
    run.claim("interactions", {**determined, "catalog": catalog.sha256}, made=False)
    make = _draw if study.interactions.drawn else _read
    say(f"prepare: {study.interactions.title}: {make(run, study, catalog)}")
    say(f"prepare: {line(run, study)[0]}")


def _draw(run: Run, study: Study, catalog: Catalog) -> str:
    """Draw and write them; returns a line about them."""
    spec = study.interactions
    assert spec
    assert spec.purchases
    truth = synthetic_interactions.truth(catalog, spec, study.seed)
    drawn = synthetic_interactions.draw(truth, spec.purchases, study.seed)
    interactions.write(run, drawn, pa.array(np.arange(drawn.num_users)), truth.groups)
    return f"{spec.purchases} purchases of each of {drawn.num_users:,} users are drawn"


def _read(run: Run, study: Study, catalog: Catalog) -> str:
    """Read, resolve and write those of a file; returns a line about its rows."""
    assert study.interactions
    assert study.interactions.file
    path = study.interactions.file
    found = bought.resolve(run, catalog, purchases.read(path), path)
    kept = {key: why for key, why in run.set_aside().items() if not key.startswith(UNKNOWN)}
    run.write_set_aside(kept | {f"{UNKNOWN}{name}": why for name, why in found.unknown.items()})
    interactions.write(run, found.interactions, found.users)
    return found.summary


def line(run: Run, study: Study) -> list[str]:
    """One line of text about the interactions of a run; none where its study has none."""
    spec = study.interactions
    if spec is None:
        return []
    if _is_done(run):
        articles = pq.read_metadata(run.catalog).num_rows
        return [f"{spec.title}: {interactions.read(run, articles).summary()}"]
    if spec.file is not None:
        return [f"{spec.title}: to do: {spec.file} would be read"]
    each = f"{spec.purchases} purchases of each of {spec.users:,} users"
    return [f"{spec.title}: to do: {each} would be drawn"]


def _is_done(run: Run) -> bool:
    """Say whether the interactions are there, and of the catalog that is."""
    if not (run.catalog.exists() and run.interactions.exists()):
        return False
    of = run.identities().get("interactions", {}).get("catalog")
    return bool(of == read_json(run.preparation)["catalog_sha256"])
