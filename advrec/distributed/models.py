"""Models of a study for the workers of a pool: embeddings of the catalog, and quality of lists."""

import dataclasses
import math
from typing import NamedTuple

from advrec.catalog.dataset import Catalog
from advrec.distributed import attacker
from advrec.distributed.attacker import ModelRef
from advrec.distributed.embed import UnusableModelError, embed_catalog
from advrec.distributed.pool import Pool
from advrec.evaluation import lists
from advrec.evaluation.changes import changes
from advrec.model import checkpoint
from advrec.recommenders import hnsw, load
from advrec.recommenders.bank import Floats
from advrec.recommenders.hybrid import SHAPES
from advrec.recommenders.ranks import ExactIndex, similar_articles
from advrec.run import identity, provenance
from advrec.run.cells import Cell
from advrec.run.directory import Run
from advrec.run.files import write_json, write_table
from advrec.run.log import say
from advrec.run.machine import cores
from advrec.run.tables import is_embedded, read_embeddings
from advrec.spec.label_free import LabelFree, original
from advrec.spec.study import Study

RECALL_QUERIES = 500


class OfCell(NamedTuple):
    """The model that is attacked, and those that the attack is made on where they are others."""

    attacked: ModelRef
    sources: tuple[ModelRef, ...]


class Models:
    """The models of a run, each loaded when it is first asked for.

    Args:
        device: of the workers: cpu or cuda.
        room: bytes that a node has for embeddings, which its processes share.
    """

    def __init__(
        self,
        run: Run,
        study: Study,
        catalog: Catalog,
        pool: Pool,
        device: str,
        room: float = math.inf,
    ) -> None:
        self._run, self._study, self._catalog = run, study, catalog
        self._pool, self._device = pool, device
        self._room = room
        self._references: dict[str, ModelRef | UnusableModelError] = {}
        self._bytes: dict[str, int] = {}
        """Bytes of each model's embeddings."""
        self.sha256 = {
            **{model: provenance.file_hash(run.weights(model)) for model in study.encoders},
            **{
                model: provenance.file_hash(run.bank(model))
                for model in study.hybrids
                if run.bank(model).exists()
            },
        }
        """The hash of each model's weights, of a hybrid's factors."""

    def of(self, cell: Cell) -> OfCell:
        """The models of a cell; raises UnusableModelError."""
        attacked, sources = self.reference(cell.model), cell.attack.sources
        if sources == (cell.model,):
            return OfCell(attacked, ())
        return OfCell(attacked, tuple(map(self.reference, sources)))

    def reference(self, model: str) -> ModelRef:
        """The model with its embeddings of the catalog.

        Raises:
            UnusableModelError: they cannot be had. It is said again each time that it is asked for.
        """
        if model not in self._references:
            try:
                self._references[model] = self._load(model)
            except UnusableModelError as error:
                self._references[model] = error
        reference = self._references[model]
        if isinstance(reference, UnusableModelError):
            raise reference
        return reference

    def keep_only(self, models: set[str]) -> None:
        """Let the memory of the other models' embeddings be freed."""
        self._references = {
            model: reference for model, reference in self._references.items() if model in models
        }

    def _load(self, model: str) -> ModelRef:
        if model in self._study.hybrids:
            return self._load_hybrid(model)
        network = checkpoint.load(self._run.weights(model))
        determined_by = identity.embeddings(
            self._study,
            weights=self.sha256[model],
            catalog=self._catalog.sha256,
            articles=len(self._catalog),
            device=self._device,
        )
        self._check_room(model, network.dimension)
        part, there = f"embeddings/{model}", self._run.embeddings(model).exists()
        if is_embedded(self._run, model, len(self._catalog)):
            recorded = self._run.identities().get(part)
            determined_by = identity.as_finished(recorded, determined_by)
        self._run.claim(part, determined_by, made=there)
        reference = attacker.put(self._pool, self.sha256[model], network)
        embed_catalog(self._run, self._pool, model, reference, self._catalog, network.dimension)
        embeddings = read_embeddings(self._run, model, network.dimension)
        self._measure(model, embeddings)
        self._compare(model, embeddings)
        return dataclasses.replace(reference, embeddings=self._pool.put(embeddings))

    def _load_hybrid(self, model: str) -> ModelRef:
        encoder = self.reference(self._study.hybrids[model].encoder)
        factors, seen = load.factors(self._run, model, len(self._catalog))
        arrays = {name: getattr(factors, name) for name in SHAPES} | seen._asdict()
        return dataclasses.replace(
            encoder,
            sha256=self.sha256[model],
            network=encoder.sha256,
            factors=self._pool.put(arrays),
        )

    def _check_room(self, model: str, dimension: int) -> None:
        """Say it before embeddings go to disk: those of this model and of others still needed."""
        self._bytes[model] = 4 * len(self._catalog) * dimension
        taken = sum(self._bytes.get(other, 0) for other in {model, *self._references})
        if taken > self._room:
            say(
                f"embed {model}: embeddings take {taken / 2**20:,.0f} MiB, the object store of Ray "
                f"has {self._room / 2**20:,.0f}: the rest goes to disk, which is slow; enlarge "
                "/dev/shm, or start Ray with --object-store-memory and name it in --address"
            )

    def _measure(self, model: str, embeddings: Floats) -> None:
        """Measure the approximate index, and keep the lists that nobody attacks."""
        try:
            exact = similar_articles(embeddings)
        except ValueError as error:
            raise UnusableModelError(
                f"{model} cannot recommend: {load.why_not(error, self._catalog)}"
            ) from None
        if not self._run.index(model).exists():
            self._measure_index(model, exact)
        if not self._run.lists(model).exists():
            queries = self._catalog.ids_of(self._study.evaluation.split, lists.QUERIES)
            write_table(self._run.lists(model), lists.nearest(exact, queries))

    def _compare(self, model: str, embeddings: Floats) -> None:
        """Keep what a defense without labels has changed; its original is embedded for that."""
        spec, path = self._study.models[model], self._run.changes(model)
        if not isinstance(spec, LabelFree) or path.exists():
            return
        first = original(self._study.models, model)
        try:
            self.reference(first)
        except UnusableModelError as error:
            say(f"model {model}: what it changed cannot be said: {error}")
            return
        originals = read_embeddings(self._run, first, embeddings.shape[1])
        queries = self._catalog.ids_of(self._study.evaluation.split, lists.QUERIES)
        write_table(path, changes(embeddings, originals, queries))

    def _measure_index(self, model: str, exact: ExactIndex) -> None:
        queries = self._catalog.ids_of(self._study.evaluation.split, RECALL_QUERIES)
        measured = hnsw.measure_recall(exact, queries, groups=self._catalog.groups, threads=cores())
        recall, *others = (value for key, value in measured.items() if key.startswith("recall_at_"))
        copies = ""
        if others and others[0] is not None:
            copies = (
                f"; {100 * others[0]:.1f} % for the {measured['queries_without_copies']} that are "
                f"no copies: {measured['copies']:,} articles show an image that others show too, "
                "and its graph links these to each other first"
            )
        say(
            f"index {model}: HNSW finds {100 * recall:.1f} % of the nearest "
            f"among {len(exact):,} articles (n = {len(queries)} queries){copies}"
        )
        write_json(self._run.index(model), measured)
