"""`advrec recommend --user`: the articles that a hybrid recommends to a user."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from advrec.catalog import interactions
from advrec.catalog.dataset import Catalog
from advrec.errors import AdvrecError, ConfigError
from advrec.recommenders import load
from advrec.recommenders.bank import Doubles, Floats, Ids
from advrec.recommenders.hybrid import Factors
from advrec.recommenders.ranks import ExactIndex
from advrec.reports.pictures import images as pictures
from advrec.run.directory import Run
from advrec.run.tables import is_embedded, read_embeddings
from advrec.spec.messages import suggest
from advrec.spec.study import Study
from advrec.tools.catalog import open_catalog
from advrec.tools.recommend import caption, title

HELD_OUT = "bought, held out of training"


def recommend_to_user(run: Run, study: Study, model: str, user: str, k: int) -> Path:
    """Print the k best articles for a user that the training has not seen bought, and draw them.

    Args:
        user: as the interactions call it.

    Returns:
        The picture's path.

    Raises:
        ConfigError: there is no such hybrid or user, or k is no number of articles not bought.
        AdvrecError: the run is not so far yet.
    """
    catalog = open_catalog(run)
    if model not in study.hybrids:
        raise ConfigError(_no_hybrid(study, model))
    factors, seen = load.factors(run, model, len(catalog))
    encoder = study.hybrids[model].encoder
    if not is_embedded(run, encoder, len(catalog)):
        raise AdvrecError(f"{encoder} has not embedded the catalog; run `advrec evaluate` first")
    embeddings = read_embeddings(run, encoder, factors.projection.shape[1])
    query = _query_of(run, model, user)
    bought = seen.articles[seen.starts[query] : seen.starts[query + 1]]
    if not 1 <= k <= len(catalog) - len(bought):
        raise ConfigError(
            f"-k is {k}: user {user} has not bought 1..{len(catalog) - len(bought)} articles"
        )
    factors = factors.centred(embeddings)
    index = ExactIndex(factors.bank(embeddings, seen))
    ids = index.top_k(np.array([query], dtype=np.int32), k).ids[0]
    scores = scored(factors, query, embeddings[ids], ids)
    held_out = dict(zip(*interactions.read(run, len(catalog)).held_out_pairs(), strict=True))
    notes = [HELD_OUT if held_out.get(query) == each else "" for each in ids]
    print(f"{'rank':>4}  {'article':>7}  {'score':>8}  name")
    for rank, (article, score, note) in enumerate(zip(ids, scores, notes, strict=True), start=1):
        beside = f", {note}" if note else ""
        print(f"{rank:>4}  {article:>7}  {score:>8.4f}  {title(catalog, article)}{beside}")
    path = run.directory / "pictures" / f"recommend-{model}-user-{query}.png"
    _draw(path, catalog, user, bought, ids, scores)
    print(path)
    return path


def scored(factors: Factors, query: int, embeddings: Floats, article_ids: Ids) -> Doubles:
    """Scores (n,) of articles (n,) with raw embeddings (n, D) for a user, by the hybrid's formula,
    in float64. Embeddings count less the origin of the factors, which changes all by the same.
    """
    origin = np.zeros(embeddings.shape[1]) if factors.origin is None else factors.origin
    visual = factors.user_visual[query].astype(np.float64) @ factors.projection
    of_purchases = factors.item_factors[article_ids].astype(np.float64)
    return np.asarray(
        factors.item_bias[article_ids]
        + of_purchases @ factors.user_factors[query]
        + (embeddings - origin) @ (visual + factors.visual_bias)
    )


def _no_hybrid(study: Study, model: str) -> str:
    hybrids = ", ".join(study.hybrids) or "none"
    if model in study.models:
        return (
            f"--model {model} recommends what is similar to an article, not to a user; name a "
            f"hybrid of the study ({hybrids}), or an article in the place of --user"
        )
    near = suggest(model, list(study.hybrids))
    return f"--model {model} is not a model of the study; its hybrids: {hybrids}{near}"


def _query_of(run: Run, model: str, user: str) -> int:
    names = [str(each) for each in pq.read_table(run.users_of(model))["user"].to_pylist()]
    if user not in names:
        raise ConfigError(
            f"--user {user} is none of the {len(names):,} users of the interactions"
            f"{suggest(user, names)}"
        )
    return names.index(user)


def _draw(path: Path, catalog: Catalog, user: str, bought: Ids, ids: Ids, scores: Doubles) -> None:
    """Draw the user's last purchase in training, and articles (k,) with scores (k,)."""
    query = pictures.Tile(
        catalog.pixels(bought[-1:])[0], [f"user {user}", "bought last"], pictures.QUERY_FRAME
    )
    tiles = [
        pictures.Tile(pixels, [caption(catalog, each), f"{rank}: score {score:.4f}"])
        for rank, (pixels, each, score) in enumerate(
            zip(catalog.pixels(ids), ids, scores, strict=True), start=1
        )
    ]
    pictures.row_picture(path, query, tiles)
