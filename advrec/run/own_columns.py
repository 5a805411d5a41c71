"""Columns that some have of their own: of attacks/ beside schema.OUTCOMES minimal-K and auto, of a
history defenses without labels, and networks of textures alone.
"""

import pyarrow as pa

from advrec.run import schema
from advrec.run.columns import column
from advrec.spec.defenses import TrainedModel
from advrec.spec.label_free import LabelFree
from advrec.spec.models import AnyModel

MINIMAL = pa.schema(
    [
        column(
            "epsilon_low",
            pa.float64(),
            "Largest budget below epsilon_high that was tried in vain; 0 where none was.",
            unit="pixels in [0, 1]",
        ),
        column(
            "epsilon_high",
            pa.float64(),
            "Smallest budget at which the tuple reached the attack's rank, measured on that image; "
            "infinite where none did. The same in all rows of a tuple.",
            unit="pixels in [0, 1]",
        ),
    ]
)

AUTO = pa.schema(
    [
        column(
            "projected",
            pa.bool_(),
            "Whether the tuple was not attacked at this budget: it stayed beyond rank 100 at the "
            "next larger one. It has the better of that one's image, projected, and a smaller "
            "one's. In a transfer the rank is by the model that the attack is made on.",
        )
    ]
)

DRIFT_HISTORY = pa.schema(
    [
        *(field for field in schema.HISTORY if not field.name.startswith("validation")),
        column(
            "validation_drift",
            pa.float64(),
            "Median distance of clean validation images' embeddings from the original ones.",
            unit="share of their length",
        ),
        column(
            "validation_attacked_drift",
            pa.float64(),
            "The same under the defense's own attack.",
            unit="share of their length",
        ),
    ]
)


TEXTURE_HISTORY = pa.schema(
    [
        *(field for field in schema.HISTORY if not field.name.startswith("validation")),
        column(
            "validation_texture_precision",
            pa.float64(),
            "Share of validation images whose first texture is one of theirs.",
            unit="fraction, 0 to 1",
        ),
        column(
            "validation_adversarial_texture_precision",
            pa.float64(),
            "The same under the defense's own attack.",
            unit="fraction, 0 to 1",
        ),
    ]
)


def history(spec: AnyModel) -> pa.Schema:
    """Columns of a model's history.parquet: schema.HISTORY, without labels DRIFT_HISTORY, without a
    category head TEXTURE_HISTORY.
    """
    if isinstance(spec, LabelFree):
        return DRIFT_HISTORY
    is_of_textures = isinstance(spec, TrainedModel) and not spec.on_categories
    return TEXTURE_HISTORY if is_of_textures else schema.HISTORY
