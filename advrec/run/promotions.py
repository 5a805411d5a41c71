"""Tables of promotions: an article before a whole audience."""

from collections.abc import Sequence

import pyarrow as pa

from advrec.run import schema
from advrec.run.columns import column

_SHARED = ("epsilon", "linf", "l2", "raw_linf", "gradient_steps", "forward_passes", "seconds")
_ARTICLE = column("article_id", pa.int32(), "Article whose image the adversary changes.")
_QUERY = column("query_id", pa.int32(), "User, or target article.")

RANKS = pa.schema(
    [
        _ARTICLE,
        schema.OUTCOMES.field("epsilon"),
        _QUERY,
        column("rank_before", pa.int32(), "Rank of the unchanged image; 1 is the best."),
        column("rank_after", pa.int32(), "Rank of the attacked image; 1 is the best."),
    ]
)

PROMOTED = pa.schema(
    [
        _ARTICLE,
        column("cold", pa.bool_(), "Whether no user has bought it, as far as training knows."),
    ]
)

TARGETS = pa.schema(
    [
        column("target_id", pa.int32(), "Article whose list of neighbours is an audience's."),
        column("weight", pa.float64(), "How much it counts, above 0."),
    ]
)


def promotions(
    ranks: Sequence[int], deliveries: Sequence[str] = (), through: Sequence[str] = ()
) -> pa.Schema:
    """Columns of promotions/: one row an attacked article and epsilon.

    Args:
        ranks: the K that are measured.
        deliveries: other than float; each adds what comes after it, as `outcomes` has it.
        through: those of them that the attack goes through.
    """
    columns = [
        _ARTICLE,
        schema.OUTCOMES.field("epsilon"),
        column("audience", pa.string(), "`users`, or `targets`."),
        column(
            "audience_size",
            pa.int32(),
            "Queries that count; who has bought the article already does not.",
        ),
        *(each for rank in ranks for each in _worth(rank, "before", "the unchanged image")),
        *(each for rank in ranks for each in _worth(rank, "after", "the attacked image")),
        column("median_rank_before", pa.float64(), "Median rank of the unchanged image."),
        *_after("the attacked image"),
        *(schema.OUTCOMES.field(name) for name in _SHARED if name != "epsilon"),
        *(schema.OUTCOMES.field(name) for name in ("batch", "winner", "inherited")),
    ]
    for delivery in deliveries:
        image = f"the image made for {delivery}" if delivery in through else "the attacked image"
        image += f", after {delivery}"
        worth = [each for rank in ranks for each in _worth(rank, "after", image)]
        for each in (*worth, *_after(image)):
            columns.append(each.with_name(schema.suffixed(each.name, delivery)))
        if delivery in through:
            columns += [
                schema.OUTCOMES.field(norm).with_name(schema.suffixed(norm, delivery))
                for norm in ("linf", "l2")
            ]
    return pa.schema(columns)


def _worth(rank: int, when: str, image: str) -> list[pa.Field]:
    return [
        column(
            f"hr_{when}_{rank}",
            pa.float64(),
            f"Share of the audience, by weight, before which {image} has rank {rank} or better.",
            unit="fraction, 0 to 1",
        ),
        column(
            f"ndcg_{when}_{rank}",
            pa.float64(),
            f"Mean of 1 / log2(rank + 1) of {image} where the rank is {rank} or better, else 0.",
            unit="fraction, 0 to 1",
        ),
    ]


def _after(image: str) -> list[pa.Field]:
    return [
        column("median_rank_after", pa.float64(), f"Median rank of {image}."),
        column(
            "improved",
            pa.float64(),
            f"Share of the audience, by weight, for which {image} ranks better than before.",
            unit="fraction, 0 to 1",
        ),
        column(
            "score_shift",
            pa.float64(),
            f"Mean over the audience, by weight, of what {image} gains in score.",
            unit="score; cosine, -2 to 2, for targets",
        ),
    ]
