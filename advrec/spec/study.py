"""A study file: strict YAML -> frozen models; errors name the key, the allowed values and the
nearest right word.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from advrec.errors import ConfigError
from advrec.spec import audiences, chains
from advrec.spec import yaml as strict_yaml
from advrec.spec.attacks import AttackSpec, default_through
from advrec.spec.audiences import NEIGHBOURS, TARGETS, USERS
from advrec.spec.base import FLOAT, Name, Seed, Strict, refuse_repeats
from advrec.spec.budgets import AS_WRITTEN
from advrec.spec.catalog import CatalogSpec
from advrec.spec.category_attack import CategoryAttack
from advrec.spec.deliveries import INGEST, refuse_size
from advrec.spec.evaluation import EvaluationSpec
from advrec.spec.gates import Gate, refuse_unattacked, refuse_unknown
from advrec.spec.interactions import InteractionsSpec
from advrec.spec.messages import sentence, suggest
from advrec.spec.models import KINDS, USUAL_INPUT, AnyHybrid, AnyModel, OwnModel
from advrec.spec.resources import ResourcesSpec


class Study(Strict):
    name: Name
    """Name of the study; its run lies in results/<name> unless --out says otherwise."""
    seed: Seed = 42
    """Seed of splits, drawings, trainings, tuples and attacks."""
    catalog: CatalogSpec
    """Source of the articles."""
    interactions: InteractionsSpec | None = None
    """Purchases of users; by default none are known."""
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
    def encoders(self) -> dict[str, AnyModel]:
        """The models that embed images: all but hybrid recommenders."""
        return {name: spec for name, spec in self.models.items() if not isinstance(spec, AnyHybrid)}

    @property
    def hybrids(self) -> dict[str, AnyHybrid]:
        """The hybrid recommenders among the models."""
        return {name: spec for name, spec in self.models.items() if isinstance(spec, AnyHybrid)}

    @property
    def passed(self) -> tuple[str, ...]:
        """All that an attack may go through: the word ingest where a model has one, and the
        deliveries other than float.
        """
        has_ingest = any(chains.ingests(self.models, name) for name in self.models)
        return (*((INGEST,) if has_ingest else ()), *self.evaluation.round_trips)

    @property
    def on_tuples(self) -> list[AttackSpec]:
        """The attacks of tuples: all but those for audiences alone, and those made on a hybrid;
        none where the audience leaves neighbours out.
        """
        if not self.evaluation.measures(NEIGHBOURS):
            return []
        return [
            attack
            for attack in self.evaluation.attacks
            if not attack.for_audiences and not any(s in self.hybrids for s in attack.sources)
        ]

    def audiences_of(self, model: str, attack: AttackSpec) -> list[str]:
        """Before whom an attack on a compared model is measured: neighbours, targets or users."""
        if any((source in self.hybrids) != (model in self.hybrids) for source in attack.sources):
            return []
        measured = map(audiences.name, self.evaluation.audience or _usual(self))
        own = {USERS} if model in self.hybrids else {NEIGHBOURS, TARGETS}
        if attack.lists_alone:
            own &= {NEIGHBOURS}
        return sorted(own & {*measured} - ({NEIGHBOURS} if attack.for_audiences else set()))

    @property
    def compared(self) -> "Study":
        """The study without hybrid recommenders, and without the models that are left out of the
        comparison.
        """
        models = {name: spec for name, spec in self.encoders.items() if spec.compared}
        return self.model_copy(update={"models": models})

    @model_validator(mode="after")
    def _something_compared(self) -> "Study":
        if not self.compared.models:
            raise ValueError("models: compared is false for every model; leave it out for one")
        return self

    @model_validator(mode="after")
    def _init_chains(self) -> "Study":
        chains.check(self.models)
        for name, spec in self.hybrids.items():
            if self.interactions is None:
                raise ValueError(
                    f"models.{name}: {spec.recommender} recommends by what users have bought; "
                    "add the section interactions"
                )
        return self

    @model_validator(mode="after")
    def _through(self) -> "Study":
        deliveries = self.evaluation.round_trips
        for place, delivery in enumerate(self.evaluation.delivery):
            try:
                refuse_size(delivery, self.catalog.image_size)
            except ValueError as error:
                raise ValueError(f"evaluation.delivery.{place}: {error}") from None
        for place, attack in enumerate(self.evaluation.attacks):
            key = f"evaluation.attacks.{place}.through"
            refuse_repeats(key, attack.through)
            if attack.through and attack.attack == "noise":
                raise ValueError(f"{key}: noise looks at nothing; leave through out")
            if attack.sees_ingest and INGEST not in self.passed:
                raise ValueError(
                    f"{key} names {INGEST}, and no model has one; add {INGEST}: jpeg-75 to a "
                    f"model, or leave {INGEST} out"
                )
            for delivery in attack.made_for:
                if delivery not in deliveries:
                    raise ValueError(
                        f"{key} is {delivery}, which is not in evaluation.delivery "
                        f"({', '.join(self.evaluation.delivery)}); add it there"
                    )
        return self

    @model_validator(mode="after")
    def _transfers(self) -> "Study":
        for place, attack in enumerate(self.evaluation.attacks):
            for source in attack.sources:
                if source not in self.models:
                    raise ValueError(
                        f"evaluation.attacks.{place}.from is {source}, which is not a model of "
                        f"the study; models: {', '.join(self.models)}"
                        f"{suggest(source, list(self.models))}"
                    )
            if len({source in self.hybrids for source in attack.sources}) > 1:
                raise ValueError(
                    f"evaluation.attacks.{place}.from names encoders and hybrids; they have other "
                    "lists: write an entry for each kind"
                )
        return self

    @model_validator(mode="after")
    def _audiences(self) -> "Study":
        evaluation = self.evaluation
        before = [each for each in evaluation.audience or _usual(self) if each != NEIGHBOURS]
        if USERS in before and not self.hybrids:
            raise ValueError(
                "evaluation.audience names users, and no model recommends to any; add one, as "
                "{recommender: vbpr, encoder: MODEL}, or leave users out"
            )
        if evaluation.category_attack is not None and not self.hybrids:
            raise ValueError(
                "evaluation.category_attack is of what users are recommended, and no model "
                "recommends to any; add one, as {recommender: vbpr, encoder: MODEL}, or leave it "
                "out"
            )
        for place, attack in enumerate(evaluation.attacks):
            key = f"evaluation.attacks.{place}"
            if attack.for_audiences and not before:
                raise ValueError(
                    f"{key} has loss or share, which belong to the audiences targets and users; "
                    "add one to evaluation.audience, or leave them out"
                )
            if attack.lists_alone and not evaluation.measures(NEIGHBOURS):
                raise ValueError(
                    f"{key}: {attack.attack} asks for lists of similar articles; add neighbours to "
                    "evaluation.audience, or leave it out"
                )
            if before and attack.minimal and attack.share is None:
                raise ValueError(
                    f"{key}: {attack.attack} needs the share of {audiences.name(before[0])} that "
                    "it looks for: add share: 0.5"
                )
        return self

    @model_validator(mode="after")
    def _gates(self) -> "Study":
        evaluation = self.evaluation
        known = {
            "models": [name for name, spec in self.models.items() if spec.compared],
            "evaluation.attacks": [attack.name for attack in evaluation.attacks],
            "evaluation.epsilons": evaluation.epsilons,
            "evaluation.ranks": evaluation.ranks,
            "evaluation.delivery": (FLOAT, *evaluation.round_trips),
        }
        refuse_unknown(self.fail_if, known)
        refuse_unattacked(self.fail_if, evaluation.attacks, self.audiences_of)
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
    content = study.model_dump(mode="json", by_alias=True, context={AS_WRITTEN: True})
    for entry in content["models"].values():
        if entry.get("ingest") is None:
            entry.pop("ingest", None)
    if study.interactions is None:  # versions up to 0.3.0 do not know the key
        del content["interactions"]
    return content


def _resolved(study: Study, directory: Path) -> Study:
    """Defaults that depend on other keys become explicit; paths become absolute."""
    models = {
        name: spec.resolved(study.catalog.image_size, directory)
        for name, spec in study.models.items()
    }
    tuples, passed = study.evaluation.tuples, study.passed
    attacks = [
        attack.model_copy(update={"through": tuple(d for d in passed if d in attack.through)})
        if attack.says_through
        else attack.seeing(default_through(attack.attack, passed))
        for attack in study.evaluation.attacks
    ]
    evaluation = study.evaluation.model_copy(
        update={
            "attacks": tuple(attacks),
            "tuples": tuples if isinstance(tuples, int) else str(directory / tuples),
            "audience": audiences.resolved(study.evaluation.audience or _usual(study), directory),
            "promoted": audiences.names_of(study.evaluation.promoted, directory),
            "epsilons": tuple(sorted(study.evaluation.epsilons)),
            "ranks": tuple(sorted(study.evaluation.ranks)),
        }
    )
    return study.model_copy(
        update={
            "models": chains.with_defenses(models),
            "catalog": study.catalog.resolved(directory),
            "interactions": study.interactions and study.interactions.resolved(directory),
            "evaluation": evaluation,
        }
    )


def _usual(study: Study) -> tuple[str, ...]:
    """The audiences of a study that says none."""
    return (NEIGHBOURS, USERS) if study.hybrids else (NEIGHBOURS,)


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """The known keys at the place of an unknown one."""
    sections: dict[str, type[Strict]] = {
        "catalog": CatalogSpec,
        "interactions": InteractionsSpec,
        "evaluation": EvaluationSpec,
        "resources": ResourcesSpec,
    }
    if len(location) == 1:
        section: type[Strict] = Study
    elif location[0] == "models":
        section = KINDS[str(location[2])]
    elif location[:2] == ("evaluation", "attacks"):
        section = AttackSpec
    elif location[:2] == ("evaluation", "category_attack") and len(location) > 2:
        section = CategoryAttack
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
    made_of = [chains.parts(study.models, model) for model in study.encoders]
    networks = [spec for parts in made_of for spec in parts]
    if any(getattr(spec, "backbone", None) != "mobilenet_v2" for spec in networks):
        pixels //= 2
    pixels //= max(map(len, made_of))  # the activations of all that are joined are there at once
    sizes_of_input = [study.catalog.image_size]
    for spec in networks:
        if isinstance(spec, OwnModel) and spec.named is not None:
            sizes_of_input.append(spec.input_size or USUAL_INPUT)
    images = min(pixels // max(sizes_of_input) ** 2, most)
    sizes = (factor << power for factor in (1, 3) for power in range(2, 10))
    return max([8, *(size for size in sizes if size <= images)])
