"""What the checks of an evaluation found, for readers: a table, a summary, and what to do about
each check that failed.
"""

import textwrap
from collections import Counter

import pandas as pd

from advrec.evaluation.checks import Check
from advrec.reports.results import Results

OFF = "The checks are switched off (evaluation.checks is 0): nothing here says whether the attacks of this study were strong enough."
SHOWN = {
    "passed": "passed",
    "undecided": "undecided",
    "failed": "FAILED",
    "not measured": "not measured",
    "information": "for information",
}
"""What each verdict is called."""
TEXT_WIDTH = 100


def checks(results: Results) -> pd.DataFrame:
    """One row a (model, check): verdict, what was measured (nothing where it was not), and what to
    do where it failed or is missing.
    """
    return pd.DataFrame(
        [(model, *check) for model, check in results.checks],
        columns=["model", "check", "verdict", "measured", "remedy"],
    )


def failed(results: Results) -> list[tuple[str, Check]]:
    """The model and the check."""
    return [(model, check) for model, check in results.checks if check.verdict == "failed"]


def undecided(results: Results) -> list[tuple[str, Check]]:
    """The model and the check."""
    return [(model, check) for model, check in results.checks if check.verdict == "undecided"]


def summary(results: Results) -> str:
    """How many checks have which verdict, as a sentence."""
    counts = Counter(check.verdict for _, check in results.checks)
    shown = [f"{counts['passed']} passed", f"{counts['failed']} failed"]
    shown += [
        f"{counts[verdict]} {SHOWN[verdict]}"
        for verdict in ("undecided", "not measured", "information")
        if counts[verdict]
    ]
    return f"Checks: {', '.join(shown)}."


def alarm(results: Results) -> str:
    """Which checks failed on which models, as a sentence; empty where none did."""
    models: dict[str, list[str]] = {}
    for model, check in failed(results):
        models.setdefault(check.name, []).append(model)
    judged = sum(check.verdict in ("passed", "undecided", "failed") for _, check in results.checks)
    named = "; ".join(f"{name} ({', '.join(on)})" for name, on in models.items())
    return f"{len(failed(results))} of {judged} checks failed: {named}." if models else ""


def warning(model: str, check: Check) -> str:
    """What was measured and what to do, for a check that failed or is undecided."""
    return f"{model}: {check.name}: {check.measured}. {_sentence(check.remedy)}"


def text(results: Results) -> list[str]:
    """Lines for a terminal."""
    if not results.study.evaluation.checks:
        return _wrapped(OFF)
    paragraphs = [
        summary(results),
        *(f"FAILED on {warning(model, check)}" for model, check in failed(results)),
    ]
    return [line for paragraph in paragraphs for line in _wrapped(paragraph)]


def _wrapped(paragraph: str) -> list[str]:
    return textwrap.wrap(paragraph, TEXT_WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith(('.', '?', '!')) else '.'}"
