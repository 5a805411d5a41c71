"""The one way to build a recommender of a run: its weights, and the embeddings of its catalog."""

import numpy as np

from advrec.catalog.dataset import Catalog
from advrec.model import checkpoint
from advrec.model.checkpoint import Network
from advrec.model.encoder import embed_all, frozen, in_few_sizes
from advrec.recommenders.bank import Floats
from advrec.recommenders.ranks import similar_articles
from advrec.recommenders.recommender import Recommender
from advrec.run.directory import Run
from advrec.run.tables import embedding_shards, is_embedded, read_embeddings


def from_embeddings(network: Network, embeddings: Floats, device: str = "cpu") -> Recommender:
    """The recommender of a frozen network on `device` and its embeddings (N, D) of the catalog.

    Raises:
        ValueError: an embedding is zero or not finite.
    """
    return Recommender(
        embed=in_few_sizes(network.embed), index=similar_articles(embeddings), device=device
    )


def from_catalog(network: Network, catalog: Catalog, device: str = "cpu") -> Recommender:
    """The recommender of a frozen network on `device`, which embeds the catalog now."""
    parts = [
        embed_all(network.embed, catalog.pixels(ids), device)
        for ids in embedding_shards(len(catalog))
    ]
    return from_embeddings(network, np.concatenate(parts), device)


def from_run(run: Run, model: str, catalog: Catalog, device: str = "cpu") -> Recommender:
    """The recommender of a trained model of a run. Its embeddings are the run's, or made now where
    the evaluation has not been there yet.

    Raises:
        AdvrecError: the model is not trained yet, or recommends nothing.
    """
    run.require_weights(model)
    network = frozen(checkpoint.load(run.weights(model))).to(device)
    if is_embedded(run, model, len(catalog)):
        embeddings = read_embeddings(run, model, network.dimension)
        return from_embeddings(network, embeddings, device)
    return from_catalog(network, catalog, device)
