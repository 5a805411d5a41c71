"""Equal images: how far they shift ranks, and pairs that are equal before any attack."""

import numpy as np
import pandas as pd

from advrec.catalog.duplicates import equal_images
from advrec.evaluation.rates import CELL, SHARE, shares
from advrec.reports.results import Results
from advrec.reports.tables.rows import span
from advrec.run import schema
from advrec.run.tables import read_table

EQUAL_WITHIN = 1e-6
"""Cosine distance below which float32 tells no two embeddings apart."""
DISTINCT_COLUMNS = [*CELL, "rank", *SHARE]
PAIR_COLUMNS = [*CELL, "rank", "pairs", *SHARE]


def first_ranks(results: Results) -> pd.DataFrame:
    """One row a tuple: target_id, copies and first_rank.

    copies: articles, other than the two, that show the target's image. Each has distance 0, so the
    attacked article stands behind them: first_rank is 1 + copies, or 1 where it shows that image
    itself.
    """
    sha256 = read_table(results.run.catalog, schema.CATALOG)["sha256"].to_pylist()
    pairs = read_table(results.run.tuples, schema.TUPLES).to_pandas()
    groups = equal_images(sha256)
    members = np.bincount(groups)[groups]
    targets, attacked = pairs["target_id"].to_numpy(), pairs["attack_id"].to_numpy()
    shown = groups[targets] > 0
    both = shown & (groups[targets] == groups[attacked])
    copies = np.where(shown, members[targets] - 1 - both, 0)
    return pd.DataFrame(
        {"target_id": targets, "copies": copies, "first_rank": np.where(both, 1, 1 + copies)}
    )


def sentence(results: Results) -> str:
    """A sentence on first ranks behind equal images; empty where no target has an equal article."""
    tuples = first_ranks(results)
    behind = tuples[tuples["copies"] > 0]
    if behind.empty:
        return ""
    targets, ranks = behind["target_id"].nunique(), behind["first_rank"]
    hopeless = int((tuples["first_rank"] > results.rank).sum())
    return (
        f"Equal images: {targets:,} of {tuples['target_id'].nunique():,} targets have equal "
        "articles, which show the same prepared image. These stand before any attacked image, "
        f"so success begins to be possible at rank {span(ranks.tolist())} "
        f"(median {ranks.median():g}), and rank {results.rank} is out of reach on {hopeless:,} of "
        f"{len(tuples):,} tuples. The table distinct holds the ranks among distinct images."
    )


def distinct(results: Results) -> pd.DataFrame:
    """One row a (model, attack, epsilon, rank): success by the rank among distinct images.

    Empty where no two articles show one image, or where the rows are of a version before 0.3.0.
    """
    rows = results.outcomes[results.outcomes["adversarial_distinct_rank"].notna()]
    if rows.empty:
        return pd.DataFrame(columns=DISTINCT_COLUMNS)
    parts = [
        shares(
            rows[[*CELL, "target_id"]].assign(won=rows["adversarial_distinct_rank"] <= rank), CELL
        ).assign(rank=rank)
        for rank in results.study.evaluation.ranks
    ]
    return results.in_study_order(pd.concat(parts), ["epsilon", "rank"])[DISTINCT_COLUMNS]


def pairs(results: Results) -> pd.DataFrame:
    """One row a (model, attack, epsilon, rank, pairs): success on pairs that are `equal` before any
    attack (clean distance below EQUAL_WITHIN), and on the `different` ones.

    Why: such a pair has rank 1 unattacked, and its gradient is rounding. An attack whose last image
    counts, as fgsm and pgd-K, only moves it away. Empty where there is no such pair.
    """
    equal = results.outcomes["clean_distance"] < EQUAL_WITHIN
    if not equal.any():
        return pd.DataFrame(columns=PAIR_COLUMNS)
    rows = results.outcomes[[*CELL, "target_id"]].assign(
        pairs=equal.map({True: "equal", False: "different"})
    )
    parts = [
        shares(
            rows.assign(won=results.outcomes["adversarial_rank"] <= rank), [*CELL, "pairs"]
        ).assign(rank=rank)
        for rank in results.study.evaluation.ranks
    ]
    return results.in_study_order(pd.concat(parts), ["epsilon", "rank", "pairs"])[PAIR_COLUMNS]
