"""Numbers of an evaluation for Ray's metrics endpoint (Prometheus), by model and attack."""

from ray.util import metrics

TAGS = ("model", "attack")


class Meters:
    """The metrics of an evaluation.

    Args:
        rank: the largest rank that counts as success.
    """

    def __init__(self, rank: int) -> None:
        self._tuples = metrics.Counter(
            "advrec_tuples", "Tuples attacked, at all their budgets.", TAGS
        )
        self._image_steps = metrics.Counter(
            "advrec_image_steps", "Gradient steps, each of one image.", TAGS
        )
        self._set_aside = metrics.Counter("advrec_blocks_set_aside", "Blocks given up on.", TAGS)
        self._success = metrics.Gauge(
            "advrec_success_percent",
            f"Tuples at rank <= {rank} at the largest budget, of those attacked so far.",
            TAGS,
        )

    def done(self, model: str, attack: str, *, tuples: int, steps: int, success: float) -> None:
        """Count a block.

        Args:
            success: share of the tuples so far, in percent.
        """
        tags = {"model": model, "attack": attack}
        if tuples:
            self._tuples.inc(tuples, tags)
        if steps:
            self._image_steps.inc(steps, tags)
        self._success.set(success, tags)

    def set_aside(self, model: str, attack: str) -> None:
        """Count a block that was given up on."""
        self._set_aside.inc(1, {"model": model, "attack": attack})
