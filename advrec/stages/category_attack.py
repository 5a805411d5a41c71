"""The category attack of a study: checked, and what is left out of it. Free of torch."""

from collections.abc import Sequence

from advrec.attacks import names
from advrec.errors import ConfigError, StudyError
from advrec.spec.category_attack import CLASS, has_categories
from advrec.spec.study import Study

KEY = "evaluation.category_attack"


def check_attack(study: Study) -> None:
    """Refuse an attack that there is not: raises StudyError."""
    wanted = study.evaluation.category_attack
    if wanted is not None:
        try:
            names.check(wanted.attack)
        except ConfigError as error:
            raise StudyError(f"{KEY}.attack: {error}") from None


def check_categories(study: Study, categories: Sequence[str]) -> None:
    """Refuse categories that the catalog has not: raises StudyError.

    Args:
        categories: those of the catalog.
    """
    wanted = study.evaluation.category_attack
    if wanted is None:
        return
    if len(categories) < 2:
        raise StudyError(
            f"{KEY} needs two categories, and the catalog has {len(categories) or 'none'}; "
            "leave it out, or give the images categories"
        )
    for key, named in (("origin", wanted.origin), ("target", wanted.target)):
        if named is not None and named not in categories:
            raise StudyError(
                f"{KEY}.{key} is {named}, which is no category of the catalog; "
                f"categories: {', '.join(categories)}"
            )


def left_out(study: Study) -> list[str]:
    """Lines on hybrids whose encoder has no category head; none where none is needed."""
    wanted = study.evaluation.category_attack
    if wanted is None or CLASS not in wanted.towards:
        return []
    return [
        f"{model} class: left out, for {spec.encoder} has no category head"
        for model, spec in study.hybrids.items()
        if spec.compared and not has_categories(study.models, spec.encoder)
    ]
