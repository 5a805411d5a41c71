"""Identities of models by those that they started from, join or recommend by."""

from collections.abc import Mapping
from typing import Any

from advrec.run.directory import Run
from advrec.run.provenance import file_hash
from advrec.spec import chains
from advrec.spec.label_free import TRAIN
from advrec.spec.models import AnyHybrid, AnyModel, JoinedModel
from advrec.spec.study import Study, canonical_hash

Identity = dict[str, Any]

IMAGES, IMAGES_BENEATH = "images_sha256", "init_images_sha256"
"""Keys of hashes of folders of images: those that a model was trained on, and those that the models
were which it started from.
"""
WEIGHTS = "weights of "
"""Beginning of the keys of hashes of models that a model is made of."""
ADDED = (IMAGES, IMAGES_BENEATH, "loaded", "interactions")
"""Keys that an identity gets when its model is made."""


def recorded(run: Run, study: Study, model: str, said: Identity) -> Identity:
    """Determine a model that is there, in the words in which the run has recorded it.

    Args:
        said: what the study says, as `Identities.models` has it.
    """
    spec, part, known = study.models[model], f"models/{model}", run.identities()
    wanted = _as_hashed(said, spec, part, known) | beneath(run, spec)
    if IMAGES_BENEATH in known.get(part, {}):
        wanted |= {IMAGES_BENEATH: None} | images_beneath(study, model, known)
    return wanted


def beneath(run: Run, spec: AnyModel) -> Identity:
    """Determine, beside what the study says, a joined model or a hybrid by what the run holds: the
    weights of the models that it is made of, of those that are there, and the interactions that a
    hybrid learns from. Nothing for another model.
    """
    there = [part for part in chains.beneath(spec) if run.weights(part).exists()]
    weights = {f"{WEIGHTS}{part}": file_hash(run.weights(part)) for part in dict.fromkeys(there)}
    if not isinstance(spec, AnyHybrid):
        return weights
    return weights | {"interactions": canonical_hash(run.identities().get("interactions"))}


def images_beneath(study: Study, model: str, known: Mapping[str, Identity]) -> Identity:
    """Determine the folders of images that the models were trained on which a model started from;
    nothing where there are none.

    Args:
        known: identities by part.
    """
    hashes, init = [], study.models[model].init
    while init != "none":
        sha256 = known.get(f"models/{init}", {}).get(IMAGES)
        hashes += [sha256] if sha256 else []
        init = study.models[init].init
    return {IMAGES_BENEATH: hashes} if hashes else {}


def _as_hashed(
    wanted: Identity, spec: AnyModel, part: str, known: Mapping[str, Identity]
) -> Identity:
    """The identity of a model with the hashes of those beneath it as the run has them.

    Why: versions up to 0.3.0 took them with the paths of files.

    Args:
        part: the model's.
        known: identities that the run has recorded, by part.
    """

    def before(model: str) -> str:
        recorded = known.get(f"models/{model}", {})
        own = {k: v for k, v in recorded.items() if k not in ADDED and not k.startswith(WEIGHTS)}
        return weights_hash(own)

    names = {"init_sha256": spec.init, "encoder_sha256": getattr(spec, "encoder", "none")}
    taken: Identity = {key: before(name) for key, name in names.items() if name != "none"}
    if isinstance(spec, JoinedModel):
        taken["parts_sha256"] = [before(name) for name in spec.join]
    mine = known.get(part, {})
    return wanted | {k: v for k, v in taken.items() if k in wanted and mine.get(k) == v}


def weights_hash(identity: Identity) -> str:
    """Hash of what determines a model's weights.

    Why: `images` came later, and the hashes that runs have recorded are without it.
    """
    later = {"images": TRAIN}
    return canonical_hash({k: v for k, v in identity.items() if later.get(k) != v})
