"""The table of attacks on whole categories."""

from collections.abc import Sequence

import pyarrow as pa

from advrec.run import schema
from advrec.run.columns import column

BOUNDS = ("low", "high")
"""Ends of the names of an interval's columns."""


def category_attacks(
    ranks: Sequence[int], deliveries: Sequence[str] = (), through: Sequence[str] = ()
) -> pa.Schema:
    """Columns of category_attacks/: one row an epsilon, in a file a model and way of attacking.

    Args:
        ranks: the K that are measured.
        deliveries: other than float; each adds what comes after it, as `promotions` has it.
        through: those of them that the attack goes through.
    """
    columns = [
        schema.OUTCOMES.field("epsilon"),
        column("origin", pa.string(), "Category whose images are swapped."),
        column("target", pa.string(), "Category that they are to resemble."),
        column("articles", pa.int32(), "Articles of the origin, in all splits."),
        column("users", pa.int32(), "Users whose lists are counted: all."),
        *(each for rank in ranks for each in _worth(rank, "before", "the catalog's images")),
        *(each for rank in ranks for each in _after(rank, "the attacked images")),
        *_norms("all images"),
        column("gradient_steps", pa.int64(), "Gradient steps, of all images."),
        column("forward_passes", pa.int64(), "Images embedded by the attack, in all."),
        column("seconds", pa.float64(), "Wall time of the attack on all images.", unit="s"),
        column("batch", pa.int32(), "Images on the device at once."),
    ]
    for delivery in deliveries:
        made = f"the images made for {delivery}" if delivery in through else "the attacked images"
        also = [each for rank in ranks for each in _after(rank, f"{made}, after {delivery}")]
        also += _norms(f"all images made for {delivery}") if delivery in through else []
        columns += [each.with_name(schema.suffixed(each.name, delivery)) for each in also]
    return pa.schema(columns)


def _worth(rank: int, when: str, images: str) -> list[pa.Field]:
    return [
        *_with_interval(
            f"chr_{when}_{rank}",
            f"CHR@{rank} of the origin with {images}: share of the first {rank} places of all "
            "users that its articles hold which they have not bought",
        ),
        column(
            f"ndcg_{when}_{rank}",
            pa.float64(),
            "The same where place p counts 1 / log2(p + 1), as a share of what all places count.",
            unit="fraction, 0 to 1",
        ),
        column(
            f"target_chr_{when}_{rank}",
            pa.float64(),
            f"CHR@{rank} of the target with {images}.",
            unit="fraction, 0 to 1",
        ),
    ]


def _after(rank: int, images: str) -> list[pa.Field]:
    return [
        *_worth(rank, "after", images),
        *_with_interval(f"chr_change_{rank}", f"CHR@{rank} with {images} minus that before"),
    ]


def _with_interval(name: str, doc: str) -> list[pa.Field]:
    """A share, and the bounds of its interval; null where one user alone is there."""
    unit = "fraction, -1 to 1" if "change" in name else "fraction, 0 to 1"
    return [
        column(name, pa.float64(), f"{doc}.", unit=unit),
        *(
            column(
                f"{name}_{bound}",
                pa.float64(),
                f"The {place} bound of its 95 % bootstrap interval over users.",
                unit=unit,
            )
            for bound, place in zip(BOUNDS, ("lower", "upper"), strict=True)
        ),
    ]


def _norms(images: str) -> list[pa.Field]:
    pixels = "pixels in [0, 1]"
    return [
        column("linf_max", pa.float64(), f"Largest change of a value, of {images}.", unit=pixels),
        column("linf_mean", pa.float64(), f"Mean largest change, of {images}.", unit=pixels),
        column("l2_max", pa.float64(), f"Largest length of a change, of {images}.", unit=pixels),
        column("l2_mean", pa.float64(), f"Mean length of a change, of {images}.", unit=pixels),
    ]
