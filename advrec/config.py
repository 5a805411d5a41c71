"""A study file: strict YAML -> frozen models; errors name the key, the allowed values and the nearest right word."""

import difflib
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails

from advrec.errors import ConfigError

# A name becomes a directory (model=<name>), so it can never hold a separator, a leading dot or "..".
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
Epsilon = Annotated[float, Field(ge=0.0, le=1.0)]
Split = Literal["train", "validation", "test"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class CatalogSpec(Strict):
    source: Literal["synthetic", "deepfashion", "folder"]
    root: str | None = None
    """Where the images are, for deepfashion and folder; relative to the study file."""
    image_size: Annotated[int, Field(ge=32, le=512)] = 64
    """Side of the prepared square image, in pixels."""
    articles: Annotated[int, Field(ge=1)] | None = None
    """How many articles the synthetic source draws (duplicates and images without a label come on top); by default 2000."""

    @model_validator(mode="after")
    def _root_where_needed(self) -> "CatalogSpec":
        if self.source == "synthetic" and self.root is not None:
            raise ValueError("root is not used by the synthetic source; remove it or choose source: folder or deepfashion")
        if self.source != "synthetic" and self.root is None:
            raise ValueError(f"source {self.source} needs root, the directory of its images")
        if self.source != "synthetic" and self.articles is not None:
            raise ValueError("articles belongs to the synthetic source; the others hold what their root holds")
        return self


class ModelSpec(Strict):
    """What all defenses share."""

    backbone: Literal["mobilenet_v2"] = "mobilenet_v2"
    width: Annotated[float, Field(gt=0.0, le=2.0)] | None = None
    """Width multiplier of the backbone; by default 0.5 up to 96 pixels and 1.0 above."""
    weights: str = "none"
    """Where the backbone starts: none (random), imagenet (torchvision's), or a safetensors file."""
    init: str = "none"
    """Name of another model of the study whose trained weights this one starts from."""
    recipe: Literal["advrec"] = "advrec"
    epochs: Annotated[int, Field(ge=1)] = 8
    batch: Annotated[int, Field(ge=2)] = 32
    """Images a training step, over all workers."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 0.002

    @model_validator(mode="after")
    def _one_start(self) -> "ModelSpec":
        if self.init != "none" and self.weights != "none":
            raise ValueError("init and weights both say where training starts; set one of them to none")
        return self


class NoDefense(ModelSpec):
    defense: Literal["none"]


class AdversarialTraining(ModelSpec):
    defense: Literal["at"]
    epsilon: Epsilon = 0.03
    steps: Annotated[int, Field(ge=1)] = 8


class CurriculumAdversarialTraining(ModelSpec):
    """`epochs` is the most that training spends on one k."""

    defense: Literal["cat"]
    epsilon: Epsilon = 0.03
    max_steps: Annotated[int, Field(ge=0)] = 8
    patience: Annotated[int, Field(ge=1)] = 10
    """Epochs without a gain in validation accuracy before the next k."""


AnyModelSpec = NoDefense | AdversarialTraining | CurriculumAdversarialTraining


def _attack_entry(value: Any) -> Any:
    """`pgd-8` stands for {name: pgd-8, attack: pgd-8}."""
    if isinstance(value, str):
        return {"name": value, "attack": value}
    if isinstance(value, dict) and "name" not in value and isinstance(value.get("attack"), str):
        return {"name": value["attack"], **value}
    return value


class AttackSpec(Strict):
    name: Name
    attack: str
    """A name of the table of attacks (README): it means one thing for ever."""


class EvaluationSpec(Strict):
    split: Literal["test", "validation"] = "test"
    tuples: Annotated[int, Field(ge=1)] | str = 128
    """A number, or a CSV with columns target_name and attack_name; relative to the study file."""
    block: Annotated[int, Field(ge=1)] = 32
    """Tuples a unit of work: of retry, of resume and of a result file."""
    batch: Annotated[int, Field(ge=1)] = 96
    """Images on the device at once."""
    epsilons: Annotated[tuple[Epsilon, ...], Field(min_length=1)] = (0.01, 0.03, 0.05)
    ranks: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 3, 10, 100)
    attacks: Annotated[tuple[Annotated[AttackSpec, BeforeValidator(_attack_entry)], ...], Field(min_length=1)]
    examples: Annotated[int, Field(ge=0)] = 4
    """Of how many tuples the adversarial images are kept, in every cell."""

    @model_validator(mode="after")
    def _no_repeats(self) -> "EvaluationSpec":
        for key, values in (
            ("epsilons", self.epsilons),
            ("ranks", self.ranks),
            ("attacks", [a.name for a in self.attacks]),
        ):
            repeated = sorted({v for v in values if list(values).count(v) > 1}, key=str)
            if repeated:
                raise ValueError(f"{key} lists {repeated[0]} twice; remove one or give it another name")
        return self


class ResourcesSpec(Strict):
    """What may change from machine to machine without changing a row of results."""

    actors: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Processes that attack; auto: one a GPU, else one a core."""
    training_workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Ray Train workers; auto: one a GPU, else one a core; 0: train in this process, for tests."""


class Study(Strict):
    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 42
    catalog: CatalogSpec
    models: Annotated[dict[Name, Annotated[AnyModelSpec, Field(discriminator="defense")]], Field(min_length=1)]
    evaluation: EvaluationSpec
    resources: ResourcesSpec = ResourcesSpec()
    accept_set_aside: bool = False
    """Finish with exit code 0 even if blocks were set aside."""

    @model_validator(mode="after")
    def _init_chains(self) -> "Study":
        done: list[str] = []
        for name, spec in self.models.items():
            if spec.init != "none" and spec.init not in done:
                raise ValueError(
                    f"models.{name}.init is {spec.init}, which is not a model listed above it; models listed above: "
                    f"{', '.join(done) or 'none'}{_suggest(spec.init, done)}"
                )
            done.append(name)
        return self


def canonical_hash(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value: the same for equal content, whatever the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def load(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study file, apply `key.path=value` overrides, resolve defaults and make its paths absolute.

    Raises:
        ConfigError: anything in it is not as it should be.
    """
    raw = read_yaml(path)
    for override in overrides:
        _apply(raw, override)
    return _resolved(parse(raw, str(path)), path.resolve().parent)


def parse(raw: Mapping[str, Any], where: str) -> Study:
    """Validate the content of a study file; `where` names it in errors."""
    try:
        # JSON mode is strict about types and yet takes a list for a tuple.
        return Study.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        raise ConfigError(f"{where}: {_sentence(error.errors()[0], raw)}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read ({reason}); name an existing study file") from None
    try:
        raw = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}:{line} is not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a study file is a mapping with the keys {', '.join(Study.model_fields)}")
    return raw


def as_dict(study: Study) -> dict[str, Any]:
    return study.model_dump(mode="json")


def _resolved(study: Study, directory: Path) -> Study:
    """Defaults that depend on other keys become explicit; paths become absolute."""
    width = 0.5 if study.catalog.image_size <= 96 else 1.0
    models = {}
    for name, spec in study.models.items():
        weights = spec.weights if spec.weights in ("none", "imagenet") else str(directory / spec.weights)
        models[name] = spec.model_copy(update={"width": spec.width or width, "weights": weights})
    root = study.catalog.root
    articles = study.catalog.articles or (2000 if study.catalog.source == "synthetic" else None)
    absolute = None if root is None else str((directory / root).resolve())
    catalog = study.catalog.model_copy(update={"root": absolute, "articles": articles})
    tuples = study.evaluation.tuples
    evaluation = study.evaluation.model_copy(
        update={
            "tuples": tuples if isinstance(tuples, int) else str(directory / tuples),
            "epsilons": tuple(sorted(study.evaluation.epsilons)),
            "ranks": tuple(sorted(study.evaluation.ranks)),
        }
    )
    return study.model_copy(update={"models": models, "catalog": catalog, "evaluation": evaluation})


def _apply(raw: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {override}: write --set key.path=value")
    node: Any = raw
    keys: list[Any] = path.split(".")
    for depth, key in enumerate(keys):
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                raise ConfigError(f"--set {override}: {'.'.join(keys[:depth])} is a list of {len(node)}; {key} is no place in it")
            key = int(key)
        elif not isinstance(node, dict):
            raise ConfigError(f"--set {override}: {'.'.join(keys[:depth])} holds a value, not keys")
        if depth == len(keys) - 1:
            try:
                node[key] = yaml.load(text, Loader=_Loader)
            except yaml.YAMLError:
                raise ConfigError(f"--set {override}: the value is not valid YAML") from None
        elif isinstance(node, dict):
            node = node.setdefault(key, {})
        else:
            node = node[key]


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, reads 1e-3 as a number and leaves dates alone."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"the key {key} stands twice", problem_mark=key_node.start_mark)
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789"))


def _suggest(word: str, words: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _sentence(error: ErrorDetails, raw: Any) -> str:
    """One pydantic error as one sentence with the key's path, the allowed values and the nearest right word."""
    location = _path_in(error["loc"], raw)
    where = ".".join(map(str, location)) or "the study"
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    if kind == "missing":
        return f"{where} is missing"
    if kind == "extra_forbidden":
        allowed = _keys_beside(error["loc"])
        return f"{where} is not a known key{_suggest(str(location[-1]), allowed)} (known here: {', '.join(allowed)})"
    if kind == "value_error":
        detail = str(context["error"])
        return detail if where == "the study" else f"{where}: {detail}"
    if kind in ("union_tag_invalid", "literal_error"):
        expected = str(context.get("expected_tags") or context.get("expected"))
        allowed = re.findall(r"'([^']*)'", expected)
        given = value.get("defense") if isinstance(value, dict) else value
        key = f"{where}.defense" if kind == "union_tag_invalid" else where
        return f"{key} is {given}{_suggest(str(given), allowed)} (allowed: {', '.join(allowed)})"
    if kind == "union_tag_not_found":
        return f"{where}.defense is missing (allowed: none, at, cat)"
    if kind == "string_pattern_mismatch":
        return f"{where} is {value!r}; a name holds letters, digits, - and _, and begins with a letter or digit"
    shown = value if not isinstance(value, float) or math.isfinite(value) else str(value)
    return f"{where} is {shown!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _path_in(location: tuple[Any, ...], raw: Any) -> list[Any]:
    """Pydantic's location without the tags of unions and validators, which are not keys of the file."""
    path: list[Any] = []
    for place, key in enumerate(location):
        if (isinstance(raw, dict) and key in raw) or (isinstance(raw, list) and isinstance(key, int) and key < len(raw)):
            raw = raw[key]
            path.append(key)
        elif place == len(location) - 1 and isinstance(raw, dict) and key != "[key]":
            path.append(key)
    return path


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
        defenses: dict[str, type[Strict]] = {"none": NoDefense, "at": AdversarialTraining, "cat": CurriculumAdversarialTraining}
        section = defenses[str(location[2])]
    elif location[:2] == ("evaluation", "attacks"):
        section = AttackSpec
    else:
        section = sections[str(location[0])]
    return sorted(section.model_fields)
