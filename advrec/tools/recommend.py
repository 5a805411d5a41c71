"""`advrec recommend`: the articles that a shop would list beside one, as a table and a picture."""

from pathlib import Path

import numpy as np

from advrec.catalog.dataset import Catalog
from advrec.errors import ConfigError
from advrec.recommenders import load
from advrec.recommenders.bank import Floats, Ids
from advrec.recommenders.hnsw import NEAR, HnswIndex
from advrec.recommenders.recommender import Recommender
from advrec.reports.pictures import images as pictures
from advrec.run.directory import Run
from advrec.spec.study import Study
from advrec.tools.catalog import open_catalog

MISSED = 5  # articles that a sentence names


def recommend(
    run: Run, study: Study, model: str, article_name: str, k: int, *, approximate: bool = False
) -> Path:
    """Print the k nearest articles of one, and draw them.

    Args:
        approximate: print the list of HNSW instead, and what it misses.

    Returns:
        The picture's path.

    Raises:
        ConfigError: there is no such model or article, or k is no number of other articles.
        AdvrecError: the run is not so far yet.
    """
    catalog = open_catalog(run)
    recommender = open_model(run, study, model, catalog)
    article = catalog.find(article_name)
    if not 1 <= k < len(catalog):
        raise ConfigError(f"-k is {k}: the catalog has 1..{len(catalog) - 1} other articles")
    index, query = recommender.index, np.array([article], dtype=np.int32)
    exact = index.top_k(query, k)
    ids = HnswIndex(index.bank.items).top_k(query, k)[0][0] if approximate else exact.ids[0]
    distances = index.distances(index.bank.items[query])[0]
    print(f"{'rank':>4}  {'article':>7}  {'distance':>8}  name")
    print(f"{'':>4}  {article:>7}  {'':>8}  {title(catalog, article)}")
    neighbours = list(zip(ids.tolist(), distances[ids].tolist(), strict=True))
    for rank, (other, distance) in enumerate(neighbours, start=1):
        print(f"{rank:>4}  {other:>7}  {distance:>8.4f}  {title(catalog, other)}")
    if approximate:
        print(missing(catalog, exact.ids[0], ids, distances))
    suffix = "-hnsw" if approximate else ""
    path = run.directory / "pictures" / f"recommend-{model}-{article}{suffix}.png"
    pictures.neighbour_picture(
        path,
        (catalog.pixels([article])[0], caption(catalog, article)),
        [
            (pixels, caption(catalog, other), distance)
            for pixels, (other, distance) in zip(catalog.pixels(ids), neighbours, strict=True)
        ],
    )
    print(path)
    return path


def missing(catalog: Catalog, exact: Ids, ids: Ids, distances: Floats) -> str:
    """A sentence on the exact list (k,) that an approximate one (at most k,) has not.

    Args:
        distances: (N,), from the article to all.
    """
    near = distances[ids] <= distances[exact].max() + NEAR
    if near.all() and len(ids) == len(exact):
        return f"HNSW finds all {len(exact):,} nearest"
    missed = [article for article in exact.tolist() if article not in ids]
    shown = ", ".join(title(catalog, article) for article in missed[:MISSED])
    more = f" and {len(missed) - MISSED:,} more" if len(missed) > MISSED else ""
    return (
        f"HNSW gives {len(ids):,} of {len(exact):,} articles, and {np.count_nonzero(near):,} of "
        f"the {len(exact):,} nearest; it misses {shown}{more}"
    )


def open_model(run: Run, study: Study, model: str, catalog: Catalog) -> Recommender:
    """The recommender of a model of the study.

    Raises:
        ConfigError: the study has no such model.
        AdvrecError: it is not trained yet.
    """
    if model in study.hybrids:
        raise ConfigError(
            f"--model {model} recommends to users, not what is similar to an article; name an "
            f"encoder of the study ({', '.join(study.encoders)}), or ask `advrec recommend --user`"
        )
    if model not in study.models:
        raise ConfigError(
            f"--model {model} is not a model of the study; it has {', '.join(study.models)}"
        )
    return load.from_run(run, model, catalog)


def title(catalog: Catalog, article: int) -> str:
    """Name and category of an article."""
    name, category = catalog.names[article], catalog.category_names[article]
    return f"{name} ({category})" if category else name


def caption(catalog: Catalog, article: int) -> str:
    """ID and category of an article."""
    return f"{article} {catalog.category_names[article]}".strip()
