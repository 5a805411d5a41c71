"""Recommenders of a run: the weights of a model, and the embeddings of the catalog by it."""

import numpy as np

from advrec.catalog.dataset import Catalog
from advrec.model import checkpoint
from advrec.model.checkpoint import Network
from advrec.model.encoder import embed_all, frozen
from advrec.recommenders.recommender import Recommender
from advrec.run.directory import Run
from advrec.run.tables import embedding_shards, is_embedded, read_embeddings


def from_catalog(network: Network, catalog: Catalog, device: str = "cpu") -> Recommender:
    """The recommender of a frozen network on `device`, which embeds the catalog now."""
    parts = [
        embed_all(network.embed, catalog.pixels(ids), device)
        for ids in embedding_shards(len(catalog))
    ]
    return Recommender.similar_articles(network.embed, np.concatenate(parts), device=device)


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
        return Recommender.similar_articles(network.embed, embeddings, device=device)
    return from_catalog(network, catalog, device)
