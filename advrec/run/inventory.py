"""Inventory of a run directory: every table that may lie in it."""

from collections.abc import Mapping

import pyarrow as pa

from advrec.run import category_attacks, promotions, schema
from advrec.run.changes import CHANGES
from advrec.run.interactions import INTERACTIONS, SEEN, users

BLOCKS = "model=<model>/attack=<attack>/block-<number>.parquet"
TABLES: Mapping[str, tuple[str, pa.Schema]] = {
    "catalog.parquet": ("an article", schema.CATALOG),
    "images/part-<number>.parquet": ("an article", schema.IMAGES),
    "listing.parquet": ("an image that the source lists, in its order", schema.LISTING),
    "near_duplicates.parquet": ("an article and another split", schema.NEAR_DUPLICATES),
    "prepared/shard-<number>.parquet": ("a listed image, while preparation lasts", schema.PREPARED),
    "interactions.parquet": ("a purchase, by user, then place", INTERACTIONS),
    "users.parquet": ("a user", users(pa.string(), drawn=True)),
    "tuples.parquet": ("a tuple", schema.TUPLES),
    "models/<model>/history.parquet": ("an epoch of its training", schema.HISTORY),
    "models/<model>/lists.parquet": ("an article whose list is compared", schema.LISTS),
    "models/<model>/changes.parquet": ("such an article, of a defense without labels", CHANGES),
    "models/<model>/seen.parquet": ("a purchase that a hybrid was trained on", SEEN),
    "models/<model>/users.parquet": ("a user of a hybrid", users(pa.string(), drawn=True)),
    "embeddings/model=<model>/part-<number>.parquet": ("an article", schema.embeddings(1280)),
    f"attacks/{BLOCKS}": ("a tuple at an epsilon", schema.OUTCOMES),
    f"checks/{BLOCKS}": ("a tuple at an epsilon, for the self-checks", schema.OUTCOMES),
    "promoted.parquet": ("an article that is attacked before audiences", promotions.PROMOTED),
    "targets.parquet": ("a target article", promotions.TARGETS),
    f"promotions/{BLOCKS}": ("a promoted article at an epsilon", promotions.promotions([10])),
    f"promotion_checks/{BLOCKS}": (
        "a promoted article at an epsilon, for the self-checks",
        promotions.promotions([10]),
    ),
    f"promotion_ranks/{BLOCKS}": ("such a row and a query", promotions.RANKS),
    f"category_attacks/{BLOCKS}": (
        "an epsilon, at which all images of a category are swapped",
        category_attacks.category_attacks([10]),
    ),
    f"examples/{BLOCKS}": ("a kept image", schema.EXAMPLES),
}
"""Path in a run directory -> what one row stands for, and the columns."""
