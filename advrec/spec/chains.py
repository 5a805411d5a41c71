"""Models of a study that others stand on: those that they start from, join or recommend by."""

from collections.abc import Mapping, Sequence

from advrec.spec.defenses import TrainedModel
from advrec.spec.label_free import FOR_ENCODERS, LabelFree, original
from advrec.spec.messages import suggest
from advrec.spec.models import AnyHybrid, AnyModel, JoinedModel


def check(models: Mapping[str, AnyModel]) -> None:
    """Refuse an entry that stands on a model which is not above it, or cannot be stood on.

    Args:
        models: entries of the study by name, in its order.

    Raises:
        ValueError: there is one.
    """
    above: list[str] = []
    for name, spec in models.items():
        trained = "" if isinstance(spec, LabelFree) else " trained"
        fit = [other for other in above if not trained or isinstance(models[other], TrainedModel)]
        if spec.init != "none":
            if spec.init in above and isinstance(models[spec.init], JoinedModel):
                raise ValueError(
                    f"models.{name}.init is {spec.init}, a joined model, which is not trained; "
                    "defend the models that it joins, and join what comes out"
                )
            hint = FOR_ENCODERS if spec.init in above else suggest(spec.init, fit)
            _check_above(f"models.{name}.init", spec.init, fit, hint, trained)
        for place, part in enumerate(joined(spec)):
            _check_above(f"models.{name}.join.{place}", part, above, _hint(models, part, above))
        if isinstance(spec, AnyHybrid):
            key, hint = f"models.{name}.encoder", _hint(models, spec.encoder, above)
            _check_above(key, spec.encoder, above, hint)
        else:
            above.append(name)  # a hybrid embeds nothing


def _hint(models: Mapping[str, AnyModel], named: str, above: Sequence[str]) -> str:
    """The end of a refusal: why a hybrid is none of the models above, or the nearest name."""
    if isinstance(models.get(named), AnyHybrid):
        return f"; {named} is a hybrid recommender, which embeds no image"
    return suggest(named, above)


def _check_above(key: str, named: str, fit: Sequence[str], hint: str, trained: str = "") -> None:
    if named not in fit:
        raise ValueError(
            f"{key} is {named}, which is not a model{trained} above it; "
            f"models{trained} above: {', '.join(fit) or 'none'}{hint}"
        )


def joined(spec: AnyModel) -> tuple[str, ...]:
    """Names of the models that an entry joins; none of any other."""
    return spec.join if isinstance(spec, JoinedModel) else ()


def beneath(spec: AnyModel) -> tuple[str, ...]:
    """Names of the models that an entry is made of: those that it joins, or its encoder."""
    return (spec.encoder,) if isinstance(spec, AnyHybrid) else joined(spec)


def parts(models: Mapping[str, AnyModel], model: str) -> list[AnyModel]:
    """The entries of the networks that make a model: its own, or those joined, however deep."""
    names = joined(models[model])
    return [each for name in names for each in parts(models, name)] or [models[model]]


def has_label_free(models: Mapping[str, AnyModel], model: str) -> bool:
    """Say whether a model, or a network that it joins, was defended without labels."""
    return any(isinstance(part, LabelFree) for part in parts(models, model))


def originals(models: Mapping[str, AnyModel], model: str) -> set[str]:
    """Names of the models that a model's defenses without labels began with; of a joined model
    those of all its parts.
    """
    names = joined(models[model])
    return {first for each in names for first in originals(models, each)} or {
        original(models, model)
    }


def ingests(models: Mapping[str, AnyModel], model: str) -> tuple[str, ...]:
    """Ingests that images pass before a model embeds them: its own, its encoder's, and those of its
    parts.
    """
    spec = models[model]
    own = getattr(spec, "ingest", None)
    below = [each for name in dict.fromkeys(beneath(spec)) for each in ingests(models, name)]
    return (*((own,) if own else ()), *dict.fromkeys(below))


def with_defenses(models: Mapping[str, AnyModel]) -> dict[str, AnyModel]:
    """The same entries, joined ones with the defense that they stand for."""
    known: dict[str, AnyModel] = {}
    for name, spec in models.items():
        if isinstance(spec, JoinedModel):
            spec = spec.standing_for([known[part].defense for part in spec.join])
        known[name] = spec
    return known
