"""Gates and self-checks as a JUnit file, which Jenkins, GitLab and GitHub's actions read.

There is no standard; this is what all of them take: testsuites, testsuite, testcase, and in a
testcase failure, skipped or system-out.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from advrec.reports.results import Results
from advrec.reports.tables import gates
from advrec.run.files import write_text

UNFIT = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not have."""


class Case(NamedTuple):
    """One testcase."""

    model: str
    name: str
    outcome: str
    """passed, failed or skipped."""
    text: str
    seconds: float = 0.0


def write(results: Results, path: Path) -> None:
    """Write the file at `path`; a self-check that is undecided or not measured counts as skipped.

    Raises:
        OSError: it cannot be written.
    """
    suites = {"gates": _gates(results), "checks": _checks(results)}
    every = [case for cases in suites.values() for case in cases]
    root = Element("testsuites", {"name": "advrec", **_counts(every)})
    for name, cases in suites.items():
        attributes = {
            "name": f"advrec.{results.study.name}.{name}",
            **_counts(cases),
            "skipped": str(_count(cases, "skipped")),
        }
        suite = SubElement(root, "testsuite", attributes)
        for case in cases:
            _add(suite, f"{results.study.name}.{name}.{case.model}", case)
    indent(root)
    text = tostring(root, encoding="unicode")
    write_text(path, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n')


def _gates(results: Results) -> list[Case]:
    outcomes = {"passed": "passed", "failed": "failed", "not judged": "skipped"}
    return [
        Case(
            each.gate.model,
            f"{each.name}: at most {each.gate.above:g} %",
            outcomes[each.verdict],
            each.sentence,
            each.seconds,
        )
        for each in gates.judge(results)
    ]


def _checks(results: Results) -> list[Case]:
    outcomes = {"passed": "passed", "failed": "failed"}
    return [
        Case(
            model,
            check.name,
            outcomes.get(check.verdict, "skipped"),
            ": ".join(filter(None, (check.verdict, check.measured, check.remedy))),
        )
        for model, check in results.checks
    ]


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    return {
        "tests": str(len(cases)),
        "failures": str(_count(cases, "failed")),
        "errors": "0",
        "time": f"{sum(case.seconds for case in cases):.3f}",
    }


def _count(cases: Sequence[Case], outcome: str) -> int:
    return sum(case.outcome == outcome for case in cases)


def _add(suite: Element, kind: str, case: Case) -> None:
    """Add one testcase, of the class `kind`."""
    element = SubElement(
        suite, "testcase", classname=kind, name=case.name, time=f"{case.seconds:.3f}"
    )
    text = UNFIT.sub("?", case.text)
    if case.outcome == "failed":
        SubElement(element, "failure", message=text, type="failed").text = text
    elif case.outcome == "skipped":
        SubElement(element, "skipped", message=text)
    else:
        SubElement(element, "system-out").text = text
