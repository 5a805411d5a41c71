"""Who attacks whom: (target, attack) pairs of one split, of different categories; or, where none
are known, of articles whose lists do not hold each other.
"""

import csv
import posixpath
from pathlib import Path

import numpy as np
import pyarrow as pa

from advrec.catalog.dataset import Catalog
from advrec.errors import ConfigError
from advrec.evaluation.lists import NEIGHBOURS
from advrec.recommenders.bank import Ids
from advrec.recommenders.ranks import ExactIndex
from advrec.run import schema
from advrec.spec import delimited
from advrec.spec.base import Split

COLUMNS = ("target_name", "attack_name")


def sample(catalog: Catalog, split: Split, count: int, seed: int) -> pa.Table:
    """`count` distinct pairs, drawn uniformly; the first n of a larger draw by the same seed are
    those of a smaller one.

    Raises:
        ConfigError: the split holds fewer such pairs.
    """
    ids = catalog.ids_of(split)
    labels = catalog.category_labels[ids]
    _, sizes = np.unique(labels, return_counts=True)
    possible = len(ids) ** 2 - int((sizes.astype(np.int64) ** 2).sum())
    if not possible:
        raise ConfigError(
            f"evaluation.split is {split}, which holds {len(ids)} articles of {len(sizes)} "
            f"categories, so no tuples are possible: target and attack article are of different "
            f"categories; add images of a second category"
        )
    if count > possible:
        raise ConfigError(
            f"evaluation.tuples is {count}, but the {split} split holds {possible} pairs of "
            f"different categories; lower it"
        )
    random = np.random.default_rng([seed, 0x7091E5])
    pairs: dict[tuple[int, int], None] = {}
    while len(pairs) < count:
        target, attack = random.integers(len(ids), size=2)
        if labels[target] != labels[attack]:
            pairs.setdefault((int(ids[target]), int(ids[attack])))
    return _table(list(pairs), split)


def sample_apart(
    index: ExactIndex, ids: Ids, split: Split, count: int, seed: int, model: str
) -> pa.Table:
    """`count` distinct pairs of a split's articles (n,), drawn uniformly from those of which
    neither stands in the other's list of ten; the first n of a larger draw are those of a smaller
    one.

    Args:
        index: of all articles, by the model that decides, whose name errors say.

    Raises:
        ConfigError: the split holds fewer such pairs.
    """
    lists = _Lists(index)
    # each list of ten rules out twenty ordered pairs at most
    if count > len(ids) * (len(ids) - 1 - 2 * NEIGHBOURS):
        possible = sum(lists.apart(int(a), int(b)) for a in ids for b in ids if a != b)
        if count > possible:
            raise ConfigError(
                f"evaluation.tuples is {count}, but the {split} split holds {possible} pairs of "
                f"articles of which neither stands in the other's list of ten by {model}, as "
                "tuples of a catalog without categories are; lower it, or add images"
            )
    random = np.random.default_rng([seed, 0x7091E5])
    pairs: dict[tuple[int, int], None] = {}
    while len(pairs) < count:
        target, attack = (int(ids[place]) for place in random.integers(len(ids), size=2))
        if target != attack and lists.apart(target, attack):
            pairs.setdefault((target, attack))
    return _table(list(pairs), split)


class _Lists:
    """Lists of ten of articles, each looked up once."""

    def __init__(self, index: ExactIndex) -> None:
        self._index, self._known = index, dict[int, frozenset[int]]()

    def apart(self, one: int, other: int) -> bool:
        """Say whether neither article stands in the other's list."""
        return other not in self._of(one) and one not in self._of(other)

    def _of(self, article: int) -> frozenset[int]:
        if article not in self._known:
            query = np.array([article], dtype=np.int32)
            found = self._index.top_k(query, min(NEIGHBOURS, len(self._index) - 1)).ids[0]
            self._known[article] = frozenset(found.tolist())
        return self._known[article]


def read_csv(catalog: Catalog, split: Split, path: Path) -> pa.Table:
    """Pairs by name, in the file's order: columns target_name and attack_name, as the published
    files have them.

    Names may be spelled as those of a manifest: ./a.jpg is a.jpg.

    Raises:
        ConfigError: the file cannot be read, or names an article that is not in the split, a pair
            that is no tuple, or one pair twice.
    """
    place = {catalog.names[article]: int(article) for article in catalog.ids_of(split)}
    first = dict[tuple[int, int], int]()
    try:
        read = delimited.read(path.read_bytes(), COLUMNS)
        delimited.refuse_repeats(path, read.columns, COLUMNS)
        if not set(COLUMNS) <= set(read.columns):
            raise ConfigError(f"{path} line 1: needs the columns {' and '.join(COLUMNS)}")
        for line, row in read.rows:
            texts = [(row[column] or "").strip() for column in COLUMNS]
            names = [text if text in place else posixpath.normpath(text) for text in texts]
            for name in names:
                if name not in place:
                    raise ConfigError(
                        f"{path} line {line}: {name} is not an article of the {split} split"
                    )
            target, attack = (place[name] for name in names)
            if target == attack:
                raise ConfigError(f"{path} line {line}: both are one article, {names[0]}")
            category = catalog.category_names[target]
            if catalog.labelled and category == catalog.category_names[attack]:
                raise ConfigError(f"{path} line {line}: both articles are of category {category}")
            if (target, attack) in first:
                raise ConfigError(
                    f"{path} line {line}: the pair stands already in line "
                    f"{first[target, attack]}; remove one"
                )
            first[target, attack] = line
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: is not a CSV in UTF-8 ({error})") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); set evaluation.tuples to a number or to "
            f"an existing CSV"
        ) from None
    if not first:
        raise ConfigError(f"{path}: holds no tuples")
    return _table(list(first), split)


def _table(pairs: list[tuple[int, int]], split: Split) -> pa.Table:
    return schema.table(
        schema.TUPLES,
        {
            "tuple_id": range(len(pairs)),
            "target_id": [target for target, _ in pairs],
            "attack_id": [attack for _, attack in pairs],
            "split": [split] * len(pairs),
        },
    )
