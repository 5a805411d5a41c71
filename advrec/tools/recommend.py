"""`advrec recommend`: the articles that a shop would list beside one, as a table and a picture."""

from pathlib import Path

import numpy as np

from advrec.catalog.dataset import Catalog
from advrec.errors import ConfigError
from advrec.recommenders import load
from advrec.recommenders.hnsw import HnswIndex
from advrec.recommenders.recommender import Recommender
from advrec.reports.pictures import images as pictures
from advrec.run.directory import Run
from advrec.spec.study import Study
from advrec.tools.catalog import open_catalog


def recommend(run: Run, study: Study, model: str, article_name: str, k: int) -> Path:
    """Print the k nearest articles of one as a shop would list them (HNSW), and draw them.

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
    embeddings = recommender.bank.items
    ids, _ = HnswIndex(embeddings).top_k(np.array([article], dtype=np.int32), k)[0]
    distances = recommender.index.distances(embeddings[article][None])[0, ids]
    print(f"{'rank':>4}  {'article':>7}  {'distance':>8}  name")
    print(f"{'':>4}  {article:>7}  {'':>8}  {_title(catalog, article)}")
    neighbours = list(zip(ids.tolist(), distances.tolist(), strict=True))
    for rank, (other, distance) in enumerate(neighbours, start=1):
        print(f"{rank:>4}  {other:>7}  {distance:>8.4f}  {_title(catalog, other)}")
    path = run.directory / "pictures" / f"recommend-{model}-{article}.png"
    pictures.neighbour_picture(
        path,
        (catalog.pixels([article])[0], _caption(catalog, article)),
        [
            (pixels, _caption(catalog, other), distance)
            for pixels, (other, distance) in zip(catalog.pixels(ids), neighbours, strict=True)
        ],
    )
    print(path)
    return path


def open_model(run: Run, study: Study, model: str, catalog: Catalog) -> Recommender:
    """The recommender of a model of the study.

    Raises:
        ConfigError: the study has no such model.
        AdvrecError: it is not trained yet.
    """
    if model not in study.models:
        raise ConfigError(
            f"--model {model} is not a model of the study; it has {', '.join(study.models)}"
        )
    return load.from_run(run, model, catalog)


def _title(catalog: Catalog, article: int) -> str:
    return f"{catalog.names[article]} ({catalog.category_names[article]})"


def _caption(catalog: Catalog, article: int) -> str:
    return f"{article} {catalog.category_names[article]}"
