"""Changes that a defense without labels makes: drift of embeddings, lists, and whether an index of
the original still serves. Torch-free.
"""

import numpy as np
import pyarrow as pa

from advrec.recommenders.bank import Bank, Floats, Ids, Seen
from advrec.recommenders.drift import drift
from advrec.recommenders.ranks import ExactIndex, similar_articles
from advrec.run import schema
from advrec.run.changes import CHANGES

NEIGHBOURS = 10


def changes(embeddings: Floats, originals: Floats, article_ids: Ids) -> pa.Table:
    """CHANGES of articles (Q,), from the catalog's embeddings (N, D) by both models."""
    count = min(NEIGHBOURS, len(originals) - 1)
    true = similar_articles(originals).top_k(article_ids, count).ids
    own = similar_articles(embeddings).top_k(article_ids, count).ids
    kept = [len(set(ours) & set(theirs)) / count for ours, theirs in zip(own, true, strict=True)]
    return schema.table(
        CHANGES,
        {
            "article_id": article_ids,
            "drift": drift(embeddings[article_ids], originals[article_ids]),
            "overlap": kept,
            "new_query_ranks": list(_ranks(originals, embeddings, article_ids, true)),
            "old_query_ranks": list(_ranks(embeddings, originals, article_ids, true)),
        },
    )


def _ranks(catalog: Floats, queries: Floats, article_ids: Ids, wanted: Ids) -> Ids:
    """Ranks (Q, k) of the articles `wanted` (Q, k) for articles (Q,).

    Args:
        catalog: embeddings (N, D) that are searched.
        queries: embeddings (N, D) by the model that embeds the query.
    """
    seen = Seen.of([[article] for article in article_ids])
    index = ExactIndex(Bank(items=catalog, queries=queries[article_ids], seen=seen))
    places = np.repeat(np.arange(len(article_ids), dtype=np.int32), wanted.shape[1])
    flat = wanted.reshape(-1)
    return index.ranks(places, flat, catalog[flat]).reshape(wanted.shape)
