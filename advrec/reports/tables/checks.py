"""Checks of an evaluation, for readers: a table, a summary, and the remedy of each that failed."""

import textwrap
from collections import Counter

import pandas as pd

from advrec.evaluation.verdicts import Check
from advrec.reports.results import Results

OFF = (
    "The checks are switched off (evaluation.checks is 0): nothing here says whether the attacks "
    "of this study were strong enough."
)
VERDICT_WORDS = {
    "passed": "passed",
    "undecided": "undecided",
    "failed": "FAILED",
    "not measured": "not measured",
    "information": "for information",
}
"""Words for each verdict."""
TERMINAL_WIDTH = 100


def verdicts(results: Results) -> pd.DataFrame:
    """One row a (model, check): verdict, measurement and remedy, as texts.

    The measurement is empty where there is none; the remedy is for a check that failed or is
    missing.
    """
    return pd.DataFrame(
        [(model, *check) for model, check in results.checks],
        columns=["model", "check", "verdict", "measured", "remedy"],
    )


def failed(results: Results) -> list[tuple[str, Check]]:
    """Each model with each check that failed on it."""
    return [(model, check) for model, check in results.checks if check.verdict == "failed"]


def undecided(results: Results) -> list[tuple[str, Check]]:
    """Each model with each check that is undecided on it."""
    return [(model, check) for model, check in results.checks if check.verdict == "undecided"]


def summary(results: Results) -> str:
    """A sentence that counts the checks by verdict."""
    counts = Counter(check.verdict for _, check in results.checks)
    shown = [f"{counts['passed']} passed", f"{counts['failed']} failed"]
    shown += [
        f"{counts[verdict]} {VERDICT_WORDS[verdict]}"
        for verdict in ("undecided", "not measured", "information")
        if counts[verdict]
    ]
    return f"Checks: {', '.join(shown)}."


def alarm(results: Results) -> str:
    """A sentence that names the failed checks and their models; empty where none failed."""
    models: dict[str, list[str]] = {}
    for model, check in failed(results):
        models.setdefault(check.name, []).append(model)
    judged = sum(check.verdict in ("passed", "undecided", "failed") for _, check in results.checks)
    named = "; ".join(f"{name} ({', '.join(on)})" for name, on in models.items())
    return f"{len(failed(results))} of {judged} checks failed: {named}." if models else ""


def warning(model: str, check: Check) -> str:
    """Measurement and remedy of a check that failed or is undecided, as a sentence."""
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
    return textwrap.wrap(paragraph, TERMINAL_WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith(('.', '?', '!')) else '.'}"
