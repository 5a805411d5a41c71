"""Strict YAML: duplicate keys are refused, 1e-3 is a number, dates stay text; and `key.path=value`
overrides of what was read.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from advrec.errors import ConfigError


def read(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    """The mapping that a file holds; `keys` are named where it holds none.

    Raises:
        ConfigError: it cannot be read, or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read ({reason}); name a file that is there") from None
    try:
        raw = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{path}:{line} is not valid YAML: {getattr(error, 'problem', None) or error}"
        ) from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a study file is a mapping with the keys {', '.join(keys)}")
    return raw


def override(raw: dict[str, Any], assignment: str) -> None:
    """Set one key of `raw` by an assignment `key.path=value`; raises ConfigError."""
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {assignment}: write --set key.path=value")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        raise ConfigError(f"--set {assignment}: the value is not valid YAML") from None
    assign(raw, path, value, assignment)


def assign(raw: dict[str, Any], path: str, value: Any, assignment: str) -> None:
    """Set one key of `raw` by its path.

    Args:
        assignment: names it in errors.

    Raises:
        ConfigError: the path leads through a value, or past the end of a list.
    """
    node: Any = raw
    keys: list[Any] = path.split(".")
    for depth, key in enumerate(keys):
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                raise ConfigError(
                    f"--set {assignment}: {'.'.join(keys[:depth])} is a list of {len(node)}; "
                    f"{key} is no place in it"
                )
            key = int(key)
        elif not isinstance(node, dict):
            raise ConfigError(
                f"--set {assignment}: {'.'.join(keys[:depth])} holds a value, not keys"
            )
        if depth == len(keys) - 1:
            node[key] = value
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
            raise yaml.MarkedYAMLError(
                problem=f"the key {key} stands twice", problem_mark=key_node.start_mark
            )
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)
