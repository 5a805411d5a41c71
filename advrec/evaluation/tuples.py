"""Who attacks whom: (target, attack) pairs of one split, of different categories."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa

from advrec.catalog.dataset import Catalog
from advrec.errors import ConfigError
from advrec.run import schema
from advrec.spec.base import Split


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

    Raises:
        ConfigError: the file cannot be read, or names an article that is not in the split, or a
            pair that is no tuple.
    """
    place = {catalog.names[article]: int(article) for article in catalog.ids_of(split)}
    pairs = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            if not {"target_name", "attack_name"} <= set(reader.fieldnames or ()):
                raise ConfigError(f"{path} line 1: needs the columns target_name and attack_name")
            for row in reader:
                target, attack = row["target_name"], row["attack_name"]
                for name in (target, attack):
                    if name not in place:
                        raise ConfigError(
                            f"{path} line {reader.line_num}: {name} is not an article of the "
                            f"{split} split"
                        )
                pair = place[target], place[attack]
                if catalog.category_names[pair[0]] == catalog.category_names[pair[1]]:
                    raise ConfigError(
                        f"{path} line {reader.line_num}: both articles are of category "
                        f"{catalog.category_names[pair[0]]}"
                    )
                pairs.append(pair)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: is not a CSV in UTF-8 ({error})") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); set evaluation.tuples to a number or to "
            f"an existing CSV"
        ) from None
    if not pairs:
        raise ConfigError(f"{path}: holds no tuples")
    return _table(pairs, split)


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
