"""A hook of mkdocs: the reference pages, made from the code when the documents are built.

Nothing it makes is a file: pages exist in memory alone, so they cannot grow old.
"""

import argparse
import ast
import inspect
import itertools
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import advrec
from advrec import arguments
from advrec.run import inventory, schema
from advrec.run.columns import doc, unit
from advrec.run.distinct import DISTINCT
from advrec.spec import (
    attacks,
    catalog,
    category_attack,
    evaluation,
    gates,
    hybrids,
    interactions,
    models,
    resources,
    search,
    study,
)

ROOT = Path(__file__).resolve().parents[1]
INCLUDED = {
    "contribute/architecture.md": "ARCHITECTURE.md",
    "guide/machines.md": "cluster/README.md",
    "reference/security.md": "SECURITY.md",
    "reference/changelog.md": "CHANGELOG.md",
}
"""Page -> the file of the repository that it shows."""
PICTURE = "assets/page.png"
UNTRAINED = {"own": "a model of your own", "joined": "a joined model"}
"""Kinds of entries that have no defense to train with."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List every design note in the navigation."""
    notes = sorted(path.name for path in (ROOT / "docs" / "design").glob("[0-9]*.md"))
    for section in config.nav or []:
        if "Design notes" in section:
            section["Design notes"] += [f"design/{name}" for name in notes]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, and the picture of the report."""
    for uri, content in pages().items():
        files.append(File.generated(config, uri, content=content))
    picture = str(ROOT / "results" / "reference" / "page.png")
    files.append(File.generated(config, PICTURE, abs_src_path=picture))
    return files


def pages() -> dict[str, str]:
    """All generated pages: path below docs/ -> Markdown."""
    return {
        "reference/cli.md": commands(),
        "reference/study-keys.md": study_keys(),
        "reference/search-keys.md": search_keys(),
        "reference/tables.md": tables(),
        "reference/api.md": api(),
        **{page: included(page) for page in INCLUDED},
    }


# Commands


def commands() -> str:
    """A section for each command, from argparse."""
    parts = [
        "# Commands\n",
        "Every command is `advrec COMMAND ...`. The [exit codes](exit-codes.md) are the same for "
        "all. `python jobs/STAGE.py` takes the same arguments on a "
        "[cluster](../guide/clusters.md).\n",
    ]
    for name, parser in subparsers().items():
        usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
        parts.append(f"## advrec {name}\n\n{sentence(help_of(name))}\n")
        parts.append(f"```text\n{textwrap.fill(usage, 88, subsequent_indent='    ')}\n```\n")
        rows = [
            (
                f"`{' '.join(action.option_strings) or action.metavar or action.dest}`",
                meaning(action),
            )
            for action in parser._actions
            if not isinstance(action, argparse._HelpAction)
        ]
        parts.append(grid(("argument", "meaning"), rows))
    return "\n".join(parts)


def subparsers() -> dict[str, argparse.ArgumentParser]:
    """Parser of each command."""
    return dict(_commands().choices)


def help_of(name: str) -> str:
    """One line about a command."""
    return next(str(item.help) for item in _commands()._choices_actions if item.dest == name)


def _commands() -> Any:
    actions = arguments.parser()._actions
    return next(action for action in actions if isinstance(action, argparse._SubParsersAction))


def meaning(action: argparse.Action) -> str:
    """Help of an argument, and whether it must be given."""
    assert action.help, f"{action.dest} has no help"
    required = "; required" if action.required and action.option_strings else ""
    return sentence(f"{action.help}{required}")


# Keys of a study and of a search


def study_keys() -> str:
    """A table for each section of a study file, from its pydantic class."""
    common = set(models.TrainedModel.model_fields)
    parts = [
        "# Keys of a study\n",
        "A study is one YAML file; [Studies](../guide/studies.md) explains it. Unknown keys, wrong "
        "types and impossible values are refused before any work. The message names the key, the "
        "allowed values and the nearest right word. On a narrow screen the meaning stands below "
        "its key; nothing is left out. *The thesis* is that of "
        "[the published study](../guide/published-study.md).\n",
        "## The study\n",
        keys(study.Study),
        "## catalog\n",
        keys(catalog.CatalogSpec),
        "## interactions\n",
        keys(interactions.InteractionsSpec),
        "## models: keys of every defense\n",
        keys(models.TrainedModel),
    ]
    for name, kind in models.KINDS.items():
        if name in UNTRAINED:
            parts += [f"## models: {UNTRAINED[name]}\n", keys(kind)]
        elif issubclass(kind, hybrids.Hybrid):
            parts += [f"## models: recommender {name}\n", keys(kind)]
        else:
            own = keys(kind, [key for key in kind.model_fields if key not in common])
            parts += [f"## models: defense {name}\n", own]
    parts += ["## evaluation\n", keys(evaluation.EvaluationSpec), "## evaluation.attacks\n"]
    parts += ["An entry is the name of an attack, or a mapping with these keys.\n"]
    parts += [keys(attacks.AttackSpec, defaults=entry_defaults())]
    parts += ["## evaluation.category_attack\n", keys(category_attack.CategoryAttack)]
    parts += ["## resources\n", keys(resources.ResourcesSpec)]
    return "\n".join([*parts, "## fail_if\n", keys(gates.Gate)])


def search_keys() -> str:
    """The same for the file of a search."""
    return "\n".join(
        [
            "# Keys of a search\n",
            "[Search a defense](../guide/search.md) explains the file.\n",
            "## The search\n",
            keys(search.TuneSpec),
            "## space\n",
            "Each key of `space` has exactly one of these.\n",
            keys(search.Domain),
        ]
    )


def entry_defaults() -> dict[str, str]:
    """Defaults of an attack's entry, which depend on the attack."""
    auto, other = attacks.attack_defaults(attacks.AUTO), attacks.attack_defaults("pgd-8")
    texts = {key: f"`{shown(value)}`" for key, value in other.items()}
    differ = [key for key in other if auto[key] != other[key]]
    texts |= {key: f"{texts[key]}; `{shown(auto[key])}` for `auto`" for key in differ}
    return texts | {
        "name": "the attack, if no other key is set",
        "through": "see its meaning",
    }


def keys(
    kind: type[BaseModel],
    only: Sequence[str] | None = None,
    defaults: Mapping[str, str] | None = None,
) -> str:
    """A table of the keys of one section: values, default, meaning."""
    content = kind.model_json_schema(by_alias=True)
    texts = field_docs(kind)
    rows = []
    for field, info in kind.model_fields.items():
        if only is not None and field not in only:
            continue
        name = info.alias or field
        default = (defaults or {}).get(name) or default_of(info)
        allowed = values(content["properties"][name], content.get("$defs", {}))
        if kind is models.TrainedModel and name == "defense":
            allowed = ", ".join(f"`{word}`" for word in models.WORDS)
        rows.append((f"`{name}`", allowed, default, texts.get(field, "")))
    head = re.sub(r"\s+", " ", kind.__doc__ or "") if "BaseModel" not in str(kind.__doc__) else ""
    return f"{head}\n\n{grid(('key', 'values', 'default', 'meaning'), rows)}"


def default_of(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    return "see meaning" if value is None or isinstance(value, BaseModel) else f"`{shown(value)}`"


SHARED = {
    "defense": "How the model is trained.",
    "epsilon": "Budget of the training's attack, pixels in [0, 1], as 0.03 or 8/255.",
    "steps": "Steps of the training's attack.",
}
"""Keys that many defenses have, and that mean the same in all."""


def field_docs(kind: type[BaseModel]) -> dict[str, str]:
    """The string below each field, of the class and of those it inherits from."""
    texts = dict(SHARED)
    for base in reversed(kind.__mro__):
        if not issubclass(base, BaseModel) or base.__module__.startswith("pydantic"):
            continue
        tree: Any = ast.parse(textwrap.dedent(inspect.getsource(base)))
        for field, text in itertools.pairwise(tree.body[0].body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                doc = getattr(text.value, "value", "")
                texts[field.target.id] = " ".join(str(doc).split())
    return texts


def values(content: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Allowed values of a key, in words, from its JSON schema."""
    if "$ref" in content:
        target = definitions[content["$ref"].rpartition("/")[2]]
        return "keys below" if "properties" in target else values(target, definitions)
    if "enum" in content or "const" in content:
        return ", ".join(f"`{value}`" for value in content.get("enum", [content.get("const")]))
    if options := content.get("anyOf", content.get("oneOf")):
        texts = dict.fromkeys(
            values(option, definitions) for option in options if option.get("type") != "null"
        )
        return " or ".join(texts)
    if content.get("type") == "array" and "items" in content:
        return f"list: {values(content['items'], definitions)}"
    if content.get("type") == "array":
        return "two numbers"
    return f"{KINDS.get(content.get('type', ''), 'any value')}{bounds(content)}"


KINDS = {"integer": "whole number", "string": "text", "boolean": "`true`, `false`"}
KINDS |= {"number": "number", "object": "mapping"}


def bounds(content: Mapping[str, Any]) -> str:
    """Limits of a number, in words."""
    words = {"minimum": "at least", "exclusiveMinimum": "above"}
    words |= {"maximum": "at most", "exclusiveMaximum": "below"}
    texts = [f"{word} {content[key]:.10g}" for key, word in words.items() if key in content]
    return f", {' and '.join(texts)}" if texts else ""


# Tables of a run


def tables() -> str:
    """A section for each Parquet table of a run, from its schema."""
    parts = [
        "# Tables of a run\n",
        "All tables are Parquet. Unit and meaning of a column are metadata of its field, so the "
        "files hold them too (`pyarrow.parquet.read_schema`). [Run directory](run-directory.md) "
        "says what else lies there.\n",
    ]
    for path, (row, columns) in inventory.TABLES.items():
        parts.append(f"## {path.partition('/model=')[0]}\n\n`{path}`: one row is {row}.\n")
        parts.append(grid(COLUMN, [described(field) for field in columns]))
    known = set(schema.OUTCOMES.names)
    extra = [
        f
        for f in [*schema.outcomes(["png"], ["png"]), *DISTINCT, *schema.IMPORTED]
        if f.name not in known
    ]
    parts.append(
        "## Further columns of attacks/\n\n`evaluation.delivery` adds columns for each round trip, "
        "here `png`; two of them for attacks that go through it. Every `-` of its name becomes "
        "`_`. Ranks among distinct images are there where several articles show one image. "
        "`defect` is that of imported runs.\n"
    )
    parts.append(grid(COLUMN, [described(field) for field in extra]))
    return "\n".join(parts)


COLUMN = ("column", "type", "unit", "meaning")


def described(field: pa.Field) -> tuple[str, str, str, str]:
    """One row about a column."""
    kind = f"{field.type}{', may be null' if field.nullable else ''}"
    kind = re.sub(r"(fixed_size_)?list<\w+: (\w+).*", r"list of \2", kind)
    return f"`{field.name}`", kind, unit(field), doc(field)


# Pages that show a file of the repository


def included(page: str) -> str:
    """A file of the repository, with its links bent to the pages of the documents."""
    source = PurePosixPath(INCLUDED[page])
    text = (ROOT / source).read_text(encoding="utf-8")
    return re.sub(r"\[([^\]]+)\]\(([^)#\s]+)(#[^)]*)?\)", lambda m: link(m, page, source), text)


def link(match: re.Match[str], page: str, source: PurePosixPath) -> str:
    """A link of an included file; one to a file that is no page becomes code."""
    text, target, anchor = match.group(1), match.group(2), match.group(3) or ""
    if "://" in target:
        return match.group(0)
    path = str((ROOT / source.parent / target).resolve().relative_to(ROOT))
    inside = {file: uri for uri, file in INCLUDED.items()}.get(path, path.removeprefix("docs/"))
    if not path.startswith("docs/") and path not in INCLUDED.values():
        return f"`{text.strip('`')}`"
    return f"[{text}]({'../' * (len(PurePosixPath(page).parts) - 1)}{inside}{anchor})"


# Python


def api() -> str:
    """Every public name of the package, documented where it stands."""
    places = {name: place.replace(":", ".") for name, place in advrec._PLACES.items()}
    parts = [
        "# Python API\n",
        "`import advrec` offers these names. [Python](../guide/python.md) shows them at work.\n",
        grid(
            ("name", "is"), [(f"`advrec.{name}`", f"`{place}`") for name, place in places.items()]
        ),
    ]
    return "\n".join([*parts, *(f"::: {place}\n" for place in places.values())])


# Text


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; nothing where there are no rows."""
    lines = [head, ["---"] * len(head), *rows] if rows else []
    return "".join(f"| {' | '.join(map(cell, line))} |\n" for line in lines)


def cell(text: str) -> str:
    """Text for a cell; outside of code `<` would begin a tag."""
    text = text.replace("|", "\\|").replace("\n", " ")
    return text if "`" in text else text.replace("<", "&lt;")


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def shown(value: Any) -> str:
    """A default as YAML writes it."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(shown, value))}]"
    return json.dumps(value) if isinstance(value, bool | None) else str(value)
