"""Pages of the documents, taken apart into what a test can run or parse."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from docs import generate

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    language: str
    info: str
    text: str


def sources() -> dict[str, str]:
    """Text of every page that is written by hand, by its path in the repository."""
    paths = [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in ("README.md", "SECURITY.md", "ARCHITECTURE.md", "CHANGELOG.md")),
        *(ROOT / name / "README.md" for name in ("cluster", "results")),
    ]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(paths)}


def blocks(language: str) -> list[Block]:
    """All fenced blocks of a language."""
    return [
        Block(page, *match.groups())
        for page, text in sources().items()
        for match in FENCE.finditer(text)
        if match.group(1) == language
    ]


def prose(text: str) -> Iterator[str]:
    """Sentences of a page; code, tables, headings and targets of links left out."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", FENCE.sub("", text))
    text = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "x", text))
    lines = [line for line in text.splitlines() if not re.match(r"\s*(\||#|```)", line)]
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d\.) )", "\n".join(lines))
    for paragraph in paragraphs:
        yield from re.split(r"(?<=[.!?;:])[*)]*\s+", " ".join(paragraph.split()))


def commands() -> list[tuple[str, list[str]]]:
    """Every call of advrec on a page, as (page, arguments)."""
    found = []
    for page, text in sources().items():
        for match in FENCE.finditer(text):
            if match.group(1) == "sh":
                lines = match.group(3).replace("\\\n", " ").splitlines()
                found += [(page, call) for line in lines for call in _calls(line)]
        for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
            if code.startswith("advrec ") and not re.search(r"\.{3}|\b[A-Z]+ \.", code):
                found += [(page, call) for call in _calls(code)]
    return found


def _calls(line: str) -> Iterator[list[str]]:
    """Arguments of advrec in a line of a shell; also of its twins below jobs/, and in quotes."""
    tokens = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
    tokens.whitespace_split = True
    call: list[str] | None = None
    before = ";"
    for token in [*tokens, ";"]:
        if set(token) <= set(";&|<>"):
            if call:
                yield call
            call = None
        elif call is not None:
            call.append(token)
        elif token.rpartition("/")[2] == "advrec" and before in (";", "--"):
            call = []
        elif stage := re.fullmatch(r"jobs/(\w+)\.py", token):
            call = [stage.group(1)]
        elif " " in token and "advrec" in token:
            yield from _calls(token)
        before = ";" if set(token) <= set(";&|<>") else token


def generated() -> dict[str, str]:
    return generate.pages()
