"""Purchases of a file, resolved against a catalog: known articles, unknown ones, and the users."""

import posixpath
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from advrec.catalog.dataset import Catalog
from advrec.catalog.interactions import Interactions
from advrec.catalog.purchases import Purchases
from advrec.errors import ConfigError
from advrec.run import schema
from advrec.run.directory import Run
from advrec.run.tables import read_table

NAMED = 3  # unknown articles in a line
NO_ARTICLE = {
    "no texture": "has no texture, so it is no article",
    "unreadable": "could not be read",
    "duplicate": "repeats an image that is no article",
}
"""Outcomes of a listed image -> the reason why purchases of it do not count."""


class Bought(NamedTuple):
    interactions: Interactions
    users: pa.Array
    """IDs (U,) of the users, int64 or string."""
    unknown: Mapping[str, str]
    """Articles that are not in the catalog, each with the reason."""
    summary: str
    """A line about what became of the rows."""


def resolve(run: Run, catalog: Catalog, purchases: Purchases, path: str) -> Bought:
    """Keep the purchases of articles of the catalog, each once, and number their users.

    A purchase of an image that preparation dropped as a duplicate is one of the article that stays.

    Raises:
        ConfigError: no purchase is of an article of the catalog.
    """
    coded = purchases.articles.dictionary_encode()
    names, find = coded.dictionary.to_pylist(), _finder(run, catalog)
    found = [find(name) for name in names]
    places = np.array([-1 if isinstance(each, str) else each for each in found])
    article_ids = places[np.asarray(coded.indices)]
    known = article_ids >= 0
    unknown = {name: each for name, each in zip(names, found, strict=True) if isinstance(each, str)}
    if not known.any():
        raise ConfigError(
            f"{path}: holds no purchase of an article of the catalog; its first article is "
            f"{names[0]}, which {found[0]}; {run.catalog} has the names and IDs"
        )
    users = purchases.users.filter(pa.array(known)).dictionary_encode()
    query_ids = np.full(len(known), -1, dtype=np.int64)
    query_ids[known] = np.asarray(users.indices)
    order = purchases.order[known[purchases.order]]
    interactions = Interactions.of(
        query_ids[order],
        article_ids[order],
        num_users=len(users.dictionary),
        num_articles=len(catalog),
    )
    left_out = len(purchases.users.unique()) - len(users.dictionary)
    return Bought(
        interactions,
        users.dictionary,
        unknown,
        _summary(path, purchases, unknown, int(known.sum()), interactions, left_out),
    )


def _finder(run: Run, catalog: Catalog) -> Callable[[str], int | str]:
    """A call that gives the article of a name or ID, or the reason why there is none."""
    place: dict[str, int | str] = {}
    if run.listing.exists():
        listed = read_table(run.listing, schema.LISTING)
        columns = (listed[key].to_pylist() for key in ("name", "outcome", "article_id"))
        for name, outcome, article in zip(*columns, strict=True):
            place.setdefault(name, NO_ARTICLE[outcome] if article is None else article)
    place |= {name: article for article, name in enumerate(catalog.names)}

    def find(text: str) -> int | str:
        for name in (text, posixpath.normpath(text.strip())):
            if name in place:
                return place[name]
        is_id = text.isdecimal() and len(text) < 10 and int(text) < len(catalog)
        return int(text) if is_id else "is not in the catalog"

    return find


def _summary(
    path: str,
    purchases: Purchases,
    unknown: Mapping[str, str],
    known: int,
    interactions: Interactions,
    left_out: int,
) -> str:
    total, count = len(purchases.users), len(unknown)
    parts = [f"{total:,} rows of {path} in order{' of time' if purchases.timed else ''}"]
    if unknown:
        shown = ", ".join([*list(unknown)[:NAMED], *(["..."] if count > NAMED else [])])
        parts.append(
            f"{total - known:,} of {count:,} unknown article{'s are' if count > 1 else ' is'} "
            f"set aside ({shown})"
        )
    if left_out:
        who = f"{left_out:,} users who bought nothing else are"
        parts.append(f"{'1 user who bought nothing else is' if left_out == 1 else who} left out")
    if repeated := known - len(interactions.query_ids):
        parts.append(f"{repeated:,} for an article that the user has already")
    return "; ".join(parts)
