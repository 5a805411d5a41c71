"""A study file: strict YAML -> frozen models; errors name the key, the allowed values and the
nearest right word.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from advrec.errors import ConfigError
from advrec.spec import yaml as strict_yaml
from advrec.spec.attacks import AttackSpec, attack_entry, default_through
from advrec.spec.base import (
    FLOAT,
    Batch,
    Deliveries,
    Name,
    Seed,
    Strict,
    refuse_repeats,
    round_trips,
)
from advrec.spec.budgets import AS_WRITTEN, Epsilon
from advrec.spec.catalog import CatalogSpec
from advrec.spec.defenses import TrainedModel
from advrec.spec.gates import Gate, refuse_unknown
from advrec.spec.label_free import LabelFree
from advrec.spec.messages import sentence, suggest
from advrec.spec.models import KINDS, USUAL_INPUT, AnyModel, OwnModel


class EvaluationSpec(Strict):
    split: Literal["test", "validation"] = "test"
    """Split that targets and attacked articles come from."""
    tuples: Annotated[int, Field(ge=1)] | str = 128
    """A number, or a CSV with columns target_name and attack_name; relative to the study file."""
    block: Annotated[int, Field(ge=1)] = 32
    """Tuples a unit of work: of retry, of resume and of a result file."""
    batch: Batch | Literal["auto"] = "auto"
    """Images on the device at once. auto: as many as 2^20 pixels hold, 8 to 96; half the pixels
    where a backbone is another than mobilenet_v2 or a model is your own. An encoder of a library
    counts by its input, 224 where `input_size` is not said. Eight times as many, up to 512, where
    `gpus_per_actor` is a number above 0. The resolved study says how many, and a run that is begun
    keeps its number.
    """
    epsilons: Annotated[tuple[Epsilon, ...], Field(min_length=1)] = (0.01, 0.03, 0.05)
    """Budgets: the largest change of any value, pixels in [0, 1], as 0.01 or, in levels of an
    image of 8 bits, 2/255.
    """
    ranks: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 3, 10, 100)
    """Ranks that count as success, each in rows of its own."""
    attacks: Annotated[
        tuple[Annotated[AttackSpec, BeforeValidator(attack_entry)], ...], Field(min_length=1)
    ]
    """Attacks, each by its name or as a mapping."""
    examples: Annotated[int, Field(ge=0)] = 4
    """Number of tuples whose adversarial images are kept, in every cell."""
    delivery: Annotated[Deliveries, Field(min_length=1)] = ("float",)
    """Forms in which the shop stores an image: float (as computed), png (8 bits a value), jpeg-Q,
    jpeg-Q-444 (colours at full resolution), webp-Q, avif-Q (quality Q, 1 to 100); one or several.
    """
    checks: Annotated[int, Field(ge=0)] = 64
    """On how many tuples the evaluation examines itself; 0: not at all."""

    @property
    def at_once(self) -> int:
        """The number of `batch`, which is resolved as a study is parsed."""
        assert isinstance(self.batch, int), "study.parse resolves it"
        return self.batch

    @property
    def says_batch(self) -> bool:
        """True where the study file gives a number."""
        return "batch" in self.model_fields_set and self.batch != "auto"

    def with_batch(self, batch: int) -> "EvaluationSpec":
        """The same section with another number, which the study file does not say."""
        section = self.model_copy(update={"batch": batch})
        section.model_fields_set.discard("batch")
        return section

    @property
    def round_trips(self) -> tuple[str, ...]:
        """The deliveries other than float, which is always there."""
        return round_trips(self.delivery)

    @property
    def seen(self) -> tuple[str, ...]:
        """The deliveries that some attack goes through."""
        through = {each for attack in self.attacks for each in attack.through}
        return tuple(each for each in self.round_trips if each in through)

    @model_validator(mode="after")
    def _no_repeats(self) -> "EvaluationSpec":
        for key, values in (
            ("epsilons", self.epsilons),
            ("ranks", self.ranks),
            ("delivery", self.delivery),
            ("attacks", [a.name for a in self.attacks]),
        ):
            refuse_repeats(key, values)
        return self


class ResourcesSpec(Strict):
    """Processes and processors. The same weights give the same rows, on any number of processes.

    Only cpus_per_actor, and whether GPUs are used, may change the last bits of a row.
    training_workers enters the weights of models that are still to be trained.
    """

    actors: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Processes that attack. auto: as many as there is room for: one a GPU, else one a core,
    as far as memory holds them.

    0: this process prepares and attacks, and trains too unless training_workers is a number above
    0. A debugger works then, and what is small is sooner done. A crash of the process ends the
    command; the same command goes on from there.
    """
    gpus_per_actor: Annotated[float, Field(ge=0.0, le=1.0)] | Literal["auto"] = "auto"
    """Share of a GPU; auto: one where there are any. Where there are none, cores do the work."""
    cpus_per_actor: Annotated[int, Field(ge=1)] = 1
    """Cores, and threads of torch. Their number may change the last bits of a row, so it is part of
    what determines it.
    """
    training_workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Ray Train workers. auto: one a GPU, else one a core; with `actors: 0` as 0. 0: this process
    trains, on one core. Their number enters the weights; models that are trained stay as they are.
    """

    @property
    def trains_here(self) -> bool:
        """Models are trained in this process, without Ray."""
        alone = self.actors == 0 and self.training_workers == "auto"
        return alone or self.training_workers == 0


class Study(Strict):
    name: Name
    """Name of the study; its run lies in results/<name> unless --out says otherwise."""
    seed: Seed = 42
    """Seed of splits, drawings, trainings, tuples and attacks."""
    catalog: CatalogSpec
    """Source of the articles."""
    models: Annotated[dict[Name, AnyModel], Field(min_length=1)]
    """Models by name; each is trained here or is one that exists."""
    evaluation: EvaluationSpec
    """Who is attacked, how, and within which budgets."""
    resources: ResourcesSpec = ResourcesSpec()
    """Processes and processors."""
    accept_set_aside: bool = False
    """Finish with exit code 0 even if work was set aside."""
    fail_if: tuple[Gate, ...] = ()
    """Gates. Where one fails, `study`, `evaluate` and `report` end with exit code 4. They may be
    changed at any time: nothing is made anew.
    """

    @property
    def compared(self) -> "Study":
        """The study without the models that are left out of the comparison."""
        models = {name: spec for name, spec in self.models.items() if spec.compared}
        return self.model_copy(update={"models": models})

    @model_validator(mode="after")
    def _something_compared(self) -> "Study":
        if not self.compared.models:
            raise ValueError("models: compared is false for every model; leave it out for one")
        return self

    @model_validator(mode="after")
    def _init_chains(self) -> "Study":
        above: list[str] = []
        for name, spec in self.models.items():
            classifiers = [other for other in above if isinstance(self.models[other], TrainedModel)]
            trained = "" if isinstance(spec, LabelFree) else " trained"
            fit = classifiers if trained else above
            if spec.init != "none" and spec.init not in fit:
                raise ValueError(
                    f"models.{name}.init is {spec.init}, which is not a model{trained} above it; "
                    f"models{trained} above: {', '.join(fit) or 'none'}{suggest(spec.init, fit)}"
                )
            above.append(name)
        return self

    @model_validator(mode="after")
    def _through(self) -> "Study":
        deliveries = self.evaluation.round_trips
        for place, attack in enumerate(self.evaluation.attacks):
            key = f"evaluation.attacks.{place}.through"
            refuse_repeats(key, attack.through)
            if attack.through and attack.attack == "noise":
                raise ValueError(f"{key}: noise looks at nothing; leave through out")
            for delivery in attack.through:
                if delivery not in deliveries:
                    raise ValueError(
                        f"{key} is {delivery}, which is not in evaluation.delivery "
                        f"({', '.join(self.evaluation.delivery)}); add it there"
                    )
        return self

    @model_validator(mode="after")
    def _transfers(self) -> "Study":
        for place, attack in enumerate(self.evaluation.attacks):
            if attack.source is not None and attack.source not in self.models:
                raise ValueError(
                    f"evaluation.attacks.{place}.from is {attack.source}, which is not a model of "
                    f"the study; models: {', '.join(self.models)}"
                    f"{suggest(attack.source, list(self.models))}"
                )
        return self

    @model_validator(mode="after")
    def _gates(self) -> "Study":
        evaluation = self.evaluation
        known = {
            "models": list(self.compared.models),
            "evaluation.attacks": [attack.name for attack in evaluation.attacks],
            "evaluation.epsilons": evaluation.epsilons,
            "evaluation.ranks": evaluation.ranks,
            "evaluation.delivery": (FLOAT, *evaluation.round_trips),
        }
        refuse_unknown(self.fail_if, known)
        return self


def canonical_hash(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value: the same for equal content, whatever the order of
    keys.
    """
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def load(path: Path | str, overrides: Sequence[str] = ()) -> Study:
    """Read a study file, resolve its defaults and make its paths absolute.

    Args:
        overrides: assignments `key.path=value` that replace keys of the file.

    Raises:
        ConfigError: anything in it is not as it should be.
    """
    path = Path(path)
    raw = strict_yaml.read(path, Study.model_fields)
    for assignment in overrides:
        strict_yaml.override(raw, assignment)
    return resolve(raw, str(path), path.resolve().parent)


def resolve(raw: Mapping[str, Any], where: str, directory: Path) -> Study:
    """The study of a file's content, with defaults that depend on other keys, and paths relative to
    `directory` made absolute.
    """
    return _resolved(parse(raw, where), directory)


def parse(raw: Mapping[str, Any], where: str) -> Study:
    """Validate the content of a study file; `where` names it in errors."""
    try:
        # JSON mode is strict about types and yet takes a list for a tuple.
        study = Study.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        raise ConfigError(f"{where}: {sentence(error.errors(), raw, _keys_beside)}") from None
    if study.evaluation.says_batch:
        return study
    return study.model_copy(update={"evaluation": study.evaluation.with_batch(_batch(study))})


def read(path: Path) -> Study:
    """The resolved study of a run directory's study.yaml."""
    return parse(strict_yaml.read(path, Study.model_fields), str(path))


def as_dict(study: Study) -> dict[str, Any]:
    """The content of a resolved study file, budgets as they were written."""
    return study.model_dump(mode="json", by_alias=True, context={AS_WRITTEN: True})


def _resolved(study: Study, directory: Path) -> Study:
    """Defaults that depend on other keys become explicit; paths become absolute."""
    models = {
        name: spec.resolved(study.catalog.image_size, directory)
        for name, spec in study.models.items()
    }
    tuples, deliveries = study.evaluation.tuples, study.evaluation.round_trips
    attacks = [
        attack.model_copy(update={"through": tuple(d for d in deliveries if d in attack.through)})
        if attack.says_through
        else attack.seeing(default_through(attack.attack, deliveries))
        for attack in study.evaluation.attacks
    ]
    evaluation = study.evaluation.model_copy(
        update={
            "attacks": tuple(attacks),
            "tuples": tuples if isinstance(tuples, int) else str(directory / tuples),
            "epsilons": tuple(sorted(study.evaluation.epsilons)),
            "ranks": tuple(sorted(study.evaluation.ranks)),
        }
    )
    return study.model_copy(
        update={
            "models": models,
            "catalog": study.catalog.resolved(directory),
            "evaluation": evaluation,
        }
    )


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """The known keys at the place of an unknown one."""
    sections: dict[str, type[Strict]] = {
        "catalog": CatalogSpec,
        "evaluation": EvaluationSpec,
        "resources": ResourcesSpec,
    }
    if len(location) == 1:
        section: type[Strict] = Study
    elif location[0] == "models":
        section = KINDS[str(location[2])]
    elif location[:2] == ("evaluation", "attacks"):
        section = AttackSpec
    elif location[0] == "fail_if":
        section = Gate
    else:
        section = sections[str(location[0])]
    return sorted(field.alias or name for name, field in section.model_fields.items())


def _batch(study: Study) -> int:
    """The batch of `auto`: by what the study says alone, so that every machine has the same."""
    pixels, most = 2**20, 96
    if study.resources.gpus_per_actor not in ("auto", 0.0):
        pixels, most = 8 * pixels, 512
    if any(getattr(spec, "backbone", None) != "mobilenet_v2" for spec in study.models.values()):
        pixels //= 2
    sizes_of_input = [study.catalog.image_size]
    for spec in study.models.values():
        if isinstance(spec, OwnModel) and spec.named is not None:
            sizes_of_input.append(spec.input_size or USUAL_INPUT)
    images = min(pixels // max(sizes_of_input) ** 2, most)
    sizes = (factor << power for factor in (1, 3) for power in range(2, 10))
    return max([8, *(size for size in sizes if size <= images)])
