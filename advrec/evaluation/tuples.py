"""Who attacks whom: (target, attack) pairs of one split, of different categories."""

import csv
import posixpath
from pathlib import Path

import numpy as np
import pyarrow as pa

from advrec.catalog import delimited
from advrec.catalog.dataset import Catalog
from advrec.errors import ConfigError
from advrec.run import schema
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
            category = catalog.category_names[target]
            if category == catalog.category_names[attack]:
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
