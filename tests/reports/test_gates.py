"""Gates in a report: judged as a plain loop judges them, on the page, as a table and as JUnit."""

import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from advrec.evaluation.rates import clustered
from advrec.reports import junit, results
from advrec.reports.tables import gates
from advrec.run import schema
from advrec.run.files import write_json, write_text
from advrec.run.tables import read_outcomes
from tests.reports.conftest import HEALTH
from tests.reports.test_report import Page, csv, page_of

COLUMNS = {"float": "adversarial_rank", "jpeg-90": "adversarial_rank_jpeg_90"}


def gated(run, entries):
    study = yaml.safe_load(run.study.read_text())
    write_text(run.study, yaml.safe_dump(study | {"fail_if": entries}, sort_keys=False))
    return run


@pytest.fixture
def every(make_run):
    """A run with a gate a model, attack, epsilon, rank and delivery, of 20 % each."""
    keys = ("model", "attack", "epsilon", "rank", "delivery")
    cells = itertools.product(
        ("unsecured", "cat"), ("fgsm", "pgd-8"), (0.01, 0.05), (1, 10), COLUMNS
    )
    entries = [dict(zip(keys, cell, strict=True), above=20) for cell in cells]
    return gated(make_run(delivery=("float", "jpeg-90"), checks=12), entries)


@pytest.mark.usefixtures("quick")
def test_gates_equal_a_naive_recomputation(every):
    page = Page(page_of(every)).text.replace("\u00a0", " ")
    rows = read_outcomes(every.attacks, schema.outcomes(["jpeg-90"])).to_pylist()
    made, judged = csv(every, "gates").to_dict("records"), gates.judge(results.read(every))
    assert len(made) == len(judged) == 32
    for row, each in zip(made, judged, strict=True):
        cell = [
            r for r in rows if all(r[key] == row[key] for key in ("model", "attack", "epsilon"))
        ]
        won = [r[COLUMNS[row["delivery"]]] <= row["rank"] for r in cell]
        _, low, high = clustered(won, [r["target_id"] for r in cell])
        assert row["verdict"] == each.verdict == ("failed" if 100 * low > 20 else "passed")
        assert (row["n"], row["successes"], row["above_percent"]) == (20, sum(won), 20)
        assert [row["low_percent"], row["high_percent"]] == pytest.approx([100 * low, 100 * high])
        assert each.seconds == pytest.approx(sum(r["seconds"] for r in cell), rel=1e-5)
        assert f"{each.verdict.capitalize()}: {each.name}: {each.reason}." in page
    assert {row["verdict"] for row in made} == {"passed", "failed"}


def test_junit_counts_what_it_holds(every, tmp_path):
    write_json(every.health("cat"), HEALTH | {"zero_gradients": 60})  # which a check forbids
    read = results.read(every)
    junit.write(read, tmp_path / "deep" / "junit.xml")
    root = ElementTree.parse(tmp_path / "deep" / "junit.xml").getroot()
    assert root.tag == "testsuites"
    cases = root.findall("testsuite/testcase")
    assert len(cases) == len(gates.judge(read)) + len(read.checks)
    assert len({(case.get("classname"), case.get("name")) for case in cases}) == len(cases)
    for level in (root, *root):
        inside = list(level.iter("testcase"))
        assert int(level.get("tests")) == len(inside)
        for key, tag in (("failures", "failure"), ("skipped", "skipped"), ("errors", "error")):
            if level is not root or key != "skipped":  # which that element does not have
                assert int(level.get(key)) == len(list(level.iter(tag)))
        seconds = sum(float(case.get("time")) for case in inside)
        assert float(level.get("time")) == pytest.approx(seconds, abs=1e-3 * len(inside))
    failed = {case.get("name") for case in cases if case.find("failure") is not None}
    wrong = {check.name for _, check in read.checks if check.verdict == "failed"}
    assert wrong
    assert failed == wrong | {
        f"{each.name}: at most 20 %" for each in gates.judge(read) if each.verdict == "failed"
    }


def test_junit_holds_any_text(every, tmp_path, monkeypatch):
    nasty = '<a & "b"> \x00\x1b ε \ud800'
    check = results.read(every).checks[0][1]._replace(verdict="failed", measured=nasty)
    monkeypatch.setattr(results.Results, "checks", [("cat", check)])
    junit.write(results.read(every), tmp_path / "junit.xml")
    (failure,) = ElementTree.parse(tmp_path / "junit.xml").findall("testsuite[2]/testcase/failure")
    assert '<a & "b"> ?? ε ?' in failure.get("message")


def test_successes_that_fail_a_gate_are_those_of_the_guide():
    """Where each tuple has its own target; tuples that share one and agree count as fewer."""
    text = (Path(__file__).parents[2] / "docs/guide/pipelines.md").read_text(encoding="utf-8")
    few, many = re.findall(r"of (\d+) tuples (?:(\d+) successes exceed 20 %|(\d+))", text)
    for tuples, *numbers in (few, many):
        n, needed = int(tuples), int("".join(numbers))
        fails = [_low(wins, n, targets=n) > 0.2 for wins in range(n + 1)]
        assert fails.index(True) == needed
        assert _low(needed, n, targets=n // 4) < 0.2


def _low(wins, n, targets):
    """The lower bound of wins by the first tuples, of consecutive targets."""
    return clustered([place < wins for place in range(n)], [k * targets // n for k in range(n)])[1]
