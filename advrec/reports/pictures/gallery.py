"""Adversarial images that a run has kept, and the lists of neighbours that they enter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from advrec.catalog.pixels import Pixels
from advrec.recommenders.ranks import pair_distances
from advrec.reports.kept import (
    KEY,
    OUTCOME_COLUMNS,
    article_images,
    first_tuples,
    kept_pixels,
    kept_rows,
)
from advrec.reports.results import Results
from advrec.run import schema
from advrec.run.directory import Run
from advrec.run.files import numbered
from advrec.run.tables import read_embeddings, read_table
from advrec.spec.base import FLOAT

NEIGHBOURS = 5
TILES = 300
"""Adversarial images of the gallery at most."""
LARGEST = 128 * 2**20
"""Bytes of them, as float32."""


@dataclass(frozen=True)
class Example:
    """One adversarial image that a run has kept, with its outcome."""

    model: str
    attack: str
    epsilon: float
    budget: str
    """It, as the study wrote it."""
    tuple_id: int
    attack_id: int
    target_id: int
    attack_name: str
    target_name: str
    attack_category: str
    target_category: str
    clean: Pixels
    adversarial: npt.NDArray[np.float32]
    """(H, W, 3), [0, 1]."""
    target: Pixels
    clean_distance: float
    adversarial_distance: float
    clean_rank: int
    adversarial_rank: int
    inherited: bool
    """Taken over from a smaller budget."""
    delivery: str
    """The image was made for it; distance and rank are those after it."""


class Place(NamedTuple):
    """One place of a list of neighbours."""

    image: npt.NDArray[Any]
    name: str
    category: str
    distance: float
    attacked: bool = False


class Injection(NamedTuple):
    """A target's list before and after an attack."""

    example: Example
    before: list[Place]
    after: list[Place]


def kept_examples(results: Results, limit: int = TILES) -> list[Example]:
    """The adversarial images that the run has kept, all those of its first tuples.

    There are so many tuples that the images are at most `limit` and at most LARGEST bytes, but one
    tuple at least. The order is by tuple, then as the study lists models and attacks, then by
    budget and delivery.
    """
    rows = kept_rows(results)
    if rows.empty:
        return []
    limit = min(limit, LARGEST // int(rows["height"].max() * rows["width"].max() * 3 * 4))
    chosen = first_tuples(rows, limit)
    rows = results.in_study_order(rows[rows["tuple_id"].isin(chosen)], ["epsilon"]).sort_values(
        "tuple_id", kind="stable"
    )
    images = article_images(results, set(rows["attack_id"]) | set(rows["target_id"]))
    labels = _labels(results, set(images))
    pixels = dict(kept_pixels(results, chosen))
    return [
        _example(
            row | {"budget": results.shown(row["epsilon"])},
            images,
            labels,
            pixels[tuple(row[key] for key in KEY)],
        )
        for row in rows.to_dict("records")
        if row["attack_id"] in images and row["target_id"] in images
    ]


def example_images(
    kept: Sequence[Example],
    strongest: Mapping[str, Mapping[str, Any]],
    epsilon: float,
    limit: int = 12,
) -> list[Example]:
    """Examples of the strongest attack on each model at one budget.

    They are made for float, of the first tuples and not of the best ones.

    Args:
        kept: kept_examples.
        strongest: success.strongest.
        limit: examples in all; each model gets an equal share, of the same tuples where all were
            kept.
    """
    share = max(limit // max(len(strongest), 1), 1)
    examples: list[Example] = []
    for model, best in strongest.items():
        own = [
            each
            for each in _as_computed(kept)
            if (each.model, each.attack, each.epsilon) == (model, best["attack"], epsilon)
        ]
        examples += own[:share]
    return sorted(examples, key=lambda example: example.tuple_id)[:limit]


def growing(
    kept: Sequence[Example], strongest: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[Example]]:
    """One article under the strongest attack on a model at every budget, by model.

    It is the article of the first tuple; the smallest budget comes first.
    """
    by_model: dict[str, list[Example]] = {}
    for model, best in strongest.items():
        own = [
            each
            for each in _as_computed(kept)
            if (each.model, each.attack) == (model, best["attack"])
        ]
        if own:
            by_model[model] = [each for each in own if each.tuple_id == own[0].tuple_id]
    return by_model


def injections(
    results: Results, kept: Sequence[Example], strongest: Mapping[str, Mapping[str, Any]]
) -> dict[str, Injection]:
    """The list of one target before and after the strongest attack on a model, by model.

    The budget is the headline's. The tuple is the first kept one that reaches the places shown, or
    else the first.

    Args:
        kept: kept_examples.
        strongest: success.strongest.
    """
    by_model: dict[str, Injection] = {}
    for model, best in strongest.items():
        own = [
            each
            for each in _as_computed(kept)
            if (each.model, each.attack, each.epsilon) == (model, best["attack"], results.epsilon)
        ]
        own.sort(key=lambda example: example.adversarial_rank > NEIGHBOURS)
        if own and results.run.embedding_shard(model, 0).exists():
            by_model[model] = _injection(results, own[0])
    return by_model


def _as_computed(kept: Sequence[Example]) -> list[Example]:
    """The examples that were made for float, as the headline's images are."""
    return [each for each in kept if each.delivery == FLOAT]


def _injection(results: Results, example: Example) -> Injection:
    nearest = _nearest(results.run, example.model, example.target_id, NEIGHBOURS + 1)
    articles = {article for article, _ in nearest}
    images, labels = article_images(results, articles), _labels(results, articles)
    places = [
        (article, Place(images[article], *labels[article], distance))
        for article, distance in nearest
    ]
    # the attacked article replaces its clean copy
    after = [place for article, place in places if article != example.attack_id]
    if example.adversarial_rank <= NEIGHBOURS:
        attacked = Place(
            example.adversarial,
            example.attack_name,
            example.attack_category,
            example.adversarial_distance,
            attacked=True,
        )
        after.insert(example.adversarial_rank - 1, attacked)
    return Injection(example, [place for _, place in places][:NEIGHBOURS], after[:NEIGHBOURS])


def _nearest(run: Run, model: str, target: int, count: int) -> list[tuple[int, float]]:
    """The articles nearest to one by cosine distance, nearest first, with their distances.

    The embeddings are read file by file: a whole catalog may not fit into memory.
    """
    size = dimension(run, model)
    query = read_embeddings(run, model, size, np.array([target]))
    nearest: list[tuple[float, int]] = []
    for _, shard in numbered(run.embeddings(model), "part"):
        rows = read_table(shard, schema.embeddings(size))
        vectors = np.asarray(rows["embedding"].combine_chunks().flatten()).reshape(-1, size)
        distances = pair_distances(np.broadcast_to(query, vectors.shape), vectors).tolist()
        pairs = zip(distances, rows["article_id"].to_pylist(), strict=True)
        others = [(distance, article) for distance, article in pairs if article != target]
        nearest = sorted([*nearest, *others])[:count]
    return [(article, distance) for distance, article in nearest]


def dimension(run: Run, model: str) -> int:
    """Values of an embedding of a model whose embeddings are there."""
    size: int = pq.read_schema(run.embedding_shard(model, 0)).field("embedding").type.list_size
    return size


def _example(
    row: Mapping[Any, Any],
    images: dict[int, Pixels],
    labels: dict[int, tuple[str, str]],
    adversarial: Any,
) -> Example:
    attack_name, attack_category = labels[row["attack_id"]]
    target_name, target_category = labels[row["target_id"]]
    keys = (*KEY, "budget", "attack_id", "target_id", *OUTCOME_COLUMNS)
    return Example(
        **{key: row[key] for key in keys},
        attack_name=attack_name,
        target_name=target_name,
        attack_category=attack_category,
        target_category=target_category,
        clean=images[row["attack_id"]],
        adversarial=adversarial,
        target=images[row["target_id"]],
    )


def _labels(results: Results, article_ids: set[int]) -> dict[int, tuple[str, str]]:
    catalog = read_table(results.run.catalog, schema.CATALOG)
    rows = catalog.filter(pc.is_in(catalog["article_id"], value_set=_int32(sorted(article_ids))))
    return {row["article_id"]: (row["name"], row["category"]) for row in rows.to_pylist()}


def _int32(values: Any) -> Any:
    return pa.array(values, type=pa.int32())
