"""Optimizer steps of each model: accuracies are a fair comparison only after equal training.
Free of torch.
"""

from collections.abc import Mapping

from advrec.spec.defenses import TrainedModel
from advrec.spec.study import Study


def optimizer_steps(study: Study, epochs: Mapping[str, int], articles: int) -> dict[str, int]:
    """Count the optimizer steps of each model, with those of the models that it started from.

    Args:
        study: with every model, also those that are not compared.
        epochs: of each training, as its history lists them.
        articles: of the training split.

    Returns:
        Steps by model; a model is absent where one of its trainings is not known, or has no
        classes whose accuracy is compared.
    """
    steps: dict[str, int] = {}
    for model, spec in study.models.items():
        if not isinstance(spec, TrainedModel) or model not in epochs:
            continue
        if spec.init == "none":
            before = 0
        elif spec.init in steps:
            before = steps[spec.init]
        else:
            continue
        steps[model] = before + epochs[model] * spec.steps_an_epoch(articles)
    return steps


def trained_longer(study: Study, steps: Mapping[str, int], baseline: str) -> list[str]:
    """The defended models that had more optimizer steps than the undefended baseline.

    Args:
        steps: as `optimizer_steps` counts them.
    """
    if study.models[baseline].defense != "none" or baseline not in steps:
        return []
    return [
        model
        for model, spec in study.compared.models.items()
        if spec.defense != "none" and steps.get(model, 0) > steps[baseline]
    ]
