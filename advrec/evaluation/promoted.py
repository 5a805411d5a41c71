"""The articles that are promoted, and the audiences before whom they are to stand."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from advrec.catalog import interactions
from advrec.catalog.dataset import Catalog
from advrec.errors import ConfigError
from advrec.recommenders.audience import Audience
from advrec.recommenders.bank import Ids
from advrec.run import promotions, schema
from advrec.run.directory import Run
from advrec.run.files import write_table
from advrec.run.tables import read_table
from advrec.spec.audiences import TARGETS, USERS
from advrec.spec.study import Study


class Promoted(NamedTuple):
    """Promoted articles (n,), in the order of work, and their audiences by name."""

    table: pa.Table
    audiences: Mapping[str, Audience]

    @property
    def article_ids(self) -> Ids:
        """(n,)"""
        ids: Ids = self.table["article_id"].to_numpy()
        return ids

    def hash_of(self, audience: str) -> str:
        """SHA-256 of the articles and of an audience."""
        everyone = self.audiences[audience]
        ids, weights = everyone.query_ids, everyone.weights
        content = pa.table({"query_id": ids, "weight": weights})
        return f"{schema.content_hash(self.table)} {schema.content_hash(content)}"


def draw(run: Run, study: Study, catalog: Catalog) -> Promoted | None:
    """The promoted articles and audiences of a study, written to the run; None where it measures
    none.

    Raises:
        ConfigError: an article is not in the catalog, or they are too few.
    """
    evaluation = study.evaluation
    wanted = [each for each in (TARGETS, USERS) if evaluation.measures(each)]
    if not wanted:
        return None
    audiences = {}
    targets: Ids = np.empty(0, dtype=np.int32)
    if TARGETS in wanted:
        targets = _named(catalog, list(evaluation.targets), "evaluation.audience")
        weights = np.array(list(evaluation.targets.values()))
        order = np.argsort(targets)
        audiences[TARGETS] = Audience(TARGETS, targets[order], weights[order])
        columns = {"target_id": targets[order], "weight": weights[order]}
        write_table(run.targets, schema.table(promotions.TARGETS, columns))
    cold = np.zeros(len(catalog), dtype=bool)
    if run.interactions.exists():
        known = interactions.read(run, len(catalog))
        cold = known.cold()
        users = np.arange(known.num_users, dtype=np.int32)
        audiences[USERS] = Audience(USERS, users, np.ones(len(users)))
    chosen = _chosen(study, catalog, cold, targets)
    table = schema.table(promotions.PROMOTED, {"article_id": chosen, "cold": cold[chosen]})
    write_table(run.promoted, table)
    return Promoted(table, audiences)


def read(run: Run) -> Ids:
    """The promoted articles (n,) of a run."""
    ids: Ids = read_table(run.promoted, promotions.PROMOTED)["article_id"].to_numpy()
    return ids


def _chosen(study: Study, catalog: Catalog, cold: np.ndarray, targets: Ids) -> Ids:
    """Those that are named, or so many of the split, cold ones first, each kind in drawn order."""
    wanted = study.evaluation.promoted
    if not isinstance(wanted, int):
        assert isinstance(wanted, tuple), "the study is resolved"
        return _named(catalog, wanted, "evaluation.promoted")
    split = study.evaluation.split
    free = np.setdiff1d(catalog.ids_of(split), targets).astype(np.int32)
    if len(free) < wanted:
        besides = " beside the targets" if len(targets) else ""
        raise ConfigError(
            f"evaluation.promoted is {wanted}, but the split {split} has {len(free)} "
            f"articles{besides}; give a smaller number"
        )
    drawn = np.random.default_rng((study.seed, 0x50524F4D)).permutation(free)
    return np.concatenate([drawn[cold[drawn]], drawn[~cold[drawn]]])[:wanted]


def _named(catalog: Catalog, names: Sequence[str], key: str) -> Ids:
    places = {name: place for place, name in enumerate(catalog.names)}
    missing = [name for name in names if name not in places]
    if missing:
        raise ConfigError(
            f"{key}: {missing[0]} is no article of the catalog; name articles as catalog.parquet "
            "does (advrec catalog lists them)"
        )
    return np.array([places[name] for name in names], dtype=np.int32)
