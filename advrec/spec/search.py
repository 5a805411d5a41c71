"""A search: strict YAML -> frozen models. What is searched, over which space, by what, for which
objectives.
"""

import copy
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError, model_validator

from advrec.errors import ConfigError
from advrec.spec import study as study_file
from advrec.spec import yaml as strict_yaml
from advrec.spec.base import Name, Strict
from advrec.spec.budgets import Epsilon, plain
from advrec.spec.defenses import TrainedModel
from advrec.spec.label_free import LabelFree
from advrec.spec.messages import sentence
from advrec.spec.models import AnyModel, JoinedModel, OwnModel
from advrec.spec.study import Study

Objective = Literal["clean_accuracy", "adversarial_accuracy", "success_rate", "overlap"]
MODES: dict[Objective, Literal["max", "min"]] = {
    "clean_accuracy": "max",
    "adversarial_accuracy": "max",
    "success_rate": "min",
    "overlap": "max",
}
# what else an epoch knows is measured under the trial's own budget and steps
KNOWN_EACH_EPOCH: Objective = "clean_accuracy"
Number = Annotated[float, BeforeValidator(plain)]
Pair = tuple[Number, Number]
Scalar = bool | int | float | str | None
Value = Scalar | tuple[Scalar, ...]


class Domain(Strict):
    """Source of a key's values: exactly one of these."""

    uniform: Pair | None = None
    """Between two numbers; budgets also as 2/255."""
    loguniform: Pair | None = None
    """Between two positive numbers, uniform in the logarithm."""
    randint: tuple[int, int] | None = None
    """Whole numbers, both ends among them."""
    choice: Annotated[tuple[Value, ...], Field(min_length=1)] | None = None
    """One of a list."""
    grid: Annotated[tuple[Value, ...], Field(min_length=1)] | None = None
    """Each of a list, in every combination with those of other grids."""

    @model_validator(mode="after")
    def _one(self) -> "Domain":
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{' and '.join(given) or 'nothing'} given; "
                "write one of uniform, loguniform, choice, randint, grid"
            )
        bounds = self.uniform or self.loguniform or self.randint
        if bounds is not None and bounds[0] >= bounds[1]:
            raise ValueError(f"{given[0]} is {list(bounds)}; the first number is the smaller one")
        if self.loguniform is not None and self.loguniform[0] <= 0:
            raise ValueError(f"loguniform is {list(self.loguniform)}; its numbers are positive")
        return self

    @property
    def corners(self) -> list[Value]:
        """Values whose studies are tried before any work: the ends of a range, all of a list."""
        return list(
            self.uniform or self.loguniform or self.randint or self.choice or self.grid or ()
        )

    @property
    def size(self) -> float:
        """Number of different values, infinite between numbers that are not whole."""
        if self.randint is not None:
            return self.randint[1] - self.randint[0] + 1
        values = self.choice or self.grid
        return math.inf if values is None else len({json.dumps(value) for value in values})


Key = Annotated[str, StringConstraints(pattern=r"^models\.[A-Za-z0-9_-]+\.[a-z_]+$")]
LONGEST_NAME = 50


class TuneSpec(Strict):
    name: Name
    """Name of the search; it lies in results/tune-<name> unless --out says otherwise."""
    study: str
    """The study whose catalog, models and seed the trials share; relative to the file."""
    model: Name
    """Model of the study that each trial trains; those that it starts from are trained once."""
    changes: dict[str, Any] = Field(default_factory=dict, alias="set")
    """Keys of the study that differ in all trials."""
    space: Annotated[dict[Key, Domain], Field(min_length=1)]
    """Domains by key of the study, models.<model>.<key>."""
    trials: Annotated[int, Field(ge=1)] = 16
    """Number of trials; not used where the space has grids: then each combination is tried once."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 42
    """Seed of the searcher."""
    searcher: Literal["random", "optuna"] = "optuna"
    """optuna: tree-structured Parzen estimators, of several objectives too."""
    scheduler: Literal["none", "asha"] = "none"
    """asha: stop the worse half of trials early, by the one objective."""
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = (
        "clean_accuracy",
        "success_rate",
    )
    """Measured on the validation split: accuracies are to be large, success is to be small. Without
    labels overlap takes the place of accuracies, the share of lists of ten that is kept: large.
    """
    attack: str = "auto"
    """Attack of success_rate."""
    epsilon: Epsilon = 0.03
    """Budget of success_rate, pixels in [0, 1], as 0.01 or 2/255."""
    rank: Annotated[int, Field(ge=1)] = 3
    """Rank that counts as success."""
    tuples: Annotated[int, Field(ge=1)] = 64
    """Tuples of the validation split that success_rate counts."""
    concurrency: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Trials at once; auto: one a GPU, else one a core."""

    @model_validator(mode="after")
    def _fits(self) -> "TuneSpec":
        grids = [key for key, domain in self.space.items() if domain.grid is not None]
        if grids and self.searcher != "random":
            raise ValueError(
                f"{grids[0]} is a grid, which searcher: {self.searcher} does not try out; "
                "set searcher: random, or use choice"
            )
        if self.scheduler == "asha" and self.objectives != (KNOWN_EACH_EPOCH,):
            raise ValueError(
                f"scheduler: asha compares trials by {KNOWN_EACH_EPOCH}; "
                "name it as the only objective"
            )
        if len(self.name) > LONGEST_NAME:
            raise ValueError(
                f"name has {len(self.name)} characters; at most {LONGEST_NAME}, "
                "for the best study's begins with it"
            )
        if other := [key for key in self.space if key.split(".")[1] != self.model]:
            raise ValueError(
                f"space holds {other[0]}; only models.{self.model} is trained in every trial, "
                "set the rest with set"
            )
        for key, done in (("init", "trained"), ("images", "prepared")):
            if f"models.{self.model}.{key}" in self.space:
                raise ValueError(
                    f"{key} is the same in every trial: what it names is {done} once, before; "
                    "set it with set"
                )
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError("objectives names one of them twice")
        return self

    @property
    def num_trials(self) -> int:
        grids = [domain.grid for domain in self.space.values() if domain.grid is not None]
        return math.prod(map(len, grids)) if grids else self.trials

    @property
    def num_combinations(self) -> float:
        """Number of different trials that the space holds, perhaps infinite."""
        return math.prod(domain.size for domain in self.space.values())


def load(path: Path) -> tuple[TuneSpec, dict[str, Any], Path]:
    """Read a search.

    Returns:
        The search, the content of its study file with `set` applied, and the directory of that
        file.

    Raises:
        ConfigError: anything in either file, or in a study that the space holds, is not as it
            should be.
    """
    raw = strict_yaml.read(path, TuneSpec.model_fields)
    try:
        spec = TuneSpec.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        raise ConfigError(f"{path}: {sentence(error.errors(), raw, _keys_beside)}") from None
    file = path.resolve().parent / spec.study
    content = assigned(strict_yaml.read(file, Study.model_fields), spec.changes)
    if spec.model not in content.get("models", {}):
        raise ConfigError(
            f"{path}: model is {spec.model}, which {file} does not have; "
            f"its models: {', '.join(content.get('models', {}))}"
        )
    whole = study_file.resolve(
        content, f"{file} with set of {path}" if spec.changes else str(file), file.parent
    )
    if not whole.models[spec.model].trained_here:
        kinds = {JoinedModel: "joined model", OwnModel: "model that was trained elsewhere"}
        kind = kinds.get(type(whole.models[spec.model]), "hybrid recommender")
        raise ConfigError(
            f"{path}: model is {spec.model}, a {kind}; name one that the study trains"
        )
    _check_objectives(spec, path, whole.models[spec.model])
    if whole.catalog.published_split:
        raise ConfigError(
            f"{path}: {file} has no validation split, and a search never looks at the test split; "
            "set published_split: false"
        )
    for key, domain in spec.space.items():
        for value in domain.corners:
            trial = assigned(content, {key: value})
            study_file.resolve(trial, f"{path}: space.{key}", file.parent)
    return spec, content, file.parent


def _check_objectives(spec: TuneSpec, path: Path, model: AnyModel) -> None:
    """Refuse what the searched model does not have: raises ConfigError."""
    label_free = isinstance(model, LabelFree)
    accuracies = [each for each in spec.objectives if each.endswith("accuracy")]
    if label_free and accuracies:
        raise ConfigError(
            f"{path}: objectives has {accuracies[0]}, and {spec.model} is defended without labels; "
            "write objectives: [overlap, success_rate]"
        )
    if isinstance(model, TrainedModel) and not model.on_categories and accuracies:
        raise ConfigError(
            f"{path}: objectives has {accuracies[0]}, and {spec.model} has no category head; "
            "write objectives: [success_rate]"
        )
    if not label_free and "overlap" in spec.objectives:
        raise ConfigError(
            f"{path}: objectives has overlap, which is for a defense without labels: the lists "
            "that it keeps of its original; leave it out"
        )


def assigned(content: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the content of a study file and set keys of it by their paths.

    Raises:
        ConfigError: a path leads through what holds no keys.
    """
    changed = copy.deepcopy(dict(content))
    for key, value in values.items():
        strict_yaml.assign(changed, key, copy.deepcopy(value), f"{key}={json.dumps(value)}")
    return changed


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    section = TuneSpec if len(location) == 1 else Domain
    return sorted(field.alias or name for name, field in section.model_fields.items())
