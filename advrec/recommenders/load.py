"""Recommenders of a run: the weights of a model, and the embeddings of the catalog by it."""

import numpy as np

from advrec.catalog.dataset import Catalog
from advrec.errors import AdvrecError
from advrec.model import checkpoint
from advrec.model.checkpoint import AnyNetwork
from advrec.model.encoder import embed_all, frozen
from advrec.recommenders.bank import NoDistanceError, Seen
from advrec.recommenders.hybrid import Factors
from advrec.recommenders.recommender import Recommender
from advrec.run.directory import Run
from advrec.run.interactions import SEEN
from advrec.run.tables import embedding_shards, is_embedded, read_embeddings, read_table


def why_not(error: ValueError, catalog: Catalog) -> str:
    """The reason why a model recommends nothing, with the name of the image that is at fault."""
    if not isinstance(error, NoDistanceError):
        return str(error)
    return (
        f"{error}; leave {catalog.names[error.row]} out of the catalog, "
        "or the model out of the study"
    )


def factors(run: Run, model: str, articles: int) -> tuple[Factors, Seen]:
    """Load the factors that the training of a hybrid has left, and what its users had bought.

    Args:
        articles: of the catalog.

    Raises:
        AdvrecError: it is not trained yet, or of another catalog.
    """
    run.require_weights(model)
    made = Factors.load(run.bank(model))
    if made.num_articles != articles:
        raise AdvrecError(
            f"{run.bank(model)} ranks {made.num_articles:,} articles, the catalog has "
            f"{articles:,}; delete it, and `advrec train` makes it again"
        )
    bought = read_table(run.seen(model), SEEN)
    query_ids, article_ids = (bought[name].to_numpy() for name in ("query_id", "article_id"))
    order = np.argsort(query_ids, kind="stable")
    sizes = np.bincount(query_ids, minlength=made.num_users)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return made, Seen(starts, article_ids[order].astype(np.int32))


def from_catalog(network: AnyNetwork, catalog: Catalog, device: str = "cpu") -> Recommender:
    """The recommender of a frozen network on `device`, which embeds the catalog now."""
    parts = [
        embed_all(network.embed, catalog.pixels(ids), device)
        for ids in embedding_shards(len(catalog))
    ]
    made = Recommender.similar_articles(network.embed, np.concatenate(parts), device=device)
    return made.behind_door_of(network)


def from_run(run: Run, model: str, catalog: Catalog, device: str = "cpu") -> Recommender:
    """The recommender of a trained model of a run. Its embeddings are the run's, or made now where
    the evaluation has not been there yet.

    Raises:
        AdvrecError: the model is not trained yet, or recommends nothing.
    """
    run.require_weights(model)
    network = frozen(checkpoint.load(run.weights(model))).to(device)
    try:
        if is_embedded(run, model, len(catalog)):
            embeddings = read_embeddings(run, model, network.dimension)
            made = Recommender.similar_articles(network.embed, embeddings, device=device)
            return made.behind_door_of(network)
        return from_catalog(network, catalog, device)
    except ValueError as error:
        raise AdvrecError(f"{model} cannot recommend: {why_not(error, catalog)}") from None
